/* compat.h - everything that differs between CPython versions, and nothing else.
 *
 * No other file may test PY_VERSION_HEX. What a version lacks is an empty
 * function or a macro that is 0 here, so that callers need no #if of their own
 * except `#if CF_HAS_...`, which names the feature and not the version.
 *
 * The object header, little-endian, 64-bit (Include/object.h, refcount.h):
 *
 *            byte 0        4        6        8               16
 *   3.10-3.11  [ ob_refcnt                ][ ob_type        ]   no object is immortal
 *   3.12-3.13  [ low word ][ high word    ][ ob_type        ]   frozen: low word 0xFFFFFFFF
 *   3.14-3.15  [ob_refcnt ][overfl][flags ][ ob_type        ]   frozen: ob_refcnt >= 3 << 30
 *                                                                       and bit 0 of flags
 */
#ifndef CF_COMPAT_H
#define CF_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h> /* PyFrame_Type: 3.10 declares it nowhere else */

#include <stdbool.h>
#include <stdint.h>

/* Keeps a slow path from spoiling the registers of the fast one it is called in. */
#define CF_NOINLINE __attribute__((noinline))
#define CF_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#if PY_VERSION_HEX < 0x030A0000 || PY_VERSION_HEX >= 0x03100000
#  error "cowfreeze supports CPython 3.10 to 3.15"
#endif
#ifdef Py_GIL_DISABLED
#  error "cowfreeze does not support free-threaded builds: their object headers differ"
#endif
#if SIZEOF_VOID_P != 8
#  error "cowfreeze supports 64-bit builds only"
#endif
#if !defined(__linux__)
#  error "cowfreeze supports Linux only: it measures pages with /proc/PID/pagemap"
#endif
#if defined(Py_TRACE_REFS)
#  error "cowfreeze does not support Py_TRACE_REFS builds: every object is in a list that is written"
#endif

#define CF_HAS_IMMORTAL (PY_VERSION_HEX >= 0x030C0000)
#define CF_HAS_GC_VISIT (PY_VERSION_HEX >= 0x030C0000)
/* gc.get_objects() passes over the permanent generation in every version; PyUnstable_GC_VisitObjects
 * does before 3.14 (3.13.0: tried). */
#define CF_PERMANENT_IS_HIDDEN (PY_VERSION_HEX < 0x030E0000)
/* struct _gc_runtime_state: `collecting` lies so many words before `garbage`, and both within so many
 * bytes from the interpreter's start (pycore_gc.h, pycore_interp.h). */
#define CF_COLLECTING_BEFORE (PY_VERSION_HEX >= 0x030F0000 ? 2 : 1)
#define CF_COLLECTING_WITHIN (PY_VERSION_HEX >= 0x030D0000 ? 0x4000 : 0x800)
/* References on interpreter stacks are tagged (pycore_stackref.h). */
#define CF_HAS_STACKREFS (PY_VERSION_HEX >= 0x030E0000)
/* LOAD_CONST_MORTAL counts its constant without a check. Gone in 3.15, where
 * LOAD_CONST borrows. */
#define CF_HAS_LOAD_CONST_MORTAL \
    (PY_VERSION_HEX >= 0x030E0000 && PY_VERSION_HEX < 0x030F0000)
/* frozenset(iterable) is tracked while it is filled. */
#define CF_FROZENSETS_GROW (PY_VERSION_HEX < 0x030E0000)
/* gh-131525: tuples cache their hash. */
#define CF_TUPLE_CACHES_HASH (PY_VERSION_HEX >= 0x030E0000)
#define CF_HAS_FROZENDICT (PY_VERSION_HEX >= 0x030F0000) /* PEP 814 */
/* 3.15 advises huge pages for every pymalloc arena. */
#define CF_ARENAS_ARE_HUGE (PY_VERSION_HEX >= 0x030F0000)
/* Debug builds abort on an immortal str that is not interned as immortal. */
#if defined(Py_DEBUG) && PY_VERSION_HEX >= 0x030C0000
#  define CF_STR_STATE_CHECKED 1
#else
#  define CF_STR_STATE_CHECKED 0
#endif

/* -- the header ---------------------------------------------------------- */

#if CF_HAS_STACKREFS
/* INCREF leaves counts from here on alone (_Py_IMMORTAL_INITIAL_REFCNT). */
#  define CF_COUNT_UNTOUCHED 0xC0000000u
/* What freeze stores: 2^24 above, because references that live frames hold at
 * this moment are dropped without a check and would sink an exact 3 << 30 to
 * where INCREF writes again. Nearly all of the 2^30 upward is left for old
 * stable-ABI extensions that count without a check. */
#  define CF_COUNT_FROZEN 0xC1000000u
#  define CF_FLAG_IMMORTAL 1u

/* Would INCREF, DECREF and a stack reference leave this header alone? */
static inline bool
cf_header_untouched(PyObject *op)
{
    return op->ob_refcnt >= CF_COUNT_UNTOUCHED
           && (op->ob_flags & CF_FLAG_IMMORTAL) != 0;
}

static inline void
cf_header_freeze(PyObject *op)
{
    op->ob_refcnt = CF_COUNT_FROZEN;
    op->ob_overflow = 0;
    op->ob_flags |= CF_FLAG_IMMORTAL;
}

/* Has freeze (this package's or the interpreter's) dealt with it already? */
#  define cf_header_done(op) cf_header_untouched(op)

#elif CF_HAS_IMMORTAL
static inline bool
cf_header_untouched(PyObject *op)
{
    return (uint32_t)op->ob_refcnt == UINT32_MAX;
}

static inline void
cf_header_freeze(PyObject *op)
{
    /* Exactly this: any other immortal value is written by every INCREF until
     * it has climbed here. */
    op->ob_refcnt = (Py_ssize_t)UINT32_MAX;
}

#  define cf_header_done(op) cf_header_untouched(op)

#else
/* No count is immortal. A huge one only keeps the object from ever being
 * freed; below 2^61, because the collector shifts it by two. */
#  define CF_COUNT_FROZEN ((Py_ssize_t)1 << 40)
/* In memory that all processes share, where counting them is no exact science. */
#  define CF_COUNT_SHARED ((Py_ssize_t)1 << 60)

static inline bool
cf_header_untouched(PyObject *op)
{
    (void)op;
    return false;
}

static inline void
cf_header_freeze(PyObject *op)
{
    op->ob_refcnt = CF_COUNT_FROZEN;
}

static inline bool
cf_header_done(PyObject *op)
{
    return op->ob_refcnt >= CF_COUNT_FROZEN / 2;
}
#endif

/* -- exit ---------------------------------------------------------------- */

/* Is the interpreter past its atexit handlers? */
#if PY_VERSION_HEX >= 0x030D0000
#  define cf_is_finalizing() Py_IsFinalizing()
#else
#  define cf_is_finalizing() _Py_IsFinalizing()
#endif

/* _PyUnicode_ClearInterned frees strings that are interned as immortal. */
#define CF_INTERNED_ARE_FREED (PY_VERSION_HEX >= 0x030E0000)

/* -- str ----------------------------------------------------------------- */

/* In debug builds a frozen str must look interned and immortal:
 * _PyUnicode_CheckConsistency aborts otherwise (3.13 unicodeobject.c). It is
 * not put into the interned dict. Release builds keep the state as it is: at
 * exit 3.14 makes SSTATE_INTERNED_IMMORTAL strings mortal and frees them. */
static inline void
cf_str_prepare(PyObject *op)
{
#if CF_STR_STATE_CHECKED
    PyASCIIObject *str = (PyASCIIObject *)op;
    if (!str->state.statically_allocated) {
        str->state.interned = SSTATE_INTERNED_IMMORTAL;
    }
#else
    (void)op;
#endif
}

/* A str may have no characters yet, only wchar_t ones (PEP 623 removed them). */
#define CF_HAS_LEGACY_STR (PY_VERSION_HEX < 0x030C0000)

/* Would PyUnicode_AsUTF8 make a form of OP and keep it? */
static inline bool
cf_str_lacks_utf8(PyObject *op)
{
#if CF_HAS_LEGACY_STR
    if (!PyUnicode_IS_READY(op)) {
        return false;
    }
#endif
    return !PyUnicode_IS_ASCII(op) && ((PyCompactUnicodeObject *)op)->utf8 == NULL;
}

/* -- int ----------------------------------------------------------------- */

/* Bytes before the digits: the header and one word, the size or the tag. */
#define CF_INT_HEADER (sizeof(PyObject) + sizeof(Py_ssize_t))

static inline size_t
cf_int_digits(PyObject *op)
{
#if PY_VERSION_HEX >= 0x030C0000
    return ((PyLongObject *)op)->long_value.lv_tag >> 3;
#else
    Py_ssize_t size = Py_SIZE(op);
    return (size_t)(size < 0 ? -size : size);
#endif
}

/* -- tuple --------------------------------------------------------------- */

#if CF_TUPLE_CACHES_HASH
#  define cf_tuple_hash(op) (((PyTupleObject *)(op))->ob_hash)
#  define cf_tuple_forget_hash(op) ((void)(((PyTupleObject *)(op))->ob_hash = -1))
#else
#  define cf_tuple_hash(op) ((Py_hash_t)0)
#  define cf_tuple_forget_hash(op) ((void)(op))
#endif

/* -- dict ---------------------------------------------------------------- */

#if CF_HAS_FROZENDICT
#  define cf_is_any_dict(op) PyAnyDict_Check(op)
#  define cf_is_frozendict_type(type) ((type) == &PyFrozenDict_Type)
#else
#  define cf_is_any_dict(op) PyDict_Check(op)
#  define cf_is_frozendict_type(type) (false)
#endif

/* Keys tables of 3.11 and later (Include/internal/pycore_dict.h), in the part
 * that is the same in all of them. Only used after layout.c has checked it on
 * a throw-away class. 3.10 has no shared keys outside a real dict. */
#define CF_HAS_SHARED_KEYS (PY_VERSION_HEX >= 0x030B0000)
typedef struct {
    Py_ssize_t dk_refcnt;
    uint8_t dk_log2_size;
    uint8_t dk_log2_index_bytes;
    uint8_t dk_kind; /* 0: hash, key, value; otherwise key, value */
    uint32_t dk_version;
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
    char dk_indices[];
} cf_dict_keys;

/* The form of 3.10, and how 3.10 and 3.11 tell states of a dict apart: its
 * version tag, which must be of this dict alone. */
typedef struct {
    Py_ssize_t dk_refcnt;
    Py_ssize_t dk_size;
    void *dk_lookup;
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
    char dk_indices[];
} cf_dict_keys_310;
#define CF_DICT_HAS_VERSION (PY_VERSION_HEX < 0x030C0000)
/* Iteration that tells the stored hash; a private name of the interpreter since 3.13. */
#define CF_HAS_DICT_NEXT_HASH (PY_VERSION_HEX < 0x030D0000)
#if !CF_HAS_DICT_NEXT_HASH
/* Exported, declared in an internal header only. */
PyAPI_FUNC(int) _PyDict_SetItem_KnownHash(PyObject *dict, PyObject *key, PyObject *value,
                                          Py_hash_t hash);
#endif
/* A key that is no str makes 3.11 convert an all-str table, and the dict then
 * points to the new one; 3.10 only changes the table. */
#define CF_STR_TABLES_ARE_CONVERTED (PY_VERSION_HEX >= 0x030B0000)

/* -- types --------------------------------------------------------------- */

/* Bytes of attribute values that lie behind the body of an instance (3.13 and
 * later, _PyInlineValuesSize in pycore_dict.h). */
static inline size_t
cf_type_inline_size(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030D0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES)
        || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        return 0;
    }
    cf_dict_keys *keys = (cf_dict_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
    if (keys == NULL) {
        return 0;
    }
    size_t values = (size_t)(keys->dk_nentries + keys->dk_usable);
    return ((values + 7) & ~(size_t)7) + (values + 1) * sizeof(PyObject *);
#else
    (void)type;
    return 0;
#endif
}

/* The class dict as a borrowed pointer, or NULL. */
static inline PyObject *
cf_type_dict(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *dict = PyType_GetDict(type); /* new reference; the type keeps it */
    Py_XDECREF(dict);
    return dict;
#else
    return type->tp_dict;
#endif
}

/* Bytes that lie before the GC header of an instance of TYPE: the managed
 * dict and weakref pointers of 3.11 and later. */
static inline size_t
cf_type_prefix(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF)
               ? 2 * sizeof(PyObject *)
               : 0;
#elif PY_VERSION_HEX >= 0x030B0000
    return PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT) ? 2 * sizeof(PyObject *) : 0;
#else
    (void)type;
    return 0;
#endif
}

/* Instances with inline values may have a __dict__ as well, which shares the
 * values. 3.13's PyObject_VisitManagedDict then visits the values only. The
 * pointer lies three words before the instance (pycore_object.h); used after
 * layout.c has checked it on a throw-away instance. */
#define CF_HAS_INLINE_VALUES (PY_VERSION_HEX >= 0x030D0000)
#if CF_HAS_INLINE_VALUES
#  define CF_HAS_MANAGED_DICT(type) PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT)
#  define cf_managed_dict(op) (((PyObject **)(op))[-3])
#else
#  define CF_HAS_MANAGED_DICT(type) (false)
#  define cf_managed_dict(op) ((PyObject *)NULL)
#endif

/* Give TYPE its version tag now; otherwise the first attribute look-up in a
 * worker writes it into the type. Runs no Python code. */
static inline void
cf_type_assign_version(PyTypeObject *type, PyObject *interned_name)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)interned_name;
    (void)PyUnstable_Type_AssignVersionTag(type);
#else
    (void)_PyType_Lookup(type, interned_name);
#endif
}

/* -- code objects -------------------------------------------------------- */

/* Calls X(field); for every field of a code object that holds a PyObject *. */
#if PY_VERSION_HEX >= 0x030C0000
#  define CF_CODE_FIELDS(X, co)                                               \
      X((co)->co_consts); X((co)->co_names); X((co)->co_exceptiontable);         \
      X((co)->co_localsplusnames); X((co)->co_localspluskinds);                 \
      X((co)->co_filename); X((co)->co_name); X((co)->co_qualname);              \
      X((co)->co_linetable);                                                   \
      X((co)->_co_cached ? (co)->_co_cached->_co_code : NULL);                 \
      X((co)->_co_cached ? (co)->_co_cached->_co_varnames : NULL);             \
      X((co)->_co_cached ? (co)->_co_cached->_co_cellvars : NULL);             \
      X((co)->_co_cached ? (co)->_co_cached->_co_freevars : NULL);
#elif PY_VERSION_HEX >= 0x030B0000
#  define CF_CODE_FIELDS(X, co)                                               \
      X((co)->co_consts); X((co)->co_names); X((co)->co_exceptiontable);         \
      X((co)->co_localsplusnames); X((co)->co_localspluskinds);                 \
      X((co)->co_filename); X((co)->co_name); X((co)->co_qualname);              \
      X((co)->co_linetable); X((co)->_co_code);
#else
#  define CF_CODE_FIELDS(X, co)                                               \
      X((co)->co_code); X((co)->co_consts); X((co)->co_names);                   \
      X((co)->co_varnames); X((co)->co_freevars); X((co)->co_cellvars);          \
      X((co)->co_filename); X((co)->co_name); X((co)->co_linetable);
#endif

/* A code object's bytecode is its tail, and can be copied with it (3.12: it is
 * quickened when it is made; before, nothing is immortal). */
#define CF_HAS_RELOCATION CF_HAS_IMMORTAL
/* The first execution rewrites RESUME, so it shows what has run. */
#define CF_HAS_RESUME_CHECK (PY_VERSION_HEX >= 0x030D0000)

/* -- collector ----------------------------------------------------------- */

#if CF_HAS_GC_VISIT
typedef gcvisitobjects_t cf_gc_visitor;

static inline void
cf_gc_visit_objects(cf_gc_visitor visit, void *arg)
{
    PyUnstable_GC_VisitObjects(visit, arg);
}
#else
typedef int (*cf_gc_visitor)(PyObject *, void *);

static inline void
cf_gc_visit_objects(cf_gc_visitor visit, void *arg)
{
    (void)visit;
    (void)arg;
}
#endif

/* -- for explanations ---------------------------------------------------- */

/* Where the bytecode and its inline caches begin in a code object; 0: they are
 * in an object of their own (3.10). */
#if PY_VERSION_HEX >= 0x030B0000
#  define CF_CODE_BYTECODE ((ptrdiff_t)offsetof(PyCodeObject, co_code_adaptive))
#else
#  define CF_CODE_BYTECODE ((ptrdiff_t)0)
#endif

/* Offset of the hash that a tuple caches; 0: it caches none. */
#if CF_TUPLE_CACHES_HASH
#  define CF_TUPLE_HASH_OFFSET ((ptrdiff_t)offsetof(PyTupleObject, ob_hash))
#else
#  define CF_TUPLE_HASH_OFFSET ((ptrdiff_t)0)
#endif

/* Where an instance points to its block of attribute values, in words from the
 * object (3.11, 3.12; since 3.13 they lie behind its body); 0: nowhere. The
 * pointer is TAGGED by 1, a dict instead is not (3.12). */
#define CF_VALUES_TAGGED (PY_VERSION_HEX >= 0x030C0000)
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030D0000
#  define CF_VALUES_WORD (PY_VERSION_HEX >= 0x030C0000 ? -3 : -4)
#else
#  define CF_VALUES_WORD 0
#endif
/* Frames of Python functions lie in tstate->datastack_chunk. */
#define CF_HAS_FRAME_STACK (PY_VERSION_HEX >= 0x030B0000)
/* Which layout of interpreter frames frames.h reads: 310 to 314. */
#define CF_FRAME_LAYOUT                                                         \
    (PY_VERSION_HEX >= 0x030E0000 ? 314 : 300 + (PY_VERSION_HEX >> 16 & 0xFF))

/* -- allocator ----------------------------------------------------------- */

/* Which allocator serves PyObject_Malloc: "pymalloc", "malloc", ... or NULL.
 * Exported by all supported versions, declared in no public header. */
PyAPI_FUNC(const char *) _PyMem_GetCurrentAllocatorName(void);

#endif
