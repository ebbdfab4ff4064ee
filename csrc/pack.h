/* pack.h - an equal, read-only copy of plain data in memory of its own. */
#ifndef CF_PACK_H
#define CF_PACK_H

#include "compat.h" /* Python.h comes before the C library */

#include "arena.h"
#include "clone.h"

/* What one pack did. */
typedef struct {
    size_t objects;       /* made */
    size_t header_bytes;  /* of objects and what lies inside of them */
    size_t table_bytes;   /* of lists, dicts and large sets */
    size_t source_bytes;  /* of the objects that were copied, once each */
    size_t references;    /* to values stored before: strings, numbers, shared containers */
    size_t kept;          /* interned strings that stayed where they are */
    double seconds;
} cf_pack_outcome;

typedef struct {
    PyObject *op;
    uint64_t hash;
} cf_pack_value;

typedef struct {
    cf_arena headers;
    cf_arena tables;
    cf_clone_work work;    /* its memo: source -> copy; itself: an interned str that stays */
    cf_pack_value *values; /* stored last, by hash */
    void *empty_keys;      /* the table that all empty dicts share */
    void *no_items;        /* the same for lists */
    cf_pack_outcome *outcome;
} cf_packer;

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_pack_init(void);

/* The copy of ROOT, or NULL with an exception; then nothing is left behind.
 * Needs the GIL; runs no Python code. */
PyObject *cf_pack(PyObject *root, cf_pack_outcome *outcome);

/* Restore the fields of list and dict headers that C code has changed in shared
 * memory; returns how many headers were wrong (0 where they are not shared). */
size_t cf_pack_repair(void);

/* -- pack_values.c ------------------------------------------------------- */

/* What kind of value is OP, by its type alone? CF_CLONE_REFUSED: none that is packed. */
cf_clone_kind cf_pack_kind_of(PyObject *op);

#define CF_PACK_VALUES ((size_t)1 << 16)

/* The copy of a leaf, perhaps one stored before; NULL with an exception. */
PyObject *cf_pack_leaf(cf_packer *p, PyObject *op, cf_clone_kind kind);

/* SIZE zeroed bytes for an object of TYPE, behind a collector's header that
 * says "not tracked" if GC. NULL with an exception. */
PyObject *cf_pack_object(cf_packer *p, PyTypeObject *type, size_t size, bool gc);

/* SIZE bytes for the table that OWNER points to and that holds N entries; NULL
 * with an exception. */
void *cf_pack_table(cf_packer *p, PyObject *owner, Py_ssize_t n, size_t size);

/* Headers lie in memory that other processes see. */
#define CF_HEADERS_ARE_SHARED (!CF_HAS_IMMORTAL)

/* What lies in front of a table. The zero is what malloc would take for the
 * header of a chunk. */
typedef struct {
#if CF_HEADERS_ARE_SHARED
    PyObject *owner;
    Py_ssize_t n;
    size_t size; /* of the table, rounded up */
#endif
    uint64_t guard;
} cf_pack_guard;

/* Set the exception for what an arena could not do, from errno. */
void cf_pack_no_memory(void);

/* -- pack_containers.c --------------------------------------------------- */

/* Headers and tables for copies of SRC, still empty; NULL with an exception. */
PyObject *cf_pack_list(cf_packer *p, PyObject *src);
PyObject *cf_pack_tuple(cf_packer *p, PyObject *src);
PyObject *cf_pack_set(cf_packer *p, PyObject *src);

bool cf_pack_is_frozenset(PyObject *op);

/* F->dst becomes the set that F->set is. Returns 0, or -1 with an exception. */
int cf_pack_finish_set(cf_packer *p, cf_clone_frame *f);

/* Fill in the hash of a complete tuple, if it has one. */
void cf_pack_warm_tuple(PyObject *tuple);

/* -- pack_dict.c --------------------------------------------------------- */

int cf_pack_dict_init(void);

/* An empty packed dict for N entries; NULL with an exception. */
PyObject *cf_pack_dict(cf_packer *p, PyObject *src);

/* Enter KEY, which must be complete, and VALUE. Returns where the value stands;
 * NULL with an exception. */
PyObject **cf_pack_dict_add(PyObject *dict, PyObject *key, PyObject *value);

#endif
