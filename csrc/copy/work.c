/* work.c - work memory of clones: frames, and copies of dict keys.
 *
 *   frames   [ outermost ][ ... ][ top ]       grows by doubling; mmap'ed
 *   keys     [ source, copy ] x 256            direct-mapped by address
 *
 * Records have the same few keys, so their copies are kept: within one clone,
 * and for an iterator from element to element. There an address may belong to
 * another str by now, so the characters decide.
 */
#include "copy/copy.h"

#include "base/mem.h"

#include <string.h>

#define FIRST_FRAMES 128
#define KEPT_FRAMES 4096
#define LONGEST_KEY 64

/* -- work memory --------------------------------------------------------- */

int
cf_copy_grow_frames(cf_copy_work *w)
{
    size_t capacity = w->capacity == 0 ? FIRST_FRAMES : w->capacity * 2;
    cf_copy_frame *frames = cf_mem_map(capacity * sizeof(*frames));
    if (frames == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (w->n > 0) {
        memcpy(frames, w->frames, w->n * sizeof(*frames));
    }
    cf_mem_unmap(w->frames, w->capacity * sizeof(*frames));
    w->frames = frames;
    w->capacity = capacity;
    return 0;
}

static void
forget_keys(cf_copy_work *w)
{
    for (size_t i = 0; i < CF_COPY_KEYS; i++) {
        Py_CLEAR(w->keys[i].copy);
    }
}

void
cf_copy_work_clear(cf_copy_work *w)
{
    forget_keys(w);
    cf_memo_clear(&w->memo);
    cf_mem_unmap(w->frames, w->capacity * sizeof(*w->frames));
    w->frames = NULL;
    w->capacity = 0;
}

void
cf_copy_finish(cf_copy_work *w)
{
    while (w->n > 0) {
        cf_copy_frame *f = &w->frames[--w->n];
        Py_XDECREF(f->key);
        if (f->deliver) {
            Py_DECREF(f->dst);
        }
    }
    cf_memo_empty(&w->memo);
    if (!w->keep_keys) {
        forget_keys(w);
    }
    if (w->capacity > KEPT_FRAMES) {
        cf_mem_unmap(w->frames, w->capacity * sizeof(*w->frames));
        w->frames = NULL;
        w->capacity = 0;
    }
}

/* -- keys ---------------------------------------------------------------- */

PyObject *
cf_copy_key(cf_copy_work *w, PyObject *op)
{
    if (cf_header_untouched(op)) {
        Py_INCREF(op); /* writes nothing */
        return op;
    }
    if (PyUnicode_GET_LENGTH(op) > LONGEST_KEY) {
        return cf_copy_str(op);
    }
    size_t i = cf_memo_hash(op) % CF_COPY_KEYS;
    PyObject *known = w->keys[i].copy;
    if (known == NULL || w->keys[i].src != op
        || PyUnicode_GET_LENGTH(known) != PyUnicode_GET_LENGTH(op)
        || PyUnicode_KIND(known) != PyUnicode_KIND(op)
        || memcmp(PyUnicode_DATA(known), PyUnicode_DATA(op),
                  (size_t)PyUnicode_GET_LENGTH(op) * (size_t)PyUnicode_KIND(op)) != 0) {
        PyObject *copy = cf_copy_str(op);
        if (copy == NULL) {
            return NULL;
        }
        Py_XDECREF(known);
        w->keys[i].src = op;
        w->keys[i].copy = known = copy;
    }
    Py_INCREF(known);
    return known;
}

PyObject *
cf_copy_str(PyObject *op)
{
#if CF_HAS_LEGACY_STR
    if (!PyUnicode_IS_READY(op)) {
        const PyASCIIObject *old = (const PyASCIIObject *)op;
        return PyUnicode_FromWideChar(old->wstr, ((const PyCompactUnicodeObject *)op)->wstr_length);
    }
#endif
    static const Py_UCS4 largest[] = {0, 0xFF, 0xFFFF, 0, 0x10FFFF};
    size_t kind = (size_t)PyUnicode_KIND(op);
    Py_ssize_t length = PyUnicode_GET_LENGTH(op);
    PyObject *copy =
        PyUnicode_New(length, PyUnicode_IS_ASCII(op) ? 0x7F : largest[kind]);
    if (copy != NULL && length > 0) {
        memcpy(PyUnicode_DATA(copy), PyUnicode_DATA(op), (size_t)length * kind);
        ((PyASCIIObject *)copy)->hash = ((PyASCIIObject *)op)->hash;
    }
    return copy;
}
