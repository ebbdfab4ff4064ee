/* layout.h - layouts that no public header gives, each checked on a throw-away
 * object before it is used. What fails its check is not used, by name. */
#ifndef CF_LAYOUT_H
#define CF_LAYOUT_H

#include "cpython/compat.h"

#define CF_MAX_HIDDEN 4

/* A type whose instances hold references that neither tp_traverse nor
 * tp_members gives, and where in the instance they are. */
typedef struct {
    PyTypeObject *type;
    int n;
    Py_ssize_t offsets[CF_MAX_HIDDEN];
} cf_hidden_slots;

typedef struct {
    bool shared_keys;            /* cf_dict_keys is right for shared keys */
    bool dict_tables;            /* ... and for whole dicts */
    bool managed_dict;           /* cf_managed_dict is right */
    bool values_order;           /* cf_instance_values and cf_value_index are right */
    bool frames;                 /* cf_frame is right */
    Py_ssize_t generator_frame;  /* offset of the frame in a generator; 0: unknown */
    PyTypeObject *managed_buffer; /* the type behind every memoryview */
    PyObject *name_doc;          /* interned "__doc__" (3.10, 3.11: version tags) */
    PyTypeObject *ndarray;       /* NULL until numpy is seen and fits */
    Py_ssize_t dtype_flags;      /* where a dtype has its flags; 0: unknown */
    PyTypeObject *datetime;      /* NULL until datetime is seen and fits */
    PyTypeObject *date, *time, *timedelta, *timezone;
    PyTypeObject *decimal;
    PyTypeObject *zoneinfo;      /* whose utcoffset is C code */
    int n_hidden;
    cf_hidden_slots hidden[8];
} cf_layouts;

extern cf_layouts cf_layout;

/* Look at the layouts that need no import. Once, at import.
 * Returns 0, or -1 with an exception. A layout that does not fit is no error. */
int cf_layout_init(void);

/* Find, in the instance SAMPLE, the word that points to each of the N objects
 * VALUES, and remember the offsets for SAMPLE's type. Returns 1, 0 when one
 * is not found exactly once (nothing is remembered), -1 with an exception. */
int cf_layout_add_hidden(PyObject *sample, PyObject *const *values, int n);

/* numpy: ARRAY is numpy.array([MARKER, MARKER], dtype=object), VIEW is
 * ARRAY[1:]. Returns 1 if cf_ndarray fits, else 0. */
int cf_layout_add_ndarray(PyObject *array, PyObject *view, PyObject *dtype, PyObject *marker);

/* numpy: RECORDS is an array of a structured dtype with an object field,
 * NUMBERS one without. Finds where a dtype says so: without it the answer of
 * cf_layout_has_object_fields is yes for every structured array. */
void cf_layout_add_records(PyObject *records, PyObject *numbers);
bool cf_layout_has_object_fields(PyObject *array);

/* datetime and decimal types whose hash is cached in the instance. Of datetime
 * the version written in Python is passed over; DECIMAL is _decimal.Decimal. */
void cf_layout_set_datetime(PyObject *datetime, PyObject *date, PyObject *time,
                            PyObject *timedelta, PyObject *timezone);
void cf_layout_set_decimal(PyObject *decimal);
/* zoneinfo.ZoneInfo, or None: its utcoffset is not (or no longer) the one written in C. */
void cf_layout_set_zoneinfo(PyObject *zoneinfo);

/* The entries of a dict that has its own table. entry[0] is the key and
 * entry[1] the value, NULL where an entry was deleted. */
typedef struct {
    PyObject **entries;
    Py_ssize_t n;
    size_t width; /* words from one entry to the next */
    size_t size;  /* bytes of the whole table */
} cf_dict_table;

/* Returns false where PyDict_Next must be used: shared keys, 3.10, or a layout
 * that is not known. */
static inline bool
cf_layout_dict_table(cf_dict_table *table, PyObject *op)
{
#if CF_HAS_SHARED_KEYS
    const PyDictObject *dict = (const PyDictObject *)op;
    cf_dict_keys *keys = (cf_dict_keys *)dict->ma_keys;
    if (!cf_layout.dict_tables || dict->ma_values != NULL) {
        return false;
    }
    char *start = keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes);
    bool has_hashes = keys->dk_kind == 0;
    table->entries = (PyObject **)start + has_hashes;
    table->n = keys->dk_nentries;
    table->width = has_hashes ? 3 : 2;
    table->size = (size_t)(start - (char *)keys)
                  + (size_t)(keys->dk_nentries + keys->dk_usable) * table->width
                        * sizeof(PyObject *);
    return true;
#else
    (void)table;
    (void)op;
    return false;
#endif
}

/* Start and SIZE of the block that holds the attribute values of OP, of a type
 * with a prefix (cf_type_prefix); 0 where it has none, or in itself. */
static inline uintptr_t
cf_layout_values(PyObject *op, size_t *size)
{
    uintptr_t values = 0;
    *size = 0;
#if CF_VALUES_WORD != 0
    const cf_dict_keys *keys = NULL;
    if (cf_layout.shared_keys && PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_HEAPTYPE)) {
        keys = (const cf_dict_keys *)((PyHeapTypeObject *)Py_TYPE(op))->ht_cached_keys;
        values = ((const uintptr_t *)op)[CF_VALUES_WORD];
    }
    if (keys == NULL || values == 0 || (CF_VALUES_TAGGED && (values & 1) == 0)) {
        return 0;
    }
    values += CF_VALUES_TAGGED;
    size_t prefix = ((const uint8_t *)values)[-1]; /* the order of insertion */
    *size = prefix + (size_t)(keys->dk_nentries + keys->dk_usable) * sizeof(PyObject *);
    values -= prefix;
#else
    (void)op;
#endif
    return values;
}

/* Would a reader that asks OP for its __dict__ make one? Only of instances that keep their
 * attributes without. */
static inline bool
cf_layout_lacks_dict(PyObject *op)
{
#if CF_HAS_INLINE_VALUES
    return cf_layout.managed_dict && PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_INLINE_VALUES)
           && cf_managed_dict(op) == NULL;
#elif CF_HAS_IMMORTAL
    return cf_layout.shared_keys && PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_MANAGED_DICT)
           && (((const uintptr_t *)op)[CF_VALUES_WORD] & 1) != 0;
#else
    (void)op;
    return false;
#endif
}

/* The tzinfo of a datetime or time (or a subclass of one); borrowed, or NULL. */
PyObject *cf_tzinfo_of(PyObject *op);

/* numpy's PyArrayObject_fields, the part in front (numpy/ndarraytypes.h). */
typedef struct {
    PyObject ob_base;
    char *data;
    int nd;
    Py_ssize_t *dimensions;
    Py_ssize_t *strides;
    PyObject *base;
    PyObject *descr;
    int flags;
} cf_ndarray;

/* numpy's PyArray_Descr, the part in front. */
typedef struct {
    PyObject ob_base;
    PyTypeObject *typeobj;
    char kind;
    char type;
    char byteorder;
    char former_flags;
    int type_num;
} cf_ndarray_descr;

#if CF_HAS_SHARED_KEYS
/* The values of an instance that has no dict of its own, or NULL; and in *DICT the dict. TYPE of OP
 * has a managed dict (tp_dictoffset < 0). */
static inline PyObject *const *
cf_instance_values(PyObject *op, PyObject **dict)
{
#  if CF_HAS_INLINE_VALUES
    *dict = cf_managed_dict(op);
    if (*dict != NULL || !PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_INLINE_VALUES)) {
        return NULL;
    }
    /* struct _dictvalues: capacity, size, embedded, valid, values */
    const uint8_t *head = (const uint8_t *)op + Py_TYPE(op)->tp_basicsize;
    return head[3] ? (PyObject *const *)(head + 8) : NULL;
#  else
    uintptr_t word = ((uintptr_t *)op)[CF_VALUES_WORD];
    *dict = NULL;
    if (!CF_VALUES_TAGGED) {
        *dict = ((PyObject **)op)[CF_VALUES_WORD + 1];
        return (PyObject *const *)word;
    }
    if (word & 1) {
        return (PyObject *const *)(word + 1);
    }
    *dict = (PyObject *)word;
    return NULL;
#  endif
}

/* Number I of VALUES in the order in which they were set: its place among them and among the
 * class's keys; -1: there are no more. The order lies before the values, backwards, and from 3.13
 * on behind them. */
static inline Py_ssize_t
cf_value_index(PyObject *const *values, Py_ssize_t i)
{
#  if CF_HAS_INLINE_VALUES
    const uint8_t *head = (const uint8_t *)values - 8;
    return i < head[1] ? ((const uint8_t *)(values + head[0]))[i] : -1;
#  else
    const uint8_t *end = (const uint8_t *)values;
    return i < end[-2] ? end[-3 - i] : -1;
#  endif
}
#endif

#endif
