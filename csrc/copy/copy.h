/* copy.h - what clone and pack share: kinds of values, open containers, work memory. */
#ifndef CF_COPY_H
#define CF_COPY_H

#include "copy/memo.h"
#include "cpython/compat.h"

#include <math.h>

/* Kinds of value that are told apart. Up to CF_COPY_LEAF a copy is made at
 * once; the others have parts that are copied one after the other. */
typedef enum {
    CF_COPY_REFUSED,
    CF_COPY_SINGLETON, /* None, True, False, Ellipsis: the interpreter's own */
    CF_COPY_REFERENCE, /* classes, enum members, time zones: the same object */
    CF_COPY_INT,
    CF_COPY_FLOAT,
    CF_COPY_COMPLEX,
    CF_COPY_STR,
    CF_COPY_BYTES,
    CF_COPY_BYTEARRAY,
    CF_COPY_RANGE,
    CF_COPY_DATETIME, /* and date, time, timedelta */
    CF_COPY_TIMEZONE, /* pack only, as the next: clone takes time zones by reference */
    CF_COPY_ARRAY,    /* of numpy */
    CF_COPY_DECIMAL,
    CF_COPY_LEAF = CF_COPY_DECIMAL,
    CF_COPY_LIST,
    CF_COPY_TUPLE, /* and named tuples */
    CF_COPY_DICT,
    CF_COPY_SET, /* and frozenset */
    CF_COPY_INSTANCE,
} cf_copy_kind;

/* One container that is being copied. */
typedef struct {
    PyObject *src;  /* borrowed */
    PyObject *dst;  /* owned only if `deliver` */
    PyObject *key;  /* owned: the copied key whose value comes next */
    PyObject *at;   /* borrowed: the key or element of the source, for messages */
    PyObject *set;  /* pack only: packed, what an ordinary set is made of at the end */
    Py_hash_t hash; /* pack only: of `key` */
    Py_ssize_t i;   /* position in the source */
    uint8_t kind;   /* cf_copy_kind */
    bool in_key;    /* will be hashed: only what hashes without Python code */
    bool deliver;   /* goes to the frame below once it is complete */
    bool key_ready; /* `key` has just been delivered */
    bool outside;   /* pack only: dst is an ordinary object, which counts what it holds */
} cf_copy_frame;

#define CF_COPY_KEYS 256

/* Work memory of clones. All zero: nothing taken yet. */
typedef struct {
    cf_memo memo; /* source object -> its copy, of what is referred to twice */
    cf_copy_frame *frames;
    size_t n;
    size_t capacity;
    struct {
        PyObject *src;  /* borrowed, may be gone: compared by content */
        PyObject *copy; /* owned */
    } keys[CF_COPY_KEYS]; /* copies of dict keys */
    bool keep_keys;        /* across calls (iter_clone) */
    PyObject *refused;     /* borrowed: what cannot be copied, or NULL */
    bool refused_key;      /* ... because it is (part of) a key or set element */
} cf_copy_work;

/* Room for more frames. Returns 0, or -1 with an exception. */
int cf_copy_grow_frames(cf_copy_work *work);

/* Give back what WORK holds. */
void cf_copy_work_clear(cf_copy_work *work);

/* Drop what an interrupted copy had made (not the root's copy, which is the
 * caller's) and what is not kept for the next one. */
void cf_copy_finish(cf_copy_work *work);

/* The copy of a dict's or attribute's key, an exact str; a new reference, or
 * NULL with an exception. */
PyObject *cf_copy_key(cf_copy_work *work, PyObject *op);

/* A new copy of an exact str, with its hash; NULL with an exception. */
PyObject *cf_copy_str(PyObject *op);

/* -- kinds.c ------------------------------------------------------------- */

/* Once, at import: enum.Enum and typing.Generic. Returns 0, or -1 with an exception. */
int cf_copy_init(PyObject *Enum, PyObject *Generic);

/* What kind of value is OP, by its type alone? */
cf_copy_kind cf_copy_kind_of(PyObject *op);

/* May a value of this kind be hashed without Python code? */
bool cf_copy_hashes(PyObject *op, cf_copy_kind kind);

/* A Decimal of C (mpd_t of libmpdec); believed where the size of the type is right. */
typedef struct {
    PyObject_HEAD
    Py_hash_t hash;
    uint8_t flags; /* 1: negative, 2: infinite, 4: NaN, 8: signalling NaN */
    Py_ssize_t exponent, digits, length, room;
    uint64_t *words;
    uint64_t own[4];
} cf_decimal_image;

/* A NaN equals nothing, and its hash is its address: containers find it by being the same object.
 * So two of them are never made one, and one never two. */
static inline bool
cf_copy_is_nan(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_FLOAT:
        return isnan(PyFloat_AS_DOUBLE(op));
    case CF_COPY_COMPLEX:
        return isnan(((PyComplexObject *)op)->cval.real) || isnan(((PyComplexObject *)op)->cval.imag);
    case CF_COPY_DECIMAL:
        return Py_TYPE(op)->tp_basicsize == sizeof(cf_decimal_image)
               && (((cf_decimal_image *)op)->flags & 0x0C) != 0;
    default:
        return false;
    }
}

/* -- fields.c ------------------------------------------------------------ */

/* A new, empty instance of OP's class; NULL with an exception. */
PyObject *cf_copy_empty(PyObject *op);

/* Give a new instance, which has a __dict__, the place for its attributes.
 * Returns 0, or -1 with an exception. */
int cf_copy_own_dict(PyObject *copy);

/* Are the attributes of TYPE's instances where they are looked for? */
bool cf_copy_readable(PyTypeObject *type);

/* Where field number I (slots first) of an instance is: its address in the
 * object, and its name. NULL: there are no more. Unset slots are NULL there. */
PyObject **cf_copy_slot(PyObject *op, Py_ssize_t i, const char **name);

/* Attribute number *POSITION of an instance that has a __dict__, like
 * PyDict_Next, without making that dict. */
bool cf_copy_attribute(PyObject *op, Py_ssize_t *position, PyObject **name,
                       PyObject **value);

/* -- path.c -------------------------------------------------------------- */

/* Follow PATH from ROOT: a borrowed pointer, or NULL with an exception. */
PyObject *cf_copy_follow(PyObject *root, PyObject *path);

/* Set TypeError: WORK's refused object, at the end of the way that PATH, INDEX
 * (if >= 0) and the open frames describe, cannot be DONE ("cloned"). */
void cf_copy_refuse(const cf_copy_work *work, PyObject *path, Py_ssize_t index,
                    const char *done);

#endif
