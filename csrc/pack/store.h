/* store.h - the packer: two arenas, and room in them for an object or a table. */
#ifndef CF_PACK_STORE_H
#define CF_PACK_STORE_H

#include "cpython/compat.h" /* Python.h comes before the C library */

#include "copy/copy.h"
#include "pack/arena.h"

/* What one pack did. */
typedef struct {
    size_t objects;       /* made */
    size_t header_bytes;  /* of objects and what lies inside of them */
    size_t table_bytes;   /* of lists, dicts and large sets */
    size_t source_bytes;  /* of the objects that were copied, once each */
    size_t references;    /* to values stored before: strings, numbers, shared containers */
    size_t kept;          /* interned strings that stayed where they are */
    size_t outside;       /* ordinary objects that could not lie in packed memory */
    size_t referred;      /* classes, enum members and time zones: the same objects */
    double seconds;
} cf_pack_outcome;

#define CF_PACK_VALUES ((size_t)1 << 16)

typedef struct {
    PyObject *op;
    uint64_t hash;
} cf_pack_value;

/* Everything that one pack works with. */
typedef struct {
    cf_arena headers;
    cf_arena tables;
    cf_copy_work work;     /* its memo: source -> copy; itself: an interned str that stays */
    cf_pack_value *values; /* stored last, by hash */
    bool readonly;         /* lists, dicts and sets become packed ones */
    PyObject *made;        /* list, or NULL: the ordinary objects that were made */
    PyObject *fillings;    /* list, or NULL: (array over packed memory, its source), see P2 */
    PyObject *referred;    /* list, or NULL: what was taken by reference */
    cf_pack_outcome *outcome;
} cf_packer;

/* Headers lie in memory that other processes see. */
#define CF_HEADERS_ARE_SHARED (!CF_HAS_IMMORTAL)

/* What lies in front of a table. Malloc would take the last word for the header of a chunk. */
typedef struct {
#if CF_HEADERS_ARE_SHARED
    PyObject *owner;
    Py_ssize_t n;
#endif
    int64_t minus_size; /* of the table, rounded up */
} cf_pack_guard;

/* SIZE zeroed bytes for an object of TYPE, behind a collector's header that
 * says "not tracked" if GC or if TYPE is the collector's, and behind what TYPE
 * wants before that. NULL with an exception. */
PyObject *cf_pack_object(cf_packer *p, PyTypeObject *type, size_t size, bool gc);

/* SIZE bytes for the table that OWNER points to and that holds N entries; NULL
 * with an exception. */
void *cf_pack_table(cf_packer *p, PyObject *owner, Py_ssize_t n, size_t size);

/* Set the exception for what an arena could not do, from errno. */
void cf_pack_no_memory(void);

#endif
