/* pack.c - an equal, read-only copy of plain data in memory of its own.
 *
 *             headers (a memfd)                    tables (another one)
 *   filled    [ dict ][ str ][ int ][ tuple ...    [ keys ][ items ][ keys ] ...
 *             one after the other, in the order in which a reader meets them
 *   finished  3.12 ...    MAP_PRIVATE, immortal    MAP_PRIVATE
 *             3.10, 3.11  MAP_SHARED, counts 2^60  MAP_PRIVATE, read-only
 *
 * From 3.12 on nothing writes them, and if something does (setattr with a packed name,
 * C code that stores into a dict that it was given), one page is copied, and no other process
 * sees it. Before it, every reader writes the counts:
 * into memory that all processes share, so that nothing is copied, and at a
 * distance from 0 that lost updates do not bridge.
 *
 * Invariants:
 *   P1  Nothing is published before everything that can fail is over. A pack
 *       that raises unmaps both arenas and has changed no object.
 *   P2  No Python code runs and the GIL is kept while the source is walked, so
 *       borrowed pointers stay valid; the collector is off. NumPy copies large
 *       data without the GIL, so arrays are filled when the walk is over.
 *   P3  Packed memory refers to packed memory, to what the interpreter never
 *       frees, to interned strings, which become immortal, and to what the
 *       keeper holds (outside.c). It is never unmapped, because references
 *       into it are not counted.
 *   P4  What a reader fills in late is filled: hashes of str, bytes, frozenset
 *       and (3.14) tuples, the UTF-8 of a str.
 *   P5  Where headers are shared, nothing that Python code can write lies in
 *       packed memory: no place for a weak reference, a __dict__ or a slot, for
 *       such a pointer would be one process's only, and no assignment to
 *       __class__. What Python code makes C code do to a packed list or dict is refused
 *       (refuse.c), as far as it can be.
 *   P6  Where headers are shared, a list's `allocated` is 0 and its items pointer never NULL
 *       (containers.c). Where they are private, no C function can end the process by writing:
 *       tables are writable, and never malloc's (allocators/packed_tables.c).
 *
 * Each room of this folder knows only those below it:
 *
 *   pack > graph > leaves > arrays, containers > dict, values, sets, outside, refuse > store
 *        > arena, kinds
 */
#include "pack/pack.h"

#include "allocators/packed_tables.h"
#include "base/invariants.h"
#include "base/mem.h"
#include "base/pageset.h"
#include "objects/packed_memory.h"
#include "objects/packed_types.h"
#include "pack/arrays.h"
#include "pack/dict.h"
#include "pack/graph.h"
#include "pack/kinds.h"
#include "pack/leaves.h"
#include "pack/outside.h"
#include "pack/refuse.h"

#include <errno.h>
#include <string.h>
#include <time.h>

int
cf_pack_init(void)
{
    return cf_packtypes_init() < 0 || cf_pack_kinds_init() < 0 || cf_pack_leaves_init() < 0
               ? -1
               : cf_pack_dict_init();
}

/* -- the operation ------------------------------------------------------- */

static int
open_packer(cf_packer *p)
{
    p->headers.fd = p->tables.fd = -1;
    if (cf_pack_guard_containers() < 0) {
        return -1;
    }
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
    if (cf_arena_finish(&p->tables, CF_HEADERS_ARE_SHARED ? CF_ARENA_READ_ONLY : CF_ARENA_PRIVATE) < 0
        || cf_arena_finish(&p->headers, CF_HEADERS_ARE_SHARED ? CF_ARENA_SHARED : CF_ARENA_PRIVATE)
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
    if (!CF_HEADERS_ARE_SHARED) {
        cf_packed_tables_guard(); /* P6 */
    }
    const cf_memo *memo = &p->work.memo;
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        PyObject *op = (PyObject *)memo->slots[i].key;
        if (memo->slots[i].stamp == memo->stamp && memo->slots[i].value == (uintptr_t)op
            && PyUnicode_CheckExact(op)) {
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
    p->work.n = 0; /* frames own nothing */
    Py_CLEAR(p->fillings); /* views of memory that may be unmapped */
    if (!keep) {
        cf_pack_drop_outside(p);
    }
    Py_CLEAR(p->made);
    Py_CLEAR(p->referred);
    cf_copy_work_clear(&p->work);
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
cf_pack(PyObject *root, bool readonly, cf_pack_outcome *outcome, PyObject **keeper)
{
    *outcome = (cf_pack_outcome){0};
    *keeper = NULL;
    cf_packer p = {.outcome = outcome, .readonly = readonly};
    double start = now();
    int was_enabled = PyGC_Disable();
    PyObject *copy = open_packer(&p) < 0 ? NULL : cf_pack_graph(&p, root);
    CF_HOLDS("P2", !PyGC_IsEnabled() && (copy == NULL || p.work.n == 0));
    if (p.work.refused != NULL) {
        PyObject *path = PyTuple_New(0);
        if (path != NULL) {
            cf_copy_refuse(&p.work, path, -1, "packed");
            Py_DECREF(path);
        }
    }
    if (copy != NULL
        && (cf_pack_fill_arrays(&p) < 0 || (*keeper = cf_pack_keeper(&p)) == NULL
            || publish(&p) < 0)) {
        copy = NULL;
        Py_CLEAR(*keeper);
    }
    close_packer(&p, copy != NULL);
    if (was_enabled) {
        PyGC_Enable();
    }
    outcome->seconds = now() - start;
    Py_XINCREF(copy);
    return copy;
}

/* -- repair -------------------------------------------------------------- */

#if CF_HEADERS_ARE_SHARED
/* Does what GUARD says of its owner still hold? If not, it is written again. */
static bool
restore(const cf_pack_guard *guard)
{
    PyObject *op = guard->owner;
    void *table = (void *)(guard + 1);
    if (op == NULL) {
        return false; /* the data of an array */
    }
    if (Py_TYPE(op) == &cf_packed_list_type) {
        PyListObject *list = (PyListObject *)op;
        if (list->ob_item == table && Py_SIZE(list) == guard->n && list->allocated == 0) {
            return false;
        }
        list->ob_item = table;
        list->allocated = 0;
        Py_SET_SIZE((PyVarObject *)list, guard->n);
        return true;
    }
    if (Py_TYPE(op) == &cf_packed_dict_type) {
        PyDictObject *dict = (PyDictObject *)op;
        if ((void *)dict->ma_keys == table && dict->ma_used == guard->n
            && dict->ma_values == NULL) {
            return false;
        }
        dict->ma_values = NULL;
        dict->ma_keys = table;
        dict->ma_used = guard->n;
        return true;
    }
    return false; /* C code cannot change a frozenset that others know */
}
#endif

size_t
cf_pack_repair(void)
{
    size_t wrong = 0;
#if CF_HEADERS_ARE_SHARED
    uintptr_t at, end;
    for (size_t i = 0; cf_packed_tables(i, &at, &end); i++) {
        while (at < end) {
            const cf_pack_guard *guard = (const cf_pack_guard *)at;
            wrong += restore(guard);
            at += sizeof(*guard) + (size_t)-guard->minus_size;
        }
    }
#endif
    return wrong;
}
