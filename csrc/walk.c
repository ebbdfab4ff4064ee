/* walk.c - from the roots to every object that a freeze takes.
 *
 *   roots -> todo [ A ][ B ][ C, from item 256 ] ...      a stack of words: object, or
 *              |                                          position and (object | 1)
 *              v pop, follow the edges
 *            seen?  (objset.c: a bit per object)
 *              v new
 *            met  [ o o o o o o o o ]   ring; the headers are being fetched
 *              v CF_COMING objects later
 *            settle: decide, warm, mark, untrack; push if it has edges
 *
 * An object is read once: it is warmed and marked while it is in the cache,
 * because reading 300 MB of headers again costs as much as all the rest. That
 * is safe only because nothing can fail: all memory that a walk can need is
 * reserved first, as address space (I1). A heap of N bytes cannot hold more
 * than N / 32 objects with edges, so the stack cannot overflow either.
 *
 * Memory is what a walk waits for, so a new object is not looked at when it is
 * met, but a few objects later, when its header has arrived.
 *
 * Depth costs stack words, never C stack, and every object is pushed once.
 * Wide containers are taken in portions, so that a list of ten million lists
 * does not put ten million words on the stack.
 *
 * Objects that are frozen already are followed too (what was added to a frozen
 * list since the last freeze must be found), but not written (I3).
 */
#include "walk.h"

#include "edges.h"
#include "layout.h"
#include "maps.h"
#include "mem.h"
#include "sizes.h"
#include "warm.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PORTION 256
/* Tags on the words of todo; objects lie on 8-byte boundaries. */
#define POSITION_FOLLOWS 1u
#define NOT_SETTLED 2u
#define NEW_DICT 4u /* its table is still to be counted */
#define TAGS 7u

#define TYPE_INDEX_SIZE (2 * CF_MAX_TYPES)

/* -- memory -------------------------------------------------------------- */

/* Bytes and 1 MiB regions of everything that is mapped. */
static void
measure_process(size_t *bytes, size_t *regions)
{
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    int status = -1;
    *bytes = 0;
    *regions = 0;
    if (buffer != NULL && fd >= 0) {
        cf_maps maps;
        cf_mapping mapping;
        cf_maps_begin(&maps, fd, buffer, CF_MAPS_BUFFER);
        while ((status = cf_maps_next(&maps, &mapping)) == 1) {
            *bytes += mapping.end - mapping.start;
            *regions += (mapping.end >> CF_OBJSET_REGION_SHIFT)
                        - (mapping.start >> CF_OBJSET_REGION_SHIFT) + 1;
        }
    }
    if (status < 0) {
        /* No /proc: a heap is not larger than the machine's memory. */
        *bytes = (size_t)sysconf(_SC_PHYS_PAGES) * cf_page_size();
        *regions = (*bytes >> CF_OBJSET_REGION_SHIFT) + CF_MAX_TYPES;
    }
    if (fd >= 0) {
        close(fd);
    }
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
}

int
cf_plan_reserve(cf_plan *plan)
{
    size_t bytes, regions;
    memset(plan, 0, sizeof(*plan));
    measure_process(&bytes, &regions);
    plan->page_mask = ~((uintptr_t)cf_page_size() - 1);
    plan->tables = cf_pageset_new();
    plan->infos = cf_mem_reserve(CF_MAX_TYPES * sizeof(cf_typeinfo));
    plan->type_index = cf_mem_reserve(TYPE_INDEX_SIZE * sizeof(uint32_t));
    if (plan->tables == NULL || plan->infos == NULL || plan->type_index == NULL
        || cf_pageset_reserve_regions(plan->tables, regions) < 0
        /* Twice: objects off the 16-byte grid have regions of their own. */
        || cf_objset_reserve(&plan->seen, 2 * regions) < 0
        || cf_stack_reserve(&plan->todo, bytes / 32 + 2 * PORTION) < 0
        || cf_stack_reserve(&plan->skipped, bytes / 32 + 1) < 0
        || cf_stack_reserve(&plan->codes, bytes / 64 + 1) < 0) {
        cf_plan_clear(plan);
        return -1;
    }
    return 0;
}

void
cf_plan_clear(cf_plan *plan)
{
    cf_objset_clear(&plan->seen);
    cf_pageset_free(plan->tables);
    cf_stack_clear(&plan->todo);
    cf_stack_clear(&plan->skipped);
    cf_stack_clear(&plan->codes);
    cf_mem_unmap(plan->infos, CF_MAX_TYPES * sizeof(cf_typeinfo));
    cf_mem_unmap(plan->type_index, TYPE_INDEX_SIZE * sizeof(uint32_t));
    memset(plan, 0, sizeof(*plan));
}

size_t
cf_plan_used_bytes(const cf_plan *plan)
{
    return cf_objset_used_bytes(&plan->seen) + cf_stack_used_bytes(&plan->todo)
           + cf_stack_used_bytes(&plan->skipped) + cf_stack_used_bytes(&plan->codes)
           + plan->n_infos * (sizeof(cf_typeinfo) + 2 * sizeof(uint32_t))
           + cf_pageset_used_bytes(plan->tables);
}

/* -- types --------------------------------------------------------------- */

static inline void discover(cf_plan *plan, PyObject *op);

static inline size_t
type_way(PyTypeObject *type)
{
    return ((uintptr_t)type >> 4 ^ (uintptr_t)type >> 12) % CF_TYPE_CACHE;
}

/* A type that is met for the first time is discovered itself: readers count
 * it. That recurses only along type(type(...)), as deep as metaclasses are
 * stacked. */
static cf_typeinfo *
find_type_slowly(cf_plan *plan, PyTypeObject *type)
{
    size_t i = (size_t)((uintptr_t)type * 0x9E3779B97F4A7C15u >> 32) % TYPE_INDEX_SIZE;
    while (plan->type_index[i] != 0
           && plan->infos[plan->type_index[i] - 1].type != type) {
        i = (i + 1) % TYPE_INDEX_SIZE;
    }
    cf_typeinfo *info;
    if (plan->type_index[i] != 0) {
        info = &plan->infos[plan->type_index[i] - 1];
    }
    else if (plan->n_infos < CF_MAX_TYPES - 1) {
        info = &plan->infos[plan->n_infos++];
        plan->type_index[i] = (uint32_t)plan->n_infos;
        cf_policy_classify(info, type, plan->skip);
        discover(plan, (PyObject *)type);
    }
    else {
        /* The last entry is for all the types that do not fit. It is decided
         * anew each time and never cached; its counts go on. */
        info = &plan->infos[CF_MAX_TYPES - 1];
        plan->n_infos = CF_MAX_TYPES;
        size_t count = info->count, bytes = info->bytes;
        cf_policy_classify(info, type, plan->skip);
        info->count = count;
        info->bytes = bytes;
        discover(plan, (PyObject *)type);
        return info;
    }
    plan->type_cache[type_way(type)] = info;
    return info;
}

static inline cf_typeinfo *
find_type(cf_plan *plan, PyTypeObject *type)
{
    cf_typeinfo *info = plan->type_cache[type_way(type)];
    if (info != NULL && info->type == type) {
        return info;
    }
    return find_type_slowly(plan, type);
}

/* -- pages --------------------------------------------------------------- */

/* Remember the pages of an object's table. Tables of neighbours usually lie on
 * the same page: one comparison. */
static inline void
add_table(cf_plan *plan, cf_sizing kind, const void *start, size_t size)
{
    uintptr_t first = (uintptr_t)start;
    uintptr_t last = first + size - 1;
    if (size == 0
        || (((plan->last_table_page[kind] ^ first) & plan->page_mask) == 0
            && ((first ^ last) & plan->page_mask) == 0)) {
        return;
    }
    plan->last_table_page[kind] = last;
    (void)cf_pageset_add(plan->tables, first, last + 1); /* reserved */
}

/* Bytes of OP; pages beyond its first one are remembered. */
static inline size_t
measure(cf_plan *plan, const cf_typeinfo *info, PyObject *op)
{
    cf_extent extent;
    if (info->sizing == CF_SIZE_FIXED || info->sizing == CF_SIZE_DICT) {
        /* The most frequent kinds, without the jump of a switch. */
        extent = (cf_extent){(uintptr_t)op - info->prefix,
                             (uintptr_t)op + (size_t)info->basic_size, NULL, 0};
    }
    else if (info->sizing == CF_SIZE_STR) {
        extent = (cf_extent){(uintptr_t)op, (uintptr_t)op + cf_str_size(op), NULL, 0};
    }
    else {
        cf_extent_of(&extent, info, op);
    }
    if (extent.table_size > 0) {
        add_table(plan, (cf_sizing)info->sizing, extent.table, extent.table_size);
    }
    if ((extent.start ^ (extent.end - 1)) & plan->page_mask) {
        (void)cf_pageset_add(plan->tables, extent.start, extent.end);
    }
    return extent.end - extent.start + extent.table_size;
}

/* -- the walk ------------------------------------------------------------ */

static inline void
take(cf_plan *plan, cf_typeinfo *info, PyObject *op)
{
    if (info->warmth != CF_WARM_NONE) {
        switch (cf_warm(op, (cf_warmth)info->warmth)) {
        case CF_IS_WARM:
            break;
        case CF_STAYS_COLD:
            plan->unwarmed++;
            break;
        case CF_WARM_LATER:
            plan->deferred = true;
            break;
        }
    }
    if (!cf_header_done(op)) {
        if (info->warmth == CF_WARM_STR) {
            cf_str_prepare(op);
        }
        cf_header_freeze(op);
    }
    if (info->gc && (info->warmth != CF_WARM_TYPE || PyObject_IS_GC(op))
        && !(info->keep_tracked && plan->keep_functions_tracked)) {
        PyObject_GC_UnTrack(op); /* only reads, if it is untracked already */
    }
}

/* Decide about OP, which was met a moment ago. */
static inline void
settle(cf_plan *plan, PyObject *op)
{
    cf_typeinfo *info = find_type(plan, Py_TYPE(op));
    if (info->decision != CF_TAKE || info->check_object) {
        cf_decision decision =
            info->check_object ? cf_policy_object(info, op) : (cf_decision)info->decision;
        if (decision != CF_TAKE) {
            plan->skipped_by[decision]++;
            cf_stack_push(&plan->skipped, (uintptr_t)op);
            if (decision == CF_SKIP_BUFFER) {
                cf_stack_push(&plan->todo, (uintptr_t)op);
            }
            return;
        }
    }
    unsigned tag = 0;
    size_t size = measure(plan, info, op);
    if (!cf_header_done(op)) {
        info->count++;
        info->bytes += size;
        tag = info->sizing == CF_SIZE_DICT ? NEW_DICT : 0;
    }
    if (!plan->dry_run) {
        take(plan, info, op);
    }
    if (info->edges == 0) {
        return;
    }
    if (info->edges & CF_EDGE_CODE) {
        cf_stack_push(&plan->codes, (uintptr_t)op);
    }
    if (info->boundary && !plan->whole_heap && !(info->edges & CF_EDGE_TYPE)) {
        return;
    }
    if (info->edges & CF_EDGE_DICT) {
        __builtin_prefetch(((PyDictObject *)op)->ma_keys);
        __builtin_prefetch((const char *)((PyDictObject *)op)->ma_keys + 64);
    }
    cf_stack_push(&plan->todo, (uintptr_t)op | tag);
}

/* OP is referred to. If it is new, ask for its memory, and settle the object
 * that was met CF_COMING objects ago. */
static inline void
discover(cf_plan *plan, PyObject *op)
{
    if (!cf_objset_add(&plan->seen, op)) {
        return;
    }
    __builtin_prefetch((const char *)op - 16, 1); /* GC header, type */
    __builtin_prefetch((const char *)op + 32, 1); /* sizes */
    PyObject **place = &plan->met[plan->next_met++ % CF_COMING];
    PyObject *waited_for = *place;
    *place = op;
    if (waited_for != NULL) {
        settle(plan, waited_for);
    }
}

static void
settle_all(cf_plan *plan)
{
    for (int i = 0; i < CF_COMING; i++) {
        PyObject **place = &plan->met[plan->next_met++ % CF_COMING];
        PyObject *op = *place;
        *place = NULL;
        if (op != NULL) {
            settle(plan, op);
        }
    }
}

static int
visit_edge(PyObject *op, void *arg)
{
    if (op != NULL) {
        discover(arg, op);
    }
    return 0;
}

static void
push_rest(cf_plan *plan, PyObject *op, Py_ssize_t position)
{
    cf_stack_push(&plan->todo, (uintptr_t)position);
    cf_stack_push(&plan->todo, (uintptr_t)op | POSITION_FOLLOWS);
}

static void
follow_items(cf_plan *plan, PyObject *op, Py_ssize_t from)
{
    PyObject **items;
    Py_ssize_t n;
    if (PyList_CheckExact(op)) {
        items = ((PyListObject *)op)->ob_item;
        n = PyList_GET_SIZE(op);
    }
    else {
        items = ((PyTupleObject *)op)->ob_item;
        n = PyTuple_GET_SIZE(op);
    }
    Py_ssize_t to = n - from > PORTION ? from + PORTION : n;
    if (to < n) {
        push_rest(plan, op, to);
    }
    /* Backwards, so that the first one is on top of the stack: memory is
     * mostly laid out forwards. */
    for (Py_ssize_t i = to - 1; i >= from; i--) {
        if (items[i] != NULL) {
            discover(plan, items[i]);
        }
    }
}

static void
follow_entries(cf_plan *plan, PyObject *op, Py_ssize_t from)
{
    cf_dict_table table;
    if (cf_layout_dict_table(&table, op)) {
        Py_ssize_t to = table.n - from > PORTION ? from + PORTION : table.n;
        if (to < table.n) {
            push_rest(plan, op, to);
        }
        PyObject **entry = table.entries + (size_t)from * table.width;
        for (Py_ssize_t i = from; i < to; i++, entry += table.width) {
            if (entry[1] != NULL) { /* else a deleted entry */
                discover(plan, entry[0]);
                discover(plan, entry[1]);
            }
        }
        return;
    }
    PyObject *key, *value;
    for (int n = 1; PyDict_Next(op, &from, &key, &value); n++) {
        discover(plan, key);
        discover(plan, value);
        if (n == PORTION) {
            push_rest(plan, op, from);
            return;
        }
    }
}

/* Remember the pages of a dict's table. Returns its size. */
static size_t
measure_dict_table(cf_plan *plan, PyObject *op)
{
    cf_dict_table table;
    const void *start = ((PyDictObject *)op)->ma_keys;
    size_t size = cf_layout_dict_table(&table, op) ? table.size : sizeof(void *);
    if (PyDict_GET_SIZE(op) == 0) {
        return 0; /* mostly the interpreter's one empty table */
    }
    add_table(plan, CF_SIZE_DICT, start, size);
    return size;
}

/* Follow the edges of OP; FROM is where a portion starts. */
static void
expand(cf_plan *plan, PyObject *op, Py_ssize_t from, cf_depth depth)
{
    const cf_typeinfo *info = find_type(plan, Py_TYPE(op));
    unsigned edges = info->edges;
    if (edges == CF_EDGE_ITEMS) {
        follow_items(plan, op, from);
        return;
    }
    if (edges & CF_EDGE_DICT) {
        follow_entries(plan, op, from);
    }
    if (edges != CF_EDGE_DICT && from == 0) {
        cf_edges_visit(op, info, depth, visit_edge, plan);
    }
}

static void
drain(cf_plan *plan)
{
    cf_depth depth = plan->whole_heap ? CF_DEPTH_FULL : CF_DEPTH_BOUNDARY;
    do {
        while (plan->todo.used > 0) {
            uintptr_t word = cf_stack_pop(&plan->todo);
            PyObject *op = (PyObject *)(word & ~(uintptr_t)TAGS);
            Py_ssize_t from = 0;
            if (word & NOT_SETTLED) {
                settle(plan, op);
                continue;
            }
            if (word & POSITION_FOLLOWS) {
                from = (Py_ssize_t)cf_stack_pop(&plan->todo);
            }
            if (word & NEW_DICT) {
                find_type(plan, Py_TYPE(op))->bytes += measure_dict_table(plan, op);
            }
            expand(plan, op, from, depth);
        }
        settle_all(plan);
    } while (plan->todo.used > 0);
}

void
cf_plan_exclude(cf_plan *plan, PyObject *op)
{
    (void)cf_objset_add(&plan->seen, op);
    cf_stack_push(&plan->skipped, (uintptr_t)op);
}

void
cf_walk_from(cf_plan *plan, PyObject *op)
{
    discover(plan, op);
    drain(plan);
    if (!plan->whole_heap) {
        const cf_typeinfo *info = find_type(plan, Py_TYPE(op));
        if (info->boundary && info->decision == CF_TAKE) {
            /* A root that is a boundary is opened: the caller named it. */
            expand(plan, op, 0, CF_DEPTH_ROOT);
            drain(plan);
        }
    }
}

/* Only noted down here: untracking the object that the collector is looking at
 * would end its list. */
static int
visit_collected(PyObject *op, void *arg)
{
    cf_plan *plan = arg;
    if (cf_objset_add(&plan->seen, op)) {
        cf_stack_push(&plan->todo, (uintptr_t)op | NOT_SETTLED);
    }
    return 1;
}

void
cf_walk_collector(cf_plan *plan)
{
    cf_gc_visit_objects(visit_collected, plan);
    drain(plan);
}

/* -- afterwards ---------------------------------------------------------- */

static void
warm_deferred(void *object, void *arg)
{
    cf_plan *plan = arg;
    PyObject *op = object;
    const cf_typeinfo *info = find_type(plan, Py_TYPE(op));
    if (info->warmth == CF_WARM_TUPLE && info->decision == CF_TAKE
        && cf_warm(op, CF_WARM_TUPLE) == CF_WARM_LATER) {
        plan->unwarmed++;
    }
}

void
cf_walk_finish(cf_plan *plan)
{
    if (plan->deferred) {
        /* In address order inner tuples mostly come first. */
        cf_objset_visit(&plan->seen, warm_deferred, plan);
    }
    for (size_t i = 0; i < plan->skipped.used; i++) {
        cf_objset_remove(&plan->seen, (void *)plan->skipped.words[i]);
    }
}

void
cf_plan_pages(cf_plan *plan, cf_pageset *pages)
{
    const cf_objset *seen = &plan->seen;
    uintptr_t page_size = cf_page_size();
    size_t words_per_page = page_size >> CF_OBJSET_SLOT_SHIFT >> 6;
    for (size_t i = 0; i < seen->n_regions; i++) {
        uintptr_t start = seen->regions[i].number >> 1 << CF_OBJSET_REGION_SHIFT;
        for (size_t w = 0; w < CF_OBJSET_REGION_WORDS; w += words_per_page) {
            uint64_t any = 0;
            for (size_t k = 0; k < words_per_page; k++) {
                any |= seen->regions[i].bits[w + k];
            }
            if (any != 0) {
                uintptr_t page = start + (w << 6 << CF_OBJSET_SLOT_SHIFT);
                (void)cf_pageset_add(pages, page, page + 1);
            }
        }
    }
    cf_pageset_merge(pages, plan->tables);
}
