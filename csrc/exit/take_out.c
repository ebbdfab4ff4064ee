/* take_out.c - mortal objects that frozen ones hold, taken out of them at the end of a process.
 *
 *   [frozen dict] ----> { "db": ---X--> [connection] }     its death closes the database
 *   [frozen deque] ---> [ ---X--> ... ]
 *
 * Some objects end by their death alone, not by a finalizer: a database, a C library's file. Without a
 * freeze their holders die. A frozen holder does not, so they are taken out of it, one by one, in the
 * last finalizer of all.
 *
 *   data       dict, list, set, deque, and those derived from them; attributes and slots of instances:
 *              all that is mortal, which is safe at any time. But not code, nor locks, which later code
 *              needs, nor a module, which CPython empties itself
 *   code       cells, and attributes of functions and classes; caches of functools: handles alone, because
 *              the rest may still be called
 *
 * Started at the end of Py_FinalizeEx, when other finalizers have run.
 */
#include "exit/take_out.h"

#include "objects/type_info.h"

#include <string.h>
#include <structmember.h>

typedef bool (*choice)(const cf_estate *estate, PyObject *op);

bool
cf_is_to_die(PyObject *op)
{
    if (cf_header_done(op)) {
        return false;
    }
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_IS_GC(type)) {
        return PyObject_GC_IsTracked(op);
    }
    return type != &PyUnicode_Type && type != &PyLong_Type && type != &PyBytes_Type && type != &PyFloat_Type
           && type != &PyBool_Type && op != Py_None && op != Py_NotImplemented && op != Py_Ellipsis;
}

/* Where OP stands among N words that are SORTED; N: nowhere. */
static size_t
place_among(PyObject *const *sorted, size_t n, const PyObject *op)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)sorted[middle] < (uintptr_t)op) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low < n && sorted[low] == op ? low : n;
}

/* Why a freeze would leave OP as it is, by its type; CF_TAKE: it would not. */
static cf_decision
decision_of(PyObject *op)
{
    static const cf_own_code none_known; /* what ends instances of C types is asked of a freeze only */
    cf_typeinfo info;
    cf_policy_classify(&info, Py_TYPE(op), NULL, &none_known);
    return (cf_decision)info.decision;
}

static bool
is_spared(const cf_estate *estate, PyObject *op)
{
    return place_among(estate->spared, estate->n_spared, op) < estate->n_spared;
}

/* For holders that may still be called, or whose values are cached elsewhere. */
static bool
is_handle(const cf_estate *estate, PyObject *op)
{
    return op != NULL && cf_is_to_die(op) && decision_of(op) == CF_SKIP_HANDLE && !is_spared(estate, op);
}

/* For holders that are data. */
static bool
is_taken_out(const cf_estate *estate, PyObject *op)
{
    if (op == NULL || !cf_is_to_die(op) || PyModule_Check(op) || is_spared(estate, op)) {
        return false;
    }
    cf_decision decision = decision_of(op);
    if (PyCallable_Check(op)) {
        return decision == CF_SKIP_HANDLE; /* a connection of sqlite3 can be called, but is no code */
    }
    return decision != CF_SKIP_LOCK && decision != CF_SKIP_THREAD && decision != CF_SKIP_CONTEXT
           && strcmp(Py_TYPE(op)->tp_name, "functools._lru_list_elem") != 0; /* in two lists at once */
}

/* The type NAME among TYPE and its bases, or NULL. */
static PyTypeObject *
base_named(PyTypeObject *type, const char *name)
{
    while (type != NULL && strcmp(type->tp_name, name) != 0) {
        type = type->tp_base;
    }
    return type;
}

/* -- holders ------------------------------------------------------------- */

/* Not by methods: a derived class may have its own. */
static void
take_from_dict(const cf_estate *estate, PyObject *dict, choice chosen)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (chosen(estate, value)) {
            Py_INCREF(key);
            (void)(PyODict_Check(dict) ? PyODict_DelItem(dict, key) : PyDict_DelItem(dict, key));
            PyErr_Clear(); /* a finalizer, or the key's own comparison */
            Py_DECREF(key);
        }
    }
}

static void
take_from_list(const cf_estate *estate, PyObject *list)
{
    for (Py_ssize_t i = PyList_GET_SIZE(list); i-- > 0;) {
        if (i < PyList_GET_SIZE(list) && is_taken_out(estate, PyList_GET_ITEM(list, i))) {
            (void)PyList_SetSlice(list, i, i + 1, NULL);
            PyErr_Clear();
        }
    }
}

static void
take_from_deque(const cf_estate *estate, PyObject *deque, const PySequenceMethods *methods)
{
    for (Py_ssize_t i = methods->sq_length(deque); i-- > 0;) {
        PyObject *item = methods->sq_item(deque, i); /* NULL: it has become shorter */
        if (item != NULL && is_taken_out(estate, item)) {
            (void)methods->sq_ass_item(deque, i, NULL);
        }
        Py_XDECREF(item);
        PyErr_Clear();
    }
}

static void
take_from_set(const cf_estate *estate, PyObject *set)
{
    PyObject *doomed = PyList_New(0), *item;
    PyObject *items = doomed != NULL ? PySet_Type.tp_iter(set) : NULL;
    while (items != NULL && (item = PyIter_Next(items)) != NULL) {
        if (is_taken_out(estate, item)) {
            (void)PyList_Append(doomed, item);
        }
        Py_DECREF(item);
    }
    PyErr_Clear();
    Py_XDECREF(items);
    for (Py_ssize_t i = 0; doomed != NULL && i < PyList_GET_SIZE(doomed); i++) {
        (void)PySet_Discard(set, PyList_GET_ITEM(doomed, i));
        PyErr_Clear();
    }
    Py_XDECREF(doomed);
}

/* Members that `del` could delete: those of __slots__. */
static void
take_from_slots(const cf_estate *estate, PyObject *op, choice chosen)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || type->tp_members == NULL) {
            continue;
        }
        for (const PyMemberDef *member = type->tp_members; member->name != NULL; member++) {
            PyObject **slot = (PyObject **)((char *)op + member->offset);
            if (member->type == T_OBJECT_EX && member->flags == 0 && chosen(estate, *slot)) {
                Py_CLEAR(*slot);
            }
        }
    }
}

static void
take_from_instance(const cf_estate *estate, PyObject *op)
{
    choice chosen = PyCallable_Check(op) ? is_handle : is_taken_out;
    take_from_slots(estate, op, chosen);
    if (Py_TYPE(op)->tp_dictoffset != 0) {
        PyObject *dict = PyObject_GenericGetDict(op, NULL); /* attributes that lie in the instance */
        if (dict != NULL && PyDict_CheckExact(dict)) {
            take_from_dict(estate, dict, chosen);
        }
        Py_XDECREF(dict);
    }
}

/* Through the class, because caches of attributes refer to the values. */
static void
take_from_class(const cf_estate *estate, PyTypeObject *type)
{
    PyObject *key, *value, *dict = cf_type_dict(type);
    Py_ssize_t position = 0;
    while (dict != NULL && PyDict_Next(dict, &position, &key, &value)) {
        if (is_handle(estate, value)) {
            Py_INCREF(key);
            (void)PyType_Type.tp_setattro((PyObject *)type, key, NULL);
            PyErr_Clear();
            Py_DECREF(key);
        }
    }
}

void
cf_take_out(const cf_estate *estate, PyObject *holder)
{
    PyTypeObject *type = Py_TYPE(holder), *deque = base_named(type, "collections.deque");
    if (PyType_Check(holder)) {
        take_from_class(estate, (PyTypeObject *)holder);
    }
    else if (PyDict_Check(holder)) {
        if (place_among(estate->class_dicts, estate->n_class_dicts, holder) == estate->n_class_dicts) {
            take_from_dict(estate, holder, is_taken_out);
        }
    }
    else if (PyList_Check(holder)) {
        take_from_list(estate, holder);
    }
    else if (PySet_Check(holder)) {
        take_from_set(estate, holder);
    }
    else if (deque != NULL) {
        take_from_deque(estate, holder, deque->tp_as_sequence);
    }
    else if (PyCell_Check(holder)) {
        if (is_handle(estate, PyCell_GET(holder))) {
            (void)PyCell_Set(holder, NULL);
        }
    }
    else if (PyFunction_Check(holder)) {
        PyObject *dict = ((PyFunctionObject *)holder)->func_dict;
        if (dict != NULL && PyDict_CheckExact(dict)) {
            take_from_dict(estate, dict, is_handle);
        }
    }
    else if (base_named(type, "functools._lru_cache_wrapper") != NULL) {
        Py_XDECREF(PyObject_CallMethod(holder, "cache_clear", NULL));
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) && !PyType_Check(holder)) {
        take_from_instance(estate, holder);
    }
    PyErr_Clear();
}
