/* kinds.c - what kind of value an object is, by its type alone.
 *
 *   exact built-in types       leaf or container, one comparison each
 *   classes, enums, time zones identities: the same object serves both
 *   made by `class`            an instance: fields.c finds all that it has
 *   everything else            refused: C code may keep state that nobody sees
 *
 * Nothing is called here that could run Python code or count a reference.
 */
#include "copy/copy.h"

#include "objects/packed_types.h"

#include <datetime.h>
#include <string.h>

static PyTypeObject *enum_type;
static destructor python_class_dealloc; /* what every class made by `class` has */

int
cf_copy_init(PyObject *Enum)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL) {
        return -1;
    }
    if (!PyType_Check(Enum)) {
        PyErr_SetString(PyExc_TypeError, "cf_copy_init takes enum.Enum");
        return -1;
    }
    Py_INCREF(Enum);
    enum_type = (PyTypeObject *)Enum;
    python_class_dealloc = enum_type->tp_dealloc;
    return 0;
}

/* -- kinds --------------------------------------------------------------- */

/* Was every class from TYPE up to BASE, without BASE, made in Python? */
static bool
is_python_class(PyTypeObject *type, PyTypeObject *base)
{
    for (; type != base; type = type->tp_base) {
        if (type == NULL || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
            || type->tp_dealloc != python_class_dealloc) {
            return false;
        }
    }
    return true;
}

static cf_copy_kind
kind_of_other(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_Check(op) || PyType_IsSubtype(type, enum_type)
        || PyType_IsSubtype(type, PyDateTimeAPI->TZInfoType)) {
        return CF_COPY_REFERENCE;
    }
    if (type == PyDateTimeAPI->DateTimeType || type == PyDateTimeAPI->DateType
        || type == PyDateTimeAPI->TimeType || type == PyDateTimeAPI->DeltaType) {
        return CF_COPY_DATETIME;
    }
    if (type->tp_finalize != NULL || type->tp_del != NULL) {
        return CF_COPY_REFUSED; /* the copy would run it once more */
    }
    if (PyTuple_Check(op)) {
        return type->tp_dictoffset == 0 && is_python_class(type, &PyTuple_Type)
                   ? CF_COPY_TUPLE
                   : CF_COPY_REFUSED;
    }
    if (is_python_class(type, &PyBaseObject_Type) && type->tp_itemsize == 0
        && cf_copy_readable(type)) {
        return CF_COPY_INSTANCE;
    }
    if (strcmp(type->tp_name, "decimal.Decimal") == 0
        && type->tp_dealloc != python_class_dealloc) {
        return CF_COPY_DECIMAL;
    }
    return CF_COPY_REFUSED;
}

cf_copy_kind
cf_copy_kind_of(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PyUnicode_Type) {
        return CF_COPY_STR;
    }
    if (type == &PyLong_Type) {
        return CF_COPY_INT;
    }
    if (type == &PyDict_Type || type == &cf_packed_dict_type) {
        return CF_COPY_DICT;
    }
    if (type == &PyList_Type || type == &cf_packed_list_type) {
        return CF_COPY_LIST;
    }
    if (type == &PyTuple_Type) {
        return CF_COPY_TUPLE;
    }
    if (type == &PyFloat_Type) {
        return CF_COPY_FLOAT;
    }
    if (op == Py_None || type == &PyBool_Type || op == Py_Ellipsis || op == Py_NotImplemented) {
        return CF_COPY_SINGLETON;
    }
    if (type == &PyBytes_Type) {
        return CF_COPY_BYTES;
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type || type == &cf_packed_set_type
        || type == &cf_packed_frozenset_type) {
        return CF_COPY_SET;
    }
    if (type == &PyComplex_Type) {
        return CF_COPY_COMPLEX;
    }
    if (type == &PyByteArray_Type) {
        return CF_COPY_BYTEARRAY;
    }
    if (type == &PyRange_Type) {
        return CF_COPY_RANGE;
    }
    return kind_of_other(op);
}

/* Are hash and comparison of OP those of the built-in TYPE? (An IntEnum's are.) */
static bool
hashes_like(PyObject *op, PyTypeObject *type)
{
    return Py_TYPE(op)->tp_hash == type->tp_hash
           && Py_TYPE(op)->tp_richcompare == type->tp_richcompare;
}

bool
cf_copy_hashes(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_TUPLE:
        return hashes_like(op, &PyTuple_Type);
    case CF_COPY_SET:
        return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type;
    case CF_COPY_REFERENCE:
        return hashes_like(op, &PyType_Type) || hashes_like(op, &PyLong_Type)
               || hashes_like(op, &PyUnicode_Type);
    case CF_COPY_DATETIME:
        /* Of an aware one, the time zone is asked, which may be Python code. */
        return Py_TYPE(op) == PyDateTimeAPI->DateType || Py_TYPE(op) == PyDateTimeAPI->DeltaType
               || !((PyDateTime_Time *)op)->hastzinfo;
    case CF_COPY_BYTEARRAY:
    case CF_COPY_INSTANCE:
        return false;
    default:
        return kind != CF_COPY_REFUSED && kind <= CF_COPY_LEAF;
    }
}
