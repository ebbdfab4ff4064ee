/* kinds.h - what kind of value a pack meets, and what of it may be a key. */
#ifndef CF_PACK_KINDS_H
#define CF_PACK_KINDS_H

#include "copy/copy.h"

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_pack_kinds_init(void);

/* What kind of value is OP, by its type alone? CF_COPY_REFUSED: none that is packed. */
cf_copy_kind cf_pack_kind_of(PyObject *op);

/* Has a copy of OP the hash that is stored beside OP as a key or element? */
bool cf_pack_keeps_hash(PyObject *op, cf_copy_kind kind);

bool cf_pack_is_frozenset(PyObject *op);

/* Is OP an array of numpy, of its own type? */
bool cf_pack_is_array(PyObject *op);

/* Is OP a time zone that is packed, and not taken by reference? */
bool cf_pack_is_timezone(PyObject *op);

/* What such a zone is; cf_pack_is_timezone() has compared it with a probe. */
typedef struct {
    PyObject_HEAD
    PyObject *offset;
    PyObject *name; /* or NULL */
} cf_timezone_image;

/* Where a time or datetime has its time zone; NULL: it has none. */
PyObject **cf_pack_zone_of(PyObject *op);

/* Bytes of a date, time, datetime or timedelta, and where the hash ends in all. */
size_t cf_pack_datetime_size(PyObject *op);
#define CF_DATETIME_HASH_END (sizeof(PyObject) + sizeof(Py_hash_t))

#endif
