/* type_info.h - what is to be done with the instances of a type. */
#ifndef CF_TYPE_INFO_H
#define CF_TYPE_INFO_H

#include "cpython/compat.h"
#include "objects/life.h"

/* Where an object's references are. A set of flags; 0 is a leaf. */
enum {
    CF_EDGE_TRAVERSE = 1 << 0, /* tp_traverse */
    CF_EDGE_ITEMS = 1 << 1,    /* exact list or tuple */
    CF_EDGE_DICT = 1 << 2,     /* keys and values of a dict or frozendict */
    CF_EDGE_MEMBERS = 1 << 3,  /* tp_members of a type without tp_traverse */
    CF_EDGE_HIDDEN = 1 << 4,   /* cf_hidden_slots */
    CF_EDGE_TYPE = 1 << 5,     /* the object is a type */
    CF_EDGE_CODE = 1 << 6,     /* code object */
    CF_EDGE_DESCR = 1 << 7,    /* method, member, getset descriptor */
    CF_EDGE_NDARRAY = 1 << 8,
    CF_EDGE_TZINFO = 1 << 9,   /* datetime and time without the collector */
    CF_EDGE_MANAGED_DICT = 1 << 10, /* the __dict__ of an instance with inline values */
};

/* Why an object is left as it is. CF_TAKE: it is not. */
typedef enum {
    CF_TAKE = 0,
    CF_SKIP_FRAME,
    CF_SKIP_TRACEBACK,
    CF_SKIP_GENERATOR,
    CF_SKIP_GREENLET,
    CF_SKIP_BUFFER,    /* memoryview and what is behind it: followed, never marked */
    CF_SKIP_LOCK,
    CF_SKIP_THREAD,
    CF_SKIP_FILE,
    CF_SKIP_SOCKET,
    CF_SKIP_HANDLE,    /* connections, mmap, selectors: what must be closed */
    CF_SKIP_FINALIZER, /* a finalizer of its own, which must run: followed, never marked */
    CF_SKIP_TASK,
    CF_SKIP_CONTEXT,
    CF_SKIP_EXCEPTION, /* with a traceback: would keep its frames */
    CF_SKIP_UNFINISHED, /* a tuple that a C function may still be filling */
    CF_SKIP_WEAKREF,   /* with a callback; taken at the end if what it refers to was */
    CF_SKIP_LIFE,      /* a C type whose instances end something when they die (life.c) */
    CF_SKIP_NAME,      /* cf_policy_is_special_name */
    CF_SKIP_REQUESTED, /* freeze(skip=...) */
    CF_N_DECISIONS
} cf_decision;

/* What a reader would fill in later. */
typedef enum {
    CF_WARM_NONE = 0,
    CF_WARM_STR,
    CF_WARM_BYTES,
    CF_WARM_TUPLE,
    CF_WARM_FROZENSET,
    CF_WARM_HASH,  /* date, time, timedelta, Decimal: hash of plain contents */
    CF_WARM_DATETIME, /* may ask a tzinfo: only if that is none or a timezone */
    CF_WARM_FROZENDICT,
    CF_WARM_TYPE,
} cf_warmth;

/* How many bytes an instance has, header and out-of-line tables apart. */
typedef enum {
    CF_SIZE_FIXED = 0, /* tp_basicsize */
    CF_SIZE_VAR,       /* + |ob_size| * tp_itemsize */
    CF_SIZE_SAID,      /* the same, but whether ob_size is a length is not known */
    CF_SIZE_STR,
    CF_SIZE_INT,
    CF_SIZE_LIST,
    CF_SIZE_DICT,
    CF_SIZE_SET,
    CF_SIZE_TYPE,
    CF_N_SIZINGS
} cf_sizing;

/* Exact strings and numbers: no edges, no GC header, taken (but see CF_SKIP_NAME). */
typedef enum {
    CF_NOT_PLAIN = 0,
    CF_PLAIN_STR,
    CF_PLAIN_INT,
    CF_PLAIN_FIXED,
} cf_plainness;

typedef struct {
    PyTypeObject *type;
    uint16_t edges;
    uint8_t decision;   /* cf_decision */
    uint8_t warmth;    /* cf_warmth */
    uint8_t sizing;    /* cf_sizing */
    uint8_t plain;     /* cf_plainness */
    bool boundary;     /* with roots: marked, not walked */
    bool gc;           /* instances have a GC header (asked per object if tp_is_gc) */
    bool function;     /* on 3.14, running_code.c must find its code again */
    bool check_object; /* the decision depends on the object: cf_policy_object */
    uint8_t prefix;    /* bytes before the object: GC header, managed pointers */
    Py_ssize_t basic_size;
    Py_ssize_t item_size;
    size_t count;      /* frozen by this freeze */
    size_t bytes;
} cf_typeinfo;

/* Decide about TYPE. SKIP is a NULL-terminated array of types that the caller
 * does not want, subclasses included, or NULL. OWN is where the interpreter's code lies. Cannot fail, runs no Python
 * code, allocates nothing. */
void cf_policy_classify(cf_typeinfo *info, PyTypeObject *type, PyTypeObject *const *skip,
                        const cf_own_code *own);

/* The decision on one object of a type with check_object. Likewise. */
cf_decision cf_policy_object(const cf_typeinfo *info, PyObject *op);

/* Do instances of TYPE write to a file through a buffer, which flush() empties? Subclasses too.
 * Likewise. */
bool cf_policy_is_buffered_file(PyTypeObject *type);

/* Builds with CF_STR_STATE_CHECKED: is OP the name of a special method, and only equal to
 * the interned one? Likewise. */
bool cf_policy_is_special_name(PyObject *op);

/* Where the references of instances of TYPE are, whatever is decided about
 * them: an explanation looks into what a freeze leaves alone. Likewise. */
uint16_t cf_policy_edges(PyTypeObject *type);

/* The name of a decision, as reports print it. */
const char *cf_decision_name(cf_decision decision);

#endif
