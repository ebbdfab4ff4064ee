/* shared_keys.c - counters in the key tables that instances of a class share.
 *
 *   class -> ht_cached_keys  [ dk_refcnt | sizes | dk_usable | dk_nentries | "name", "price" ... ]
 *                               |                    `- less by 1 with every new instance, down to 1
 *                               `- 1 more when an instance's __dict__ is asked for, 1 less when it dies
 *
 * Both are written by a worker that only makes objects of a frozen class, in a
 * table that is frozen with it. So
 *
 *   dk_usable  becomes what about thirty instances would have made of it: 1. One more attribute
 *              still fits; an instance with more of them gets a dict of its own. Only of a class
 *              whose instances have shown their attributes: else sharing would end for it.
 *   dk_refcnt  becomes immortal, as the interpreter's own tables are: the class never dies.
 *
 * Both are values that the interpreter itself stores there; that it then leaves them alone is
 * tried out at import.
 */
#include "freeze/shared_keys.h"

#include "cpython/layout.h"

#if CF_HAS_IMMORTAL

/* A count of a shared table that nobody changes any more: dictkeys_incref tests
 * for exactly this (3.12, 3.13), or for a negative one (3.14 and later, where
 * debug builds want this one). shared_keys.c tries it out before it is used. */
#if CF_HAS_STACKREFS
#  define CF_KEYS_IMMORTAL PY_SSIZE_T_MIN
#else
#  define CF_KEYS_IMMORTAL ((Py_ssize_t)UINT32_MAX)
#endif

static bool known; /* tried once, under the GIL */

static cf_dict_keys *
keys_of(PyObject *type)
{
    return (cf_dict_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
}

/* A new instance of TYPE with one attribute, or NULL. */
static PyObject *
make_instance(PyObject *type)
{
    PyObject *instance = PyObject_CallNoArgs(type);
    if (instance != NULL && PyObject_SetAttrString(instance, "cowfreeze_probe", Py_None) < 0) {
        Py_CLEAR(instance);
    }
    return instance;
}

/* Ask INSTANCE for its __dict__. Returns by how much the count of KEYS went up
 * for that, or a negative number with an exception. */
static Py_ssize_t
count_of_a_dict(PyObject *instance, cf_dict_keys *keys)
{
    Py_ssize_t before = keys->dk_refcnt;
    PyObject *dict = PyObject_GetAttrString(instance, "__dict__");
    if (dict == NULL) {
        return -1;
    }
    Py_DECREF(dict); /* the instance keeps it */
    return keys->dk_refcnt - before;
}

int
cf_keys_init(void)
{
    int ret = -1;
    PyObject *first = NULL, *second = NULL;
    PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "CowfreezeProbe");
    if (type == NULL || !cf_layout.shared_keys) {
        ret = type == NULL ? -1 : 0;
        goto done;
    }
    first = make_instance(type);
    cf_dict_keys *keys = keys_of(type);
    if (first == NULL || keys == NULL) {
        ret = first == NULL ? -1 : 0;
        goto done;
    }
    Py_ssize_t usable = keys->dk_usable;
    second = make_instance(type);
    if (second == NULL) {
        goto done;
    }
    bool counts_down = keys->dk_nentries == 1 && usable > 2 && keys->dk_usable == usable - 1;
    Py_ssize_t more = count_of_a_dict(first, keys);
    Py_ssize_t count = keys->dk_refcnt;
    keys->dk_refcnt = CF_KEYS_IMMORTAL;
    Py_ssize_t more_than_immortal = count_of_a_dict(second, keys);
    Py_CLEAR(second); /* and its dict, which gives its reference back */
    bool stays = keys->dk_refcnt == CF_KEYS_IMMORTAL;
    keys->dk_refcnt = count;
    if (more < 0 || PyErr_Occurred()) {
        goto done;
    }
    known = counts_down && more == 1 && more_than_immortal == 0 && stays;
    ret = 0;

done:
    Py_XDECREF(second);
    Py_XDECREF(first);
    Py_XDECREF(type);
    return ret;
}

bool
cf_keys_known(void)
{
    return known;
}

size_t
cf_keys_stop(const cf_stack *types)
{
    size_t stopped = 0;
    for (size_t i = 0; known && i < types->used; i++) {
        PyObject *type = (PyObject *)types->words[i];
        if (!PyType_HasFeature((PyTypeObject *)type, Py_TPFLAGS_HEAPTYPE)
            || !cf_header_untouched(type)) {
            continue;
        }
        cf_dict_keys *keys = keys_of(type);
        if (keys == NULL || keys->dk_kind == 0 || keys->dk_nentries == 0
            || (keys->dk_usable <= 1 && keys->dk_refcnt == CF_KEYS_IMMORTAL)) {
            continue;
        }
        if (keys->dk_usable > 1) {
            keys->dk_usable = 1;
        }
        keys->dk_refcnt = CF_KEYS_IMMORTAL;
        stopped++;
    }
    return stopped;
}

#else

int
cf_keys_init(void)
{
    return 0;
}

bool
cf_keys_known(void)
{
    return false;
}

size_t
cf_keys_stop(const cf_stack *types)
{
    (void)types;
    return 0;
}
#endif
