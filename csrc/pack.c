/* pack.c - an equal, read-only copy of plain data in memory of its own.
 *
 *             headers (a memfd)                    tables (another one)
 *   filled    [ dict ][ str ][ int ][ tuple ...    [ keys ][ items ][ keys ] ...
 *             one after the other, in the order in which a reader meets them
 *   finished  3.12 ...    MAP_PRIVATE, immortal    MAP_PRIVATE, read-only
 *             3.10, 3.11  MAP_SHARED, counts 2^60  MAP_PRIVATE, read-only
 *
 * From 3.12 on nothing writes the headers, and if something does (setattr with a
 * packed name), one page is copied. Before it, every reader writes the counts:
 * into memory that all processes share, so that nothing is copied, and at a
 * distance from 0 that lost updates do not bridge.
 *
 * Invariants:
 *   P1  Nothing is published before everything that can fail is over. A pack
 *       that raises unmaps both arenas and has changed no object.
 *   P2  No Python code runs and the GIL is kept while the source is read, so
 *       borrowed pointers stay valid; the collector is off.
 *   P3  Packed memory refers to packed memory, to what the interpreter never
 *       frees, and to interned strings, which become immortal. It is never
 *       unmapped, because references into it are not counted.
 *   P4  What a reader fills in late is filled: hashes of str, bytes, frozenset
 *       and (3.14) tuples, the UTF-8 of a str.
 *   P5  No packed type has a place for a weak reference or a __dict__ where
 *       headers are shared: such a pointer would be one process's only.
 *   P6  A list's `allocated` is 0 and its items pointer never NULL (pack_containers.c).
 */
#include "pack.h"

#include "mem.h"
#include "packed.h"
#include "packtypes.h"
#include "pageset.h"

#include <errno.h>
#include <string.h>
#include <time.h>

int
cf_pack_init(void)
{
    return cf_packtypes_init() < 0 ? -1 : cf_pack_dict_init();
}

/* -- one value ----------------------------------------------------------- */

static PyObject *
new_container(cf_packer *p, PyObject *op, cf_clone_kind kind)
{
    switch (kind) {
    case CF_CLONE_LIST:
        return cf_pack_list(p, op);
    case CF_CLONE_TUPLE:
        return cf_pack_tuple(p, op);
    case CF_CLONE_DICT:
        p->outcome->source_bytes += 16 + sizeof(PyDictObject);
        return cf_pack_dict(p, op);
    default:
        return cf_pack_set(p, op);
    }
}

/* The copy of OP. If it is a container, it is still empty, and a frame for it
 * is on top (*OPENED). NULL: an exception, or work.refused. */
static PyObject *
make(cf_packer *p, PyObject *op, bool deliver, bool *opened)
{
    cf_clone_work *w = &p->work;
    cf_clone_kind kind = cf_pack_kind_of(op);
    if (kind == CF_CLONE_REFUSED) {
        w->refused = op;
        return NULL;
    }
    if (kind <= CF_CLONE_LEAF) {
        return cf_pack_leaf(p, op, kind);
    }
    bool remember = w->n == 0 || Py_REFCNT(op) != 1;
    if (remember) {
        PyObject *known = (PyObject *)cf_memo_get(&w->memo, op);
        if (known != NULL) {
            p->outcome->references++;
            return known;
        }
    }
    PyObject *copy = new_container(p, op, kind);
    if (copy == NULL || (kind == CF_CLONE_TUPLE && PyTuple_GET_SIZE(op) == 0)) {
        return copy;
    }
    if (remember && cf_memo_set(&w->memo, op, (uintptr_t)copy) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *set = NULL;
    if (kind == CF_CLONE_SET) {
        set = cf_pack_is_frozenset(op) ? PyFrozenSet_New(NULL) : PySet_New(NULL);
        if (set == NULL) {
            return NULL;
        }
    }
    if (w->n == w->capacity && cf_clone_grow_frames(w) < 0) {
        Py_XDECREF(set);
        return NULL;
    }
    w->frames[w->n++] = (cf_clone_frame){
        .src = op, .dst = copy, .set = set, .kind = (uint8_t)kind, .deliver = deliver};
    *opened = true;
    return copy;
}

/* -- filling ------------------------------------------------------------- */

typedef enum { FILLED, OPENED, FAILED } progress;

/* F may move when a frame is pushed: it is not used after make() opened one. */
static progress
fill_items(cf_packer *p, cf_clone_frame *f)
{
    bool list = f->kind == CF_CLONE_LIST;
    PyObject **from = list ? ((PyListObject *)f->src)->ob_item : ((PyTupleObject *)f->src)->ob_item;
    PyObject **to = list ? ((PyListObject *)f->dst)->ob_item : ((PyTupleObject *)f->dst)->ob_item;
    Py_ssize_t n = Py_SIZE(f->src);
    bool opened = false;
    while (f->i < n) {
        Py_ssize_t i = f->i++;
        if (from[i] == NULL) {
            p->work.refused = f->src; /* a tuple that C code is still filling */
            return FAILED;
        }
        to[i] = make(p, from[i], false, &opened);
        if (to[i] == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
    return FILLED;
}

static progress
fill_dict(cf_packer *p, cf_clone_frame *f)
{
    PyObject *key, *value;
    size_t mine = p->work.n - 1;
    for (;;) {
        Py_ssize_t before = f->i;
        bool opened = false;
        if (!PyDict_Next(f->src, &f->i, &key, &value)) {
            return FILLED;
        }
        f->at = key;
        if (!f->key_ready) {
            PyObject *copy = make(p, key, true, &opened);
            if (copy == NULL) {
                return FAILED;
            }
            if (opened) {
                p->work.frames[mine].i = before; /* the same entry again, for its value */
                return OPENED;
            }
            f->key = copy;
        }
        f->key_ready = false;
        PyObject **place = cf_pack_dict_add(f->dst, f->key, Py_None);
        if (place == NULL) {
            return FAILED;
        }
        *place = make(p, value, false, &opened);
        if (*place == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
}

static progress
fill_set(cf_packer *p, cf_clone_frame *f)
{
    const PySetObject *set = (const PySetObject *)f->src;
    bool opened = false;
    for (;;) {
        if (f->key_ready) {
            f->key_ready = false;
            if (PySet_Add(f->set, f->key) < 0) {
                return FAILED;
            }
        }
        if (f->i > set->mask) {
            return cf_pack_finish_set(p, f) < 0 ? FAILED : FILLED;
        }
        const setentry *entry = &set->table[f->i++];
        if (entry->key == NULL || entry->hash == -1) {
            continue; /* free, or deleted */
        }
        f->at = entry->key;
        PyObject *copy = make(p, entry->key, true, &opened);
        if (copy == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
        f->key = copy;
        f->key_ready = true;
    }
}

static void
close_frame(cf_packer *p)
{
    cf_clone_frame *f = &p->work.frames[--p->work.n];
    if (f->kind == CF_CLONE_TUPLE) {
        cf_pack_warm_tuple(f->dst);
    }
    if (f->deliver) {
        (f - 1)->key = f->dst;
        (f - 1)->key_ready = true;
    }
}

static PyObject *
copy_graph(cf_packer *p, PyObject *root)
{
    bool opened = false;
    PyObject *copy = make(p, root, false, &opened);
    while (copy != NULL && p->work.n > 0) {
        cf_clone_frame *f = &p->work.frames[p->work.n - 1];
        progress done = f->kind == CF_CLONE_DICT  ? fill_dict(p, f)
                        : f->kind == CF_CLONE_SET ? fill_set(p, f)
                                                  : fill_items(p, f);
        if (done == FAILED) {
            return NULL;
        }
        if (done == FILLED) {
            close_frame(p);
        }
    }
    return copy;
}

/* -- the operation ------------------------------------------------------- */

static int
open_packer(cf_packer *p)
{
    p->headers.fd = p->tables.fd = -1;
    if (cf_arena_open(&p->headers, CF_ARENA_OF_HEADERS) < 0
        || cf_arena_open(&p->tables, CF_ARENA_OF_TABLES) < 0) {
        cf_pack_no_memory();
        return -1;
    }
    p->values = cf_mem_map(CF_PACK_VALUES * sizeof(cf_pack_value));
    if (p->values == NULL || cf_packed_reserve() < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Book the pages of ARENA as frozen ones. Returns 0, or -1 with an exception. */
static int
book(const cf_arena *arena)
{
    if (cf_frozen_pages == NULL) {
        cf_frozen_pages = cf_pageset_new();
    }
    if (cf_frozen_pages == NULL
        || cf_pageset_add(cf_frozen_pages, (uintptr_t)arena->base,
                          (uintptr_t)arena->base + arena->used) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* P1: the last steps that can fail, then those that cannot. */
static int
publish(cf_packer *p)
{
    p->outcome->header_bytes = p->headers.used;
    p->outcome->table_bytes = p->tables.used;
    if (cf_arena_finish(&p->tables, CF_ARENA_TABLES) < 0
        || cf_arena_finish(&p->headers, CF_HAS_IMMORTAL ? CF_ARENA_PRIVATE : CF_ARENA_SHARED)
               < 0) {
        cf_pack_no_memory();
        return -1;
    }
    if ((p->headers.used > 0 && book(&p->headers) < 0)
        || (p->tables.used > 0 && book(&p->tables) < 0)) {
        return -1;
    }
    cf_packed_add((uintptr_t)p->headers.base, (uintptr_t)p->headers.base + p->headers.used,
                  (uintptr_t)p->tables.base, (uintptr_t)p->tables.base + p->tables.used);
    const cf_memo *memo = &p->work.memo;
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        PyObject *op = (PyObject *)memo->slots[i].key;
        if (memo->slots[i].stamp == memo->stamp && memo->slots[i].value == (uintptr_t)op) {
            p->outcome->kept++;
            if (!cf_header_done(op)) {
                Py_INCREF(op);
                cf_str_prepare(op);
                cf_header_freeze(op);
            }
        }
    }
    return 0;
}

static void
close_packer(cf_packer *p, bool keep)
{
    while (p->work.n > 0) {
        Py_XDECREF(p->work.frames[--p->work.n].set);
    }
    cf_clone_work_clear(&p->work);
    cf_mem_unmap(p->values, CF_PACK_VALUES * sizeof(cf_pack_value));
    if (!keep) {
        cf_arena_close(&p->headers);
        cf_arena_close(&p->tables);
    }
}

static double
now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

PyObject *
cf_pack(PyObject *root, cf_pack_outcome *outcome)
{
    *outcome = (cf_pack_outcome){0};
    cf_packer p = {.outcome = outcome};
    double start = now();
    int was_enabled = PyGC_Disable();
    PyObject *copy = open_packer(&p) < 0 ? NULL : copy_graph(&p, root);
    if (p.work.refused != NULL) {
        PyObject *path = PyTuple_New(0);
        if (path != NULL) {
            cf_clone_refuse(&p.work, path, -1, "packed");
            Py_DECREF(path);
        }
    }
    if (copy != NULL && publish(&p) < 0) {
        copy = NULL;
    }
    close_packer(&p, copy != NULL);
    if (was_enabled) {
        PyGC_Enable();
    }
    outcome->seconds = now() - start;
    Py_XINCREF(copy);
    return copy;
}
