/* values.c - copies of values in packed memory, each often one stored once.
 *
 *   headers   ... [ str header | text | utf8 ][ int ][ gc 16 x 0 | tuple | items ] ...
 *   tables    ... [ guard ][ items of a list ][ guard ][ keys of a dict ] ...
 *   values    [ hash, copy ]   direct-mapped: a value that is still in its place is
 *                              used again. Those that occur often are.
 *
 * What an object of the source is made of is copied as it is; what a reader
 * would fill in is filled before: hashes, the UTF-8 form.
 *
 * The zero in front of each table (the guard's last word) is what malloc's chunk header would be: free()
 * and realloc() of a table (C code that shrinks a list that it was given) abort
 * at once ("invalid pointer") instead of believing what lies there.
 */
#include "pack/pack.h"

#include "base/mem.h"
#include "objects/packed_types.h"
#include "objects/sizes.h"

#include <errno.h>
#include <string.h>

#define GC_HEAD 16
#define LONG_VALUE 256 /* bytes from which a shared value is remembered by address */

void
cf_pack_no_memory(void)
{
    if (errno == EPERM || errno == ENOSYS || errno == EACCES) {
        PyErr_Format(PyExc_OSError,
                     "cowfreeze.pack(): memfd_create is not allowed here (%s); a seccomp filter or "
                     "an old kernel. Allow it, or use cowfreeze.freeze()",
                     strerror(errno));
        return;
    }
    PyErr_Format(PyExc_MemoryError,
                 "cowfreeze.pack(): no memory for the copy (%s); nothing was changed. Limits on "
                 "address space (ulimit -v), on file size (ulimit -f) and of the memory cgroup "
                 "count",
                 strerror(errno));
}

/* The count of an object that is never freed: immortal, or far from 0. */
static void
mark(PyObject *op)
{
#if CF_HAS_IMMORTAL
    cf_header_freeze(op);
#else
    op->ob_refcnt = CF_COUNT_SHARED;
#endif
}

PyObject *
cf_pack_object(cf_packer *p, PyTypeObject *type, size_t size, bool gc)
{
    size_t before = (gc || PyType_IS_GC(type) ? GC_HEAD : 0) + cf_type_prefix(type);
    char *block = cf_arena_take(&p->headers, before + size);
    if (block == NULL) {
        cf_pack_no_memory();
        return NULL;
    }
    PyObject *op = (PyObject *)(block + before);
    op->ob_type = type;
    mark(op);
    p->outcome->objects++;
    return op;
}

void *
cf_pack_table(cf_packer *p, PyObject *owner, Py_ssize_t n, size_t size)
{
    cf_pack_guard *guard = cf_arena_take(&p->tables, sizeof(*guard) + size);
    if (guard == NULL) {
        cf_pack_no_memory();
        return NULL;
    }
#if CF_HEADERS_ARE_SHARED
    *guard = (cf_pack_guard){.owner = owner, .n = n, .size = (size + 7) & ~(size_t)7};
#else
    (void)owner;
    (void)n;
#endif
    return guard + 1;
}

/* -- kinds --------------------------------------------------------------- */

cf_copy_kind
cf_pack_kind_of(PyObject *op)
{
    cf_copy_kind kind = cf_copy_kind_of(op);
    switch (kind) {
    case CF_COPY_BYTEARRAY:
        return CF_COPY_REFUSED; /* nothing but its contents, which anybody may change */
    case CF_COPY_REFERENCE:
        return cf_pack_is_timezone(op) ? CF_COPY_TIMEZONE : kind;
    case CF_COPY_REFUSED:
        return cf_pack_is_array(op) ? CF_COPY_ARRAY : kind;
    case CF_COPY_INSTANCE: /* an object() is nothing but its identity */
        return Py_TYPE(op) == &PyBaseObject_Type ? CF_COPY_REFUSED : kind;
    case CF_COPY_TUPLE:
        return Py_TYPE(op)->tp_basicsize == PyTuple_Type.tp_basicsize
                       && cf_type_prefix(Py_TYPE(op)) == 0
                   ? kind
                   : CF_COPY_REFUSED;
    default:
        return kind;
    }
}

/* Classes of the standard library whose hash is that of their value. */
static bool
is_value_class(PyTypeObject *type)
{
    const char *home = strcmp(type->tp_name, "UUID") == 0       ? "uuid"
                       : strcmp(type->tp_name, "Fraction") == 0 ? "fractions"
                                                                : NULL;
    PyObject *dict = home != NULL ? cf_type_dict(type) : NULL;
    PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
    return module != NULL && PyUnicode_Check(module)
           && PyUnicode_CompareWithASCIIString(module, home) == 0;
}

bool
cf_pack_keeps_hash(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_TUPLE:
        return Py_TYPE(op)->tp_hash == PyTuple_Type.tp_hash;
    case CF_COPY_SET:
        return cf_pack_is_frozenset(op);
    case CF_COPY_INSTANCE:
        return is_value_class(Py_TYPE(op));
    case CF_COPY_ARRAY:
        return false;
    default:
        return kind <= CF_COPY_LEAF;
    }
}

/* -- values -------------------------------------------------------------- */

/* What makes two leaves of one type the same, and where it lies. */
typedef struct {
    const char *content;
    size_t size;       /* of it */
    size_t whole;      /* of the object */
    uint64_t hash;
} leaf;

static uint64_t
mix(const char *content, size_t size, uint64_t seed)
{
    uint64_t hash = seed;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, content + i, 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    for (size_t i = size & ~(size_t)7; i < size; i++) {
        hash = (hash ^ (unsigned char)content[i]) * UINT64_C(0x100000001B3);
    }
    return hash ^ (hash >> 32);
}

static void
describe(leaf *what, PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_STR:
        what->content = PyUnicode_DATA(op);
        what->size = (size_t)PyUnicode_GET_LENGTH(op) * (size_t)PyUnicode_KIND(op);
        what->whole = cf_str_size(op);
        what->hash = (uint64_t)((PyASCIIObject *)op)->hash;
        return;
    case CF_COPY_BYTES:
        what->content = PyBytes_AS_STRING(op);
        what->size = (size_t)PyBytes_GET_SIZE(op);
        what->whole = offsetof(PyBytesObject, ob_sval) + what->size + 1;
        what->hash = mix(what->content, what->size < 64 ? what->size : 64, what->size);
        return;
    case CF_COPY_INT:
        what->whole = cf_int_size(op);
        what->content = (const char *)op + sizeof(PyObject);
        what->size = what->whole - sizeof(PyObject);
        break;
    case CF_COPY_DATETIME:
        what->whole = cf_pack_datetime_size(op);
        what->content = (const char *)op + CF_DATETIME_HASH_END;
        what->size = what->whole - CF_DATETIME_HASH_END;
        break;
    default: /* float, complex, range, timezone */
        what->whole = (size_t)Py_TYPE(op)->tp_basicsize;
        what->content = (const char *)op + sizeof(PyObject);
        what->size = what->whole - sizeof(PyObject);
        break;
    }
    what->hash = mix(what->content, what->size, (uint64_t)kind);
}

static bool
is_same(PyObject *stored, PyObject *op, cf_copy_kind kind, const leaf *mine)
{
    leaf other;
    if (Py_TYPE(stored) != Py_TYPE(op)) {
        return false;
    }
    if (kind == CF_COPY_STR
        && (PyUnicode_KIND(stored) != PyUnicode_KIND(op)
            || PyUnicode_GET_LENGTH(stored) != PyUnicode_GET_LENGTH(op))) {
        return false;
    }
    describe(&other, stored, kind);
    return other.size == mine->size && memcmp(other.content, mine->content, mine->size) == 0;
}

/* Take out of OP, a copied header, what was true of its source only. */
static void
reset_str(PyObject *op)
{
    PyASCIIObject *str = (PyASCIIObject *)op;
    str->state.interned = 0;
#if CF_HAS_LEGACY_STR
    bool wide = !PyUnicode_IS_ASCII(op) && PyUnicode_KIND(op) == sizeof(wchar_t);
    str->wstr = wide ? (wchar_t *)PyUnicode_DATA(op) : NULL;
    if (!PyUnicode_IS_ASCII(op)) {
        ((PyCompactUnicodeObject *)op)->wstr_length = wide ? PyUnicode_GET_LENGTH(op) : 0;
    }
#else
    str->state.statically_allocated = 0;
#endif
}

/* A compact str in packed memory, hash and UTF-8 filled in. */
static PyObject *
pack_str(cf_packer *p, PyObject *op, size_t whole)
{
    PyObject *utf8 = NULL, *copy = NULL;
    size_t size = (whole + 7) & ~(size_t)7;
    size_t extra = 0;
    if (!PyUnicode_IS_ASCII(op)) {
        utf8 = PyUnicode_AsUTF8String(op);
        if (utf8 == NULL) {
            PyErr_Clear(); /* surrogates: it has none, and nobody can store one */
        }
        else {
            extra = (size_t)PyBytes_GET_SIZE(utf8) + 1;
        }
    }
    copy = cf_pack_object(p, &PyUnicode_Type, size + extra, false);
    if (copy == NULL) {
        goto done;
    }
    memcpy((char *)copy + sizeof(PyObject), (char *)op + sizeof(PyObject),
           whole - sizeof(PyObject));
    reset_str(copy);
    if (!PyUnicode_IS_ASCII(copy)) {
        PyCompactUnicodeObject *compact = (PyCompactUnicodeObject *)copy;
        compact->utf8 = NULL;
        compact->utf8_length = 0;
        if (utf8 != NULL) {
            compact->utf8 = (char *)copy + size;
            compact->utf8_length = PyBytes_GET_SIZE(utf8);
            memcpy(compact->utf8, PyBytes_AS_STRING(utf8), extra);
        }
    }
    cf_str_prepare(copy);

done:
    Py_XDECREF(utf8);
    return copy;
}

static PyObject *
store(cf_packer *p, PyObject *op, cf_copy_kind kind, const leaf *what)
{
    if (kind == CF_COPY_STR) {
        return pack_str(p, op, what->whole);
    }
    PyObject *copy = cf_pack_object(p, Py_TYPE(op), what->whole, false);
    if (copy != NULL) {
        memcpy((char *)copy + sizeof(PyObject), (char *)op + sizeof(PyObject),
               what->whole - sizeof(PyObject));
    }
    return copy;
}

/* An object that the interpreter has one of and never frees: packed memory need
 * not count it. Takes over a reference. */
static PyObject *
own(PyObject *op)
{
    Py_XDECREF(op);
    return op;
}

/* An interned str stays the same object, so that looking up a literal finds it
 * by identity. It is made immortal once nothing can fail any more (pack.c). */
static PyObject *
keep(cf_packer *p, PyObject *op)
{
    if (cf_memo_set(&p->work.memo, op, (uintptr_t)op) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return op;
}

PyObject *
cf_pack_find_or_store(cf_packer *p, PyObject *op, cf_copy_kind kind)
{
    leaf what;
    describe(&what, op, kind);
    bool by_address = what.whole >= LONG_VALUE && Py_REFCNT(op) != 1;
    if (by_address) {
        PyObject *known = (PyObject *)cf_memo_get(&p->work.memo, op);
        if (known != NULL) {
            p->outcome->references++;
            return known;
        }
    }
    cf_pack_value *place = &p->values[(what.hash ^ (what.hash >> 20)) % CF_PACK_VALUES];
    if (place->op != NULL && place->hash == what.hash && is_same(place->op, op, kind, &what)) {
        p->outcome->references++;
        return place->op;
    }
    PyObject *copy = store(p, op, kind, &what);
    if (copy == NULL) {
        return NULL;
    }
    p->outcome->source_bytes += what.whole;
    *place = (cf_pack_value){copy, what.hash};
    if (by_address && cf_memo_set(&p->work.memo, op, (uintptr_t)copy) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return copy;
}

PyObject *
cf_pack_leaf(cf_packer *p, PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_SINGLETON:
        return op;
    case CF_COPY_REFERENCE:
        return cf_pack_refer(p, op);
    case CF_COPY_ARRAY:
        return cf_pack_array(p, op);
    case CF_COPY_RANGE:
    case CF_COPY_DATETIME:
    case CF_COPY_TIMEZONE:
    case CF_COPY_DECIMAL:
        return cf_pack_scalar(p, op, kind);
    default:
        break;
    }
    if (kind == CF_COPY_INT) {
        int overflow;
        long value = PyLong_AsLongAndOverflow(op, &overflow);
        if (!overflow && value >= -5 && value <= 256) {
            return own(PyLong_FromLong(value));
        }
    }
    else if (kind == CF_COPY_STR) {
        if (PyObject_Hash(op) == -1) {
            return NULL;
        }
        if (PyUnicode_GET_LENGTH(op) == 0) {
            return own(PyUnicode_New(0, 0));
        }
        if (PyUnicode_CHECK_INTERNED(op)) {
            return keep(p, op);
        }
        if (!PyUnicode_IS_COMPACT(op)) {
            PyObject *compact = cf_copy_str(op);
            PyObject *copy = compact != NULL && PyObject_Hash(compact) != -1
                                 ? store(p, compact, kind, &(leaf){.whole = cf_str_size(compact)})
                                 : NULL;
            Py_XDECREF(compact);
            return copy;
        }
    }
    else if (kind == CF_COPY_BYTES) {
        if (PyBytes_GET_SIZE(op) == 0) {
            return own(PyBytes_FromStringAndSize(NULL, 0));
        }
        if (PyObject_Hash(op) == -1) {
            return NULL;
        }
    }
    return cf_pack_find_or_store(p, op, kind);
}
