/* clone_leaf.c - copies of values that refer to nothing else.
 *
 *   str        [ header | length | hash | state ][ characters ]   -> PyUnicode_New, memcpy, hash
 *   int        value, or for more than 64 bits  ~(~value)
 *   float ...  value
 *   date ...   the fields of datetime.h
 *   Decimal    its text
 *
 * A source may only be looked at: nearly every function of the C API that
 * takes an object counts it for a moment, and one count up and down copies the
 * page. What is called here with a source object reads it through a type slot
 * (tp_str, PyNumber_Invert), which counts nothing.
 *
 * Shared instead of copied: values that no reader counts (immortal ones, from
 * 3.12 on), and what the interpreter has one of: None, the small ints. Classes,
 * enum members and time zones are identities: they are counted, a page each at
 * most, and a new instance counts its class in any case.
 */
#include "clone.h"

#include "packtypes.h"

#include <datetime.h>
#include <string.h>
#include <structmember.h>

static PyTypeObject *enum_type;
static destructor python_class_dealloc; /* what every class made by `class` has */

int
cf_clone_init(PyObject *Enum)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL) {
        return -1;
    }
    if (!PyType_Check(Enum)) {
        PyErr_SetString(PyExc_TypeError, "cf_clone_init takes enum.Enum");
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

static cf_clone_kind
kind_of_other(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_Check(op) || PyType_IsSubtype(type, enum_type)
        || PyType_IsSubtype(type, PyDateTimeAPI->TZInfoType)) {
        return CF_CLONE_REFERENCE;
    }
    if (type == PyDateTimeAPI->DateTimeType || type == PyDateTimeAPI->DateType
        || type == PyDateTimeAPI->TimeType || type == PyDateTimeAPI->DeltaType) {
        return CF_CLONE_DATETIME;
    }
    if (type->tp_finalize != NULL || type->tp_del != NULL) {
        return CF_CLONE_REFUSED; /* the copy would run it once more */
    }
    if (PyTuple_Check(op)) {
        return type->tp_dictoffset == 0 && is_python_class(type, &PyTuple_Type)
                   ? CF_CLONE_TUPLE
                   : CF_CLONE_REFUSED;
    }
    if (is_python_class(type, &PyBaseObject_Type) && type->tp_itemsize == 0
        && cf_clone_readable(type)) {
        return CF_CLONE_INSTANCE;
    }
    if (strcmp(type->tp_name, "decimal.Decimal") == 0
        && type->tp_dealloc != python_class_dealloc) {
        return CF_CLONE_DECIMAL;
    }
    return CF_CLONE_REFUSED;
}

cf_clone_kind
cf_clone_kind_of(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PyUnicode_Type) {
        return CF_CLONE_STR;
    }
    if (type == &PyLong_Type) {
        return CF_CLONE_INT;
    }
    if (type == &PyDict_Type || type == &cf_packed_dict_type) {
        return CF_CLONE_DICT;
    }
    if (type == &PyList_Type || type == &cf_packed_list_type) {
        return CF_CLONE_LIST;
    }
    if (type == &PyTuple_Type) {
        return CF_CLONE_TUPLE;
    }
    if (type == &PyFloat_Type) {
        return CF_CLONE_FLOAT;
    }
    if (op == Py_None || type == &PyBool_Type || op == Py_Ellipsis || op == Py_NotImplemented) {
        return CF_CLONE_SINGLETON;
    }
    if (type == &PyBytes_Type) {
        return CF_CLONE_BYTES;
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type || type == &cf_packed_set_type
        || type == &cf_packed_frozenset_type) {
        return CF_CLONE_SET;
    }
    if (type == &PyComplex_Type) {
        return CF_CLONE_COMPLEX;
    }
    if (type == &PyByteArray_Type) {
        return CF_CLONE_BYTEARRAY;
    }
    if (type == &PyRange_Type) {
        return CF_CLONE_RANGE;
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
cf_clone_hashes(PyObject *op, cf_clone_kind kind)
{
    switch (kind) {
    case CF_CLONE_TUPLE:
        return hashes_like(op, &PyTuple_Type);
    case CF_CLONE_SET:
        return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type;
    case CF_CLONE_REFERENCE:
        return hashes_like(op, &PyType_Type) || hashes_like(op, &PyLong_Type)
               || hashes_like(op, &PyUnicode_Type);
    case CF_CLONE_DATETIME:
        /* Of an aware one, the time zone is asked, which may be Python code. */
        return Py_TYPE(op) == PyDateTimeAPI->DateType || Py_TYPE(op) == PyDateTimeAPI->DeltaType
               || !((PyDateTime_Time *)op)->hastzinfo;
    case CF_CLONE_BYTEARRAY:
    case CF_CLONE_INSTANCE:
        return false;
    default:
        return kind != CF_CLONE_REFUSED && kind <= CF_CLONE_LEAF;
    }
}

/* -- copies -------------------------------------------------------------- */

PyObject *
cf_clone_str(PyObject *op)
{
#if CF_HAS_LEGACY_STR
    if (!PyUnicode_IS_READY(op)) {
        const PyASCIIObject *old = (const PyASCIIObject *)op;
        return PyUnicode_FromWideChar(old->wstr, ((const PyCompactUnicodeObject *)op)->wstr_length);
    }
#endif
    static const Py_UCS4 largest[] = {0, 0xFF, 0xFFFF, 0, 0x10FFFF};
    size_t kind = (size_t)PyUnicode_KIND(op);
    Py_ssize_t length = PyUnicode_GET_LENGTH(op);
    PyObject *copy =
        PyUnicode_New(length, PyUnicode_IS_ASCII(op) ? 0x7F : largest[kind]);
    if (copy != NULL && length > 0) {
        memcpy(PyUnicode_DATA(copy), PyUnicode_DATA(op), (size_t)length * kind);
        ((PyASCIIObject *)copy)->hash = ((PyASCIIObject *)op)->hash;
    }
    return copy;
}

static PyObject *
clone_int(PyObject *op)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(op, &overflow);
    if (!overflow) {
        return PyLong_FromLongLong(value);
    }
    PyObject *inverse = PyNumber_Invert(op);
    PyObject *copy = inverse != NULL ? PyNumber_Invert(inverse) : NULL;
    Py_XDECREF(inverse);
    return copy;
}

/* A range's three ints stand where its members say. */
static PyObject *
clone_range(PyObject *op)
{
    static const char *const names[3] = {"start", "stop", "step"};
    PyObject *parts[3] = {NULL, NULL, NULL};
    PyObject *copy = NULL;
    for (int k = 0; k < 3; k++) {
        for (PyMemberDef *m = PyRange_Type.tp_members; m != NULL && m->name != NULL; m++) {
            PyObject *part = *(PyObject **)((char *)op + m->offset);
            if (strcmp(m->name, names[k]) != 0) {
                continue;
            }
            if (!PyLong_Check(part)) {
                goto done;
            }
            parts[k] = clone_int(part);
        }
        if (parts[k] == NULL) {
            goto done;
        }
    }
    copy = PyObject_CallFunctionObjArgs((PyObject *)&PyRange_Type, parts[0], parts[1], parts[2],
                                        NULL);
done:
    for (int k = 0; k < 3; k++) {
        Py_XDECREF(parts[k]);
    }
    if (copy == NULL && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_SystemError, "cowfreeze: a range without int members");
    }
    return copy;
}

static PyObject *
clone_datetime(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == PyDateTimeAPI->DeltaType) {
        return PyDateTimeAPI->Delta_FromDelta(PyDateTime_DELTA_GET_DAYS(op),
                                              PyDateTime_DELTA_GET_SECONDS(op),
                                              PyDateTime_DELTA_GET_MICROSECONDS(op), 0, type);
    }
    if (type == PyDateTimeAPI->DateType) {
        return PyDateTimeAPI->Date_FromDate(PyDateTime_GET_YEAR(op), PyDateTime_GET_MONTH(op),
                                            PyDateTime_GET_DAY(op), type);
    }
    if (type == PyDateTimeAPI->TimeType) {
        PyDateTime_Time *time = (PyDateTime_Time *)op;
        return PyDateTimeAPI->Time_FromTimeAndFold(
            PyDateTime_TIME_GET_HOUR(op), PyDateTime_TIME_GET_MINUTE(op),
            PyDateTime_TIME_GET_SECOND(op), PyDateTime_TIME_GET_MICROSECOND(op),
            time->hastzinfo ? time->tzinfo : Py_None, time->fold, type);
    }
    PyDateTime_DateTime *moment = (PyDateTime_DateTime *)op;
    return PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(
        PyDateTime_GET_YEAR(op), PyDateTime_GET_MONTH(op), PyDateTime_GET_DAY(op),
        PyDateTime_DATE_GET_HOUR(op), PyDateTime_DATE_GET_MINUTE(op),
        PyDateTime_DATE_GET_SECOND(op), PyDateTime_DATE_GET_MICROSECOND(op),
        moment->hastzinfo ? moment->tzinfo : Py_None, moment->fold, type);
}

static PyObject *
clone_decimal(PyObject *op)
{
    /* Not PyObject_Str, which lets Python's signal handlers run (C2). */
    PyObject *text = Py_TYPE(op)->tp_str(op);
    PyObject *copy = text != NULL ? PyObject_CallOneArg((PyObject *)Py_TYPE(op), text) : NULL;
    Py_XDECREF(text);
    return copy;
}

PyObject *
cf_clone_leaf(PyObject *op, cf_clone_kind kind)
{
    if (cf_header_untouched(op) && kind != CF_CLONE_BYTEARRAY) {
        Py_INCREF(op); /* writes nothing */
        return op;
    }
    switch (kind) {
    case CF_CLONE_SINGLETON:
    case CF_CLONE_REFERENCE:
        Py_INCREF(op);
        return op;
    case CF_CLONE_INT:
        return clone_int(op);
    case CF_CLONE_FLOAT:
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(op));
    case CF_CLONE_COMPLEX:
        return PyComplex_FromCComplex(((PyComplexObject *)op)->cval);
    case CF_CLONE_STR:
        return cf_clone_str(op);
    case CF_CLONE_BYTES:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(op), PyBytes_GET_SIZE(op));
    case CF_CLONE_BYTEARRAY:
        return PyByteArray_FromStringAndSize(PyByteArray_AS_STRING(op),
                                             PyByteArray_GET_SIZE(op));
    case CF_CLONE_RANGE:
        return clone_range(op);
    case CF_CLONE_DATETIME:
        return clone_datetime(op);
    case CF_CLONE_DECIMAL:
        return clone_decimal(op);
    default:
        PyErr_BadInternalCall();
        return NULL;
    }
}
