/* leaf.c - copies of values that refer to nothing else.
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
#include "clone/clone.h"

#include <datetime.h>
#include <structmember.h>

int
cf_clone_init(void)
{
    PyDateTime_IMPORT;
    return PyDateTimeAPI != NULL ? 0 : -1;
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
cf_clone_leaf(PyObject *op, cf_copy_kind kind)
{
    if (cf_header_untouched(op) && kind != CF_COPY_BYTEARRAY) {
        Py_INCREF(op); /* writes nothing */
        return op;
    }
    switch (kind) {
    case CF_COPY_SINGLETON:
    case CF_COPY_REFERENCE:
        Py_INCREF(op);
        return op;
    case CF_COPY_INT:
        return clone_int(op);
    case CF_COPY_FLOAT:
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(op));
    case CF_COPY_COMPLEX:
        return PyComplex_FromCComplex(((PyComplexObject *)op)->cval);
    case CF_COPY_STR:
        return cf_copy_str(op);
    case CF_COPY_BYTES:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(op), PyBytes_GET_SIZE(op));
    case CF_COPY_BYTEARRAY:
        return PyByteArray_FromStringAndSize(PyByteArray_AS_STRING(op),
                                             PyByteArray_GET_SIZE(op));
    case CF_COPY_RANGE:
        return clone_range(op);
    case CF_COPY_DATETIME:
        return clone_datetime(op);
    case CF_COPY_DECIMAL:
        return clone_decimal(op);
    default:
        PyErr_BadInternalCall();
        return NULL;
    }
}
