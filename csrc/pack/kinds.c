/* kinds.c - what kind of value a pack meets, and what of it may be a key.
 *
 *   exact built-in types        as clone sees them (copy/kinds.c), and beyond that
 *   datetime.timezone(...)      a value; timezone.utc and other zones are identities
 *   numpy.ndarray, exactly      data, in memory that nobody writes
 *   bytearray, object()         nothing but their contents, nothing but their identity: refused
 *
 * The type is asked, and a layout that datetime.h does not declare is compared with a probe;
 * nothing runs Python code.
 */
#include "pack/kinds.h"

#include "objects/packed_types.h"

#include <datetime.h>
#include <string.h>

int
cf_pack_kinds_init(void)
{
    PyDateTime_IMPORT;
    return PyDateTimeAPI == NULL ? -1 : 0;
}

/* -- arrays and sets ----------------------------------------------------- */

bool
cf_pack_is_array(PyObject *op)
{
    /* A `class` statement may give any name, but makes no type like this. */
    return strcmp(Py_TYPE(op)->tp_name, "numpy.ndarray") == 0
           && !PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_HEAPTYPE);
}

bool
cf_pack_is_frozenset(PyObject *op)
{
    return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type;
}

/* -- dates and times ----------------------------------------------------- */

bool
cf_pack_is_timezone(PyObject *op)
{
    PyObject *utc = PyDateTime_TimeZone_UTC;
    if (Py_TYPE(op) != Py_TYPE(utc) || op == utc) {
        return false;
    }
    static int known = -1;
    if (known < 0) {
        PyObject *delta = PyDelta_FromDSU(0, 5 * 3600 + 17 * 60, 0);
        PyObject *name = PyUnicode_FromString("cowfreeze probe");
        PyObject *zone = delta != NULL && name != NULL
                             ? PyTimeZone_FromOffsetAndName(delta, name) : NULL;
        known = zone != NULL && Py_TYPE(zone)->tp_basicsize == sizeof(cf_timezone_image)
                && ((cf_timezone_image *)zone)->offset == delta
                && ((cf_timezone_image *)zone)->name == name;
        Py_XDECREF(zone);
        Py_XDECREF(name);
        Py_XDECREF(delta);
        PyErr_Clear();
    }
    return known;
}

PyObject **
cf_pack_zone_of(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == PyDateTimeAPI->DateTimeType) {
        PyDateTime_DateTime *moment = (PyDateTime_DateTime *)op;
        return moment->hastzinfo ? &moment->tzinfo : NULL;
    }
    if (type == PyDateTimeAPI->TimeType) {
        PyDateTime_Time *time = (PyDateTime_Time *)op;
        return time->hastzinfo ? &time->tzinfo : NULL;
    }
    return NULL;
}

size_t
cf_pack_datetime_size(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (cf_pack_zone_of(op) != NULL || type == PyDateTimeAPI->DeltaType) {
        return (size_t)type->tp_basicsize;
    }
    return type == PyDateTimeAPI->DateTimeType ? sizeof(_PyDateTime_BaseDateTime)
           : type == PyDateTimeAPI->TimeType   ? sizeof(_PyDateTime_BaseTime)
                                               : sizeof(PyDateTime_Date);
}

/* -- all kinds ----------------------------------------------------------- */

cf_copy_kind
cf_pack_kind_of(PyObject *op)
{
    cf_copy_kind kind = cf_copy_kind_of(op);
    switch (kind) {
    case CF_COPY_BYTEARRAY:
        return CF_COPY_REFUSED; /* nothing but its contents, which anybody may change */
    case CF_COPY_REFERENCE:
        return cf_pack_is_timezone(op) ? CF_COPY_TIMEZONE : kind;
    case CF_COPY_REFUSED:
        return cf_pack_is_array(op) ? CF_COPY_ARRAY : kind;
    case CF_COPY_INSTANCE: /* an object() is nothing but its identity */
        return Py_TYPE(op) == &PyBaseObject_Type ? CF_COPY_REFUSED : kind;
    case CF_COPY_TUPLE:
        return Py_TYPE(op)->tp_basicsize == PyTuple_Type.tp_basicsize
                       && cf_type_prefix(Py_TYPE(op)) == 0
                   ? kind
                   : CF_COPY_REFUSED;
    default:
        return kind;
    }
}

/* Classes of the standard library whose hash is that of their value. */
static bool
is_value_class(PyTypeObject *type)
{
    const char *home = strcmp(type->tp_name, "UUID") == 0       ? "uuid"
                       : strcmp(type->tp_name, "Fraction") == 0 ? "fractions"
                                                                : NULL;
    PyObject *dict = home != NULL ? cf_type_dict(type) : NULL;
    PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
    return module != NULL && PyUnicode_Check(module)
           && PyUnicode_CompareWithASCIIString(module, home) == 0;
}

bool
cf_pack_keeps_hash(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_TUPLE:
        return Py_TYPE(op)->tp_hash == PyTuple_Type.tp_hash;
    case CF_COPY_SET:
        return cf_pack_is_frozenset(op);
    case CF_COPY_INSTANCE:
        return is_value_class(Py_TYPE(op));
    case CF_COPY_ARRAY:
        return false;
    default:
        return kind <= CF_COPY_LEAF;
    }
}
