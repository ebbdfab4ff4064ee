/* pack.h - an equal, read-only copy of plain data in memory of its own. */
#ifndef CF_PACK_H
#define CF_PACK_H

#include "cpython/compat.h" /* Python.h comes before the C library */

#include "pack/arena.h"
#include "copy/copy.h"

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

typedef struct {
    PyObject *op;
    uint64_t hash;
} cf_pack_value;

typedef struct {
    cf_arena headers;
    cf_arena tables;
    cf_copy_work work;    /* its memo: source -> copy; itself: an interned str that stays */
    cf_pack_value *values; /* stored last, by hash */
    void *empty_keys;      /* the table that all empty dicts share */
    void *no_items;        /* the same for lists */
    bool readonly;         /* lists, dicts and sets become packed ones */
    PyObject *made;        /* list, or NULL: the ordinary objects that were made */
    PyObject *fillings;    /* list, or NULL: (array over packed memory, its source), see P2 */
    PyObject *referred;    /* list, or NULL: what was taken by reference */
    cf_pack_outcome *outcome;
} cf_packer;

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_pack_init(void);

/* The copy of ROOT, or NULL with an exception; then nothing is left behind. Not
 * READONLY: with ordinary lists, dicts and sets. *KEEPER becomes a list of what
 * packed memory refers to without counting it, which must never die, or None.
 * Needs the GIL; runs no Python code. */
PyObject *cf_pack(PyObject *root, bool readonly, cf_pack_outcome *outcome, PyObject **keeper);

/* Restore the fields of list and dict headers that C code has changed in shared
 * memory; returns how many headers were wrong (0 where they are not shared). */
size_t cf_pack_repair(void);

/* -- values.c ------------------------------------------------------- */

/* What kind of value is OP, by its type alone? CF_COPY_REFUSED: none that is packed. */
cf_copy_kind cf_pack_kind_of(PyObject *op);

/* Has a copy of OP the hash that is stored beside OP as a key or element? */
bool cf_pack_keeps_hash(PyObject *op, cf_copy_kind kind);

/* The copy of something of at most this KIND's size that IMAGE, on the C stack,
 * is made like; its references are packed already. NULL with an exception. */
PyObject *cf_pack_find_or_store(cf_packer *p, PyObject *image, cf_copy_kind kind);

/* The copy of a value that is part of a leaf, itself a leaf; NULL: an exception,
 * or work.refused. */
PyObject *cf_pack_part(cf_packer *p, PyObject *op);

#define CF_PACK_VALUES ((size_t)1 << 16)

/* The copy of a leaf, perhaps one stored before; NULL: an exception, or work.refused. */
PyObject *cf_pack_leaf(cf_packer *p, PyObject *op, cf_copy_kind kind);

/* SIZE zeroed bytes for an object of TYPE, behind a collector's header that
 * says "not tracked" if GC or if TYPE is the collector's, and behind what TYPE
 * wants before that. NULL with an exception. */
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

/* -- containers.c --------------------------------------------------- */

/* Headers and tables for copies of SRC, still empty; NULL with an exception. */
PyObject *cf_pack_list(cf_packer *p, PyObject *src);
PyObject *cf_pack_tuple(cf_packer *p, PyObject *src);

/* Fill in the hash of a complete tuple, if it has one. */
void cf_pack_warm_tuple(PyObject *tuple);

/* -- sets.c --------------------------------------------------------- */

bool cf_pack_is_frozenset(PyObject *op);

/* An empty packed set for as many elements as SRC has; NULL with an exception. */
PyObject *cf_pack_set(cf_packer *p, PyObject *src);

/* Enter KEY, which must be complete and not be in it. */
void cf_pack_set_add(PyObject *set, PyObject *key, Py_hash_t hash);

/* All elements of F->dst, or if that is an ordinary set of F->set, are there.
 * Returns 0, or -1 with an exception. */
int cf_pack_set_finish(cf_copy_frame *f);

/* -- leaves.c ------------------------------------------------------ */

int cf_pack_scalars_init(void);

/* Is OP a time zone that is packed, and not taken by reference? */
bool cf_pack_is_timezone(PyObject *op);

/* Bytes of a date, time, datetime or timedelta, and where the hash ends in all. */
size_t cf_pack_datetime_size(PyObject *op);
#define CF_DATETIME_HASH_END (sizeof(PyObject) + sizeof(Py_hash_t))

/* The copy of OP, one of the four kinds; NULL: an exception, or work.refused. */
PyObject *cf_pack_scalar(cf_packer *p, PyObject *op, cf_copy_kind kind);

/* -- arrays.c ------------------------------------------------------- */

/* Is OP an array of numpy, of its own type? */
bool cf_pack_is_array(PyObject *op);

/* An array over a read-only copy of the data of OP, in the tables; NULL: an
 * exception, or work.refused (references to objects in it). */
PyObject *cf_pack_array(cf_packer *p, PyObject *op);

/* The walk is over: copy the data of all arrays. Other threads may run meanwhile (P2). Returns 0,
 * or -1 with an exception. */
int cf_pack_fill_arrays(cf_packer *p);

/* -- outside.c ------------------------------------------------------ */

/* Take over OP, an ordinary object (or NULL with an exception, which is handed
 * through): packed memory may refer to it. A borrowed pointer to it, or NULL. */
PyObject *cf_pack_outside(cf_packer *p, PyObject *op);

/* Packed memory refers to OP, which is not copied. Returns OP, or NULL. */
PyObject *cf_pack_refer(cf_packer *p, PyObject *op);

/* A new instance of the class of OP, and whether it is an ordinary object; NULL
 * with an exception. */
PyObject *cf_pack_instance(cf_packer *p, PyObject *op, bool *outside);

/* Set attribute NAME of an ordinary instance, without Python code. Returns 0, or
 * -1 with an exception. */
int cf_pack_set_attribute(PyObject *instance, PyObject *name, PyObject *value);

/* From now on no assignment to __class__ changes a packed object that other
 * processes see. Returns 0, or -1 with an exception. */
int cf_pack_guard_class(void);

/* A list of all that packed memory refers to outside, None, or NULL with an exception. */
PyObject *cf_pack_keeper(const cf_packer *p);

/* What KEEPER holds shall never die, although there was no memory to freeze it: slots in packed
 * memory do not count. Needs no memory. */
void cf_pack_keep(PyObject *keeper);

/* After a failure: drop what was made, before packed memory is unmapped. */
void cf_pack_drop_outside(cf_packer *p);

/* -- graph.c -------------------------------------------------------- */

/* The copy of ROOT and all that it refers to; NULL: an exception, or work.refused. */
PyObject *cf_pack_graph(cf_packer *p, PyObject *root);

/* -- dict.c --------------------------------------------------------- */

int cf_pack_dict_init(void);

/* An empty packed dict for N entries; NULL with an exception. */
PyObject *cf_pack_dict(cf_packer *p, PyObject *src);

/* PyDict_Next, and the stored hash of the key. */
bool cf_pack_dict_next(PyObject *dict, Py_ssize_t *position, PyObject **key, PyObject **value,
                       Py_hash_t *hash);

/* Enter KEY, which must be complete, with VALUE. Returns where the value stands. */
PyObject **cf_pack_dict_add(PyObject *dict, PyObject *key, Py_hash_t hash, PyObject *value);

#endif
