/* fields.c - the fields of instances of Python classes, read where they lie.
 *
 *   slots                [ header ][ a ][ b ]          tp_members of the class and its bases
 *   3.10                 [ header ][ dict* ]           tp_dictoffset
 *   3.11, 3.12  [ values* or dict* ]..[ header ]       before the object; names: the class's keys
 *   3.13 ...    [ dict* ]..[ header ][ valid | values ]  behind it, once it is valid
 *
 * vars(instance) would make the dict, and so write the instance; getattr would
 * count the value. A layout that layout.c has not found as expected is not
 * read: then such instances are refused.
 *
 * A copy is made without __new__ and __init__, as copy.copy does it. Where
 * instances point to their values or dict, its attributes stand in a dict of its
 * own, which does not count the class's keys. Inline values cannot be left out:
 * there they are filled through the dict that goes with them (3.13.0 loses the
 * attributes of an instance whose dict is replaced before there was one).
 */
#include "copy/copy.h"

#include "cpython/layout.h"

#include <structmember.h>

PyObject *
cf_copy_empty(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    return type->tp_alloc(type, 0);
}

int
cf_copy_own_dict(PyObject *copy)
{
    if (CF_HAS_INLINE_VALUES) {
        return 0;
    }
    PyObject *dict = PyDict_New();
    int status = dict != NULL ? PyObject_GenericSetDict(copy, dict, NULL) : -1;
    Py_XDECREF(dict);
    return status;
}

bool
cf_copy_readable(PyTypeObject *type)
{
    if (type->tp_dictoffset >= 0) {
        return true; /* no attributes, or a pointer in the instance */
    }
    return cf_layout.shared_keys && cf_layout.values_order;
}

PyObject **
cf_copy_slot(PyObject *op, Py_ssize_t i, const char **name)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++) {
            if (m->type == T_OBJECT_EX && i-- == 0) {
                *name = m->name;
                return (PyObject **)((char *)op + m->offset);
            }
        }
    }
    return NULL;
}

/* Where an instance has its attributes: in *DICT, or in *VALUES beside its class's
 * shared keys; both NULL: there are none. */
static void
find_attributes(PyObject *op, PyObject **dict, PyObject *const **values)
{
    PyTypeObject *type = Py_TYPE(op);
    *dict = NULL;
    *values = NULL;
    if (type->tp_dictoffset > 0) {
        *dict = *(PyObject **)((char *)op + type->tp_dictoffset);
    }
#if CF_HAS_SHARED_KEYS
    else if (type->tp_dictoffset < 0) {
        *values = cf_instance_values(op, dict);
    }
#endif
}

/* The values of an instance that has no dict, oldest first, and its class's names. */
static bool
next_value(PyObject *op, PyObject *const *values, Py_ssize_t *position, PyObject **name,
           PyObject **value)
{
#if CF_HAS_SHARED_KEYS
    const cf_dict_keys *keys =
        (const cf_dict_keys *)((PyHeapTypeObject *)Py_TYPE(op))->ht_cached_keys;
    if (keys == NULL || values == NULL) {
        return false;
    }
    PyObject *const *entries = (PyObject *const *)(keys->dk_indices
                                                   + ((size_t)1 << keys->dk_log2_index_bytes));
    Py_ssize_t i;
    while ((i = cf_value_index(values, *position)) >= 0) {
        ++*position;
        if (i < keys->dk_nentries && values[i] != NULL) {
            *name = entries[2 * i];
            *value = values[i];
            return true;
        }
    }
#else
    (void)op;
    (void)values;
    (void)position;
    (void)name;
    (void)value;
#endif
    return false;
}

bool
cf_copy_attribute(PyObject *op, Py_ssize_t *position, PyObject **name, PyObject **value)
{
    PyObject *dict = NULL;
    PyObject *const *values = NULL;
    find_attributes(op, &dict, &values);
    if (dict != NULL) {
        return PyDict_Next(dict, position, name, value);
    }
    return next_value(op, values, position, name, value);
}
