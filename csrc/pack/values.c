/* values.c - copies of values in packed memory, each often one stored once.
 *
 *   headers   ... [ str header | text | utf8 ][ int ][ float ] ...
 *   values    [ hash, copy ]   direct-mapped: a value that is still in its place is
 *                              used again. Those that occur often are. NaNs never:
 *                              what equal values do not have, they have, an identity.
 *
 * What an object of the source is made of is copied as it is; what a reader
 * would fill in is filled before: hashes, the UTF-8 form.
 */
#include "pack/values.h"

#include "objects/sizes.h"
#include "pack/kinds.h"

#include <string.h>

#define LONG_VALUE 256 /* bytes from which a shared value is remembered by address */

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

PyObject *
cf_pack_find_or_store(cf_packer *p, PyObject *op, cf_copy_kind kind)
{
    leaf what;
    describe(&what, op, kind);
    if (cf_copy_is_nan(op, kind)) {
        p->outcome->source_bytes += what.whole;
        return store(p, op, kind, &what); /* never one for two */
    }
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
