/* warm.c - fill now what a reader would otherwise write later.
 *
 *   str, bytes, frozenset    hash        all versions
 *   tuple                    ob_hash     3.14 and later
 *   date, time, timedelta,
 *   datetime, Decimal        hash        all versions
 *   type                     version tag (and those of its bases)
 *
 * The one danger is user code: hashing a tuple hashes what is in it. So a hash
 * is computed only where every hash function involved is one of the
 * interpreter's own; the rest is left and counted. An object that cannot be
 * hashed (a tuple with a list in it) is warm: a reader cannot fill it either.
 */
#include "freeze/warm.h"

#include "cpython/layout.h"

/* How deep tuples in tuples are looked into: hashing recurses in C. Tuples
 * that were built before the ones that hold them are warm already when those
 * come, so that depth seldom counts. */
#define MAX_TUPLE_DEPTH 16

typedef enum { HASH_SAFE, HASH_IMPOSSIBLE, HASH_UNKNOWN, HASH_TOO_DEEP } hashability;

static hashability
hashability_of(PyObject *op, int depth)
{
    PyTypeObject *type = Py_TYPE(op);
    hashfunc hash = type->tp_hash;
    if (type == &PyUnicode_Type || type == &PyLong_Type) {
        return HASH_SAFE;
    }
    if (hash == PyUnicode_Type.tp_hash || hash == PyLong_Type.tp_hash
        || hash == PyFloat_Type.tp_hash || hash == PyBytes_Type.tp_hash
        || hash == PyComplex_Type.tp_hash || hash == PyBaseObject_Type.tp_hash
        || hash == PyFrozenSet_Type.tp_hash || hash == PyType_Type.tp_hash
        || hash == Py_TYPE(Py_None)->tp_hash || hash == PyCFunction_Type.tp_hash
        || hash == PyCode_Type.tp_hash
        || type == cf_layout.date || type == cf_layout.timedelta
        || type == cf_layout.decimal) {
        return HASH_SAFE;
    }
    if (hash == PyObject_HashNotImplemented || hash == NULL) {
        return HASH_IMPOSSIBLE;
    }
    if (hash == PyTuple_Type.tp_hash) {
        if (CF_TUPLE_CACHES_HASH && cf_tuple_hash(op) != -1) {
            return HASH_SAFE;
        }
        if (depth == 0) {
            return HASH_TOO_DEEP;
        }
        hashability result = HASH_SAFE;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(op); i++) {
            PyObject *item = PyTuple_GET_ITEM(op, i);
            hashability of_item =
                item == NULL ? HASH_UNKNOWN : hashability_of(item, depth - 1);
            if (of_item == HASH_UNKNOWN || of_item == HASH_TOO_DEEP) {
                return of_item;
            }
            if (of_item == HASH_IMPOSSIBLE) {
                result = HASH_IMPOSSIBLE;
            }
        }
        return result;
    }
    if (type == &PySlice_Type) { /* stores no hash, and hashes its parts: a constant of code, 3.12 and later */
        PySliceObject *slice = (PySliceObject *)op;
        hashability start = depth == 0 ? HASH_TOO_DEEP : hashability_of(slice->start, depth - 1);
        hashability stop = start != HASH_SAFE ? start : hashability_of(slice->stop, depth - 1);
        return stop != HASH_SAFE ? stop : hashability_of(slice->step, depth - 1);
    }
    if (type == cf_layout.datetime || type == cf_layout.time) {
        PyObject *tzinfo = cf_tzinfo_of(op);
        return tzinfo == NULL || tzinfo == Py_None || Py_TYPE(tzinfo) == cf_layout.timezone
                       || Py_TYPE(tzinfo) == cf_layout.zoneinfo
                   ? HASH_SAFE
                   : HASH_UNKNOWN;
    }
    return HASH_UNKNOWN;
}

static cf_warmed
fill_hash(PyObject *op)
{
    if (PyObject_Hash(op) == -1 && PyErr_Occurred()) {
        /* No memory, or a signalling NaN, which cannot be hashed at all. */
        bool cannot = PyErr_ExceptionMatches(PyExc_TypeError);
        PyErr_Clear();
        return cannot ? CF_IS_WARM : CF_STAYS_COLD;
    }
    return CF_IS_WARM;
}

static cf_warmed
warm_by_contents(PyObject *op)
{
    switch (hashability_of(op, MAX_TUPLE_DEPTH)) {
    case HASH_SAFE:
        return fill_hash(op);
    case HASH_IMPOSSIBLE:
        return CF_IS_WARM;
    case HASH_TOO_DEEP:
        return CF_WARM_LATER;
    default:
        return CF_STAYS_COLD;
    }
}

#if CF_HAS_FROZENDICT
static cf_warmed
warm_frozendict(PyObject *op)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(op, &position, &key, &value)) {
        hashability of_value = hashability_of(value, MAX_TUPLE_DEPTH);
        if (of_value == HASH_IMPOSSIBLE) {
            return CF_IS_WARM;
        }
        /* The keys' hashes are stored with them, but are asked again. */
        if (of_value != HASH_SAFE || hashability_of(key, MAX_TUPLE_DEPTH) != HASH_SAFE) {
            return CF_STAYS_COLD;
        }
    }
    return fill_hash(op);
}
#endif

cf_warmed
cf_warm(PyObject *op, cf_warmth warmth)
{
    switch (warmth) {
    case CF_WARM_NONE:
        return CF_IS_WARM;
    case CF_WARM_STR:
        return cf_warm_str(op);
    case CF_WARM_BYTES:
        return PyBytes_GET_SIZE(op) <= CF_MAX_HASHED ? fill_hash(op) : CF_STAYS_COLD;
    case CF_WARM_TUPLE:
        return cf_tuple_hash(op) != -1 ? CF_IS_WARM : warm_by_contents(op);
    case CF_WARM_FROZENSET:
    case CF_WARM_HASH:
        return fill_hash(op);
    case CF_WARM_DATETIME:
        return warm_by_contents(op);
    case CF_WARM_FROZENDICT:
#if CF_HAS_FROZENDICT
        return warm_frozendict(op);
#else
        return CF_IS_WARM;
#endif
    case CF_WARM_TYPE:
        cf_type_assign_version((PyTypeObject *)op, cf_layout.name_doc);
        return CF_IS_WARM;
    }
    return CF_IS_WARM;
}
