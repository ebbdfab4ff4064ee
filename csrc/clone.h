/* clone.h - a deep copy that writes no reference count of its source. */
#ifndef CF_CLONE_H
#define CF_CLONE_H

#include "compat.h"
#include "memo.h"

/* Kinds of value that clone tells apart. Up to CF_CLONE_LEAF a copy is made at
 * once; the others have parts that are copied one after the other. */
typedef enum {
    CF_CLONE_REFUSED,
    CF_CLONE_SINGLETON, /* None, True, False, Ellipsis: the interpreter's own */
    CF_CLONE_REFERENCE, /* classes, enum members, time zones: the same object */
    CF_CLONE_INT,
    CF_CLONE_FLOAT,
    CF_CLONE_COMPLEX,
    CF_CLONE_STR,
    CF_CLONE_BYTES,
    CF_CLONE_BYTEARRAY,
    CF_CLONE_RANGE,
    CF_CLONE_DATETIME, /* and date, time, timedelta */
    CF_CLONE_TIMEZONE, /* pack only, as the next: clone takes time zones by reference */
    CF_CLONE_ARRAY,    /* of numpy */
    CF_CLONE_DECIMAL,
    CF_CLONE_LEAF = CF_CLONE_DECIMAL,
    CF_CLONE_LIST,
    CF_CLONE_TUPLE, /* and named tuples */
    CF_CLONE_DICT,
    CF_CLONE_SET, /* and frozenset */
    CF_CLONE_INSTANCE,
} cf_clone_kind;

/* One container that is being copied. */
typedef struct {
    PyObject *src;  /* borrowed */
    PyObject *dst;  /* owned only if `deliver` */
    PyObject *key;  /* owned: the copied key whose value comes next */
    PyObject *at;   /* borrowed: the key or element of the source, for messages */
    PyObject *set;  /* pack only: packed, what an ordinary set is made of at the end */
    Py_hash_t hash; /* pack only: of `key` */
    Py_ssize_t i;   /* position in the source */
    uint8_t kind;   /* cf_clone_kind */
    bool in_key;    /* will be hashed: only what hashes without Python code */
    bool deliver;   /* goes to the frame below once it is complete */
    bool key_ready; /* `key` has just been delivered */
    bool outside;   /* pack only: dst is an ordinary object, which counts what it holds */
} cf_clone_frame;

#define CF_CLONE_KEYS 256

/* Work memory of clones. All zero: nothing taken yet. */
typedef struct {
    cf_memo memo; /* source object -> its copy, of what is referred to twice */
    cf_clone_frame *frames;
    size_t n;
    size_t capacity;
    struct {
        PyObject *src;  /* borrowed, may be gone: compared by content */
        PyObject *copy; /* owned */
    } keys[CF_CLONE_KEYS]; /* copies of dict keys */
    bool keep_keys;        /* across calls (iter_clone) */
    PyObject *refused;     /* borrowed: what cannot be copied, or NULL */
    bool refused_key;      /* ... because it is (part of) a key or set element */
} cf_clone_work;

/* Once, at import: `Enum` is enum.Enum. Returns 0, or -1 with an exception. */
int cf_clone_init(PyObject *Enum);

/* A copy of what PATH (a tuple of keys and indexes) leads to in ROOT, and if
 * INDEX >= 0 of that sequence's element. *END, if not NULL, says that there is
 * no such element any more (then NULL without an exception). NULL with an
 * exception otherwise. WORK may be NULL for memory that all calls share.
 * Needs the GIL; runs no Python code. */
PyObject *cf_clone(PyObject *root, PyObject *path, Py_ssize_t index, bool *end,
                   cf_clone_work *work);

/* Room for more frames. Returns 0, or -1 with an exception. */
int cf_clone_grow_frames(cf_clone_work *work);

/* Give back what WORK holds. */
void cf_clone_work_clear(cf_clone_work *work);

/* Drop what an interrupted copy had made (not the root's copy, which is the
 * caller's) and what is not kept for the next one. */
void cf_clone_finish(cf_clone_work *work);

/* The copy of a dict's or attribute's key, an exact str; a new reference, or
 * NULL with an exception. */
PyObject *cf_clone_key(cf_clone_work *work, PyObject *op);

/* -- clone_leaf.c -------------------------------------------------------- */

/* What kind of value is OP, by its type alone? */
cf_clone_kind cf_clone_kind_of(PyObject *op);

/* May a value of this kind be hashed without Python code? */
bool cf_clone_hashes(PyObject *op, cf_clone_kind kind);

/* A copy of a leaf; a new reference, or NULL with an exception. */
PyObject *cf_clone_leaf(PyObject *op, cf_clone_kind kind);
PyObject *cf_clone_str(PyObject *op);

/* -- clone_fields.c ------------------------------------------------------ */

/* A new, empty instance of OP's class; NULL with an exception. */
PyObject *cf_clone_empty(PyObject *op);

/* Give a new instance, which has a __dict__, the place for its attributes.
 * Returns 0, or -1 with an exception. */
int cf_clone_own_dict(PyObject *copy);

/* Are the attributes of TYPE's instances where they are looked for? */
bool cf_clone_readable(PyTypeObject *type);

/* Where field number I (slots first) of an instance is: its address in the
 * object, and its name. NULL: there are no more. Unset slots are NULL there. */
PyObject **cf_clone_slot(PyObject *op, Py_ssize_t i, const char **name);

/* Attribute number *POSITION of an instance that has a __dict__, like
 * PyDict_Next, without making that dict. */
bool cf_clone_attribute(PyObject *op, Py_ssize_t *position, PyObject **name,
                        PyObject **value);

/* -- clone_path.c -------------------------------------------------------- */

/* Follow PATH from ROOT: a borrowed pointer, or NULL with an exception. */
PyObject *cf_clone_follow(PyObject *root, PyObject *path);

/* Set TypeError: WORK's refused object, at the end of the way that PATH, INDEX
 * (if >= 0) and the open frames describe, cannot be DONE ("cloned"). */
void cf_clone_refuse(const cf_clone_work *work, PyObject *path, Py_ssize_t index,
                     const char *done);

#endif
