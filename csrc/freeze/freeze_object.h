/* freeze_object.h - decide about one object: take it or leave it, warm, mark, untrack.
 *
 *   op -> type -> cf_typeinfo (type_info.c, kept by walk_memory.c)
 *           |
 *           +-- plain: exact str, int, float    new if its header is not marked
 *           |          warm, count, mark        done
 *           +-- others                          new if objset.c has no bit for it
 *                      decision, warm, count, mark, untrack, push to todo
 *
 * The inner loop of the walk, hence a header of its own and inline: most
 * objects of a heap are plain, and every instruction on their way counts.
 */
#ifndef CF_FREEZE_OBJECT_H
#define CF_FREEZE_OBJECT_H

#include "allocators/block_room.h"
#include "base/invariants.h"
#include "cpython/layout.h"
#include "freeze/fill.h"
#include "freeze/running_code.h"
#include "objects/walk_memory.h"
#include "objects/sizes.h"
#include "freeze/warm.h"

/* Tags on the words of todo; objects lie on 8-byte boundaries. */
#define CF_POSITION_FOLLOWS 1u
#define CF_NOT_SETTLED 2u
#define CF_NEW_DICT 4u /* its table is still to be counted */
#define CF_TAGS 7u

/* A type that is met for the first time is an object to settle, too: readers
 * count it. */
static CF_NOINLINE cf_typeinfo *
meet_type(cf_plan *plan, PyTypeObject *type)
{
    bool new;
    cf_typeinfo *info = cf_plan_find_type_slowly(plan, type, &new);
    if (new) {
        cf_stack_push(&plan->todo, (uintptr_t)type | CF_NOT_SETTLED);
    }
    return info;
}

static inline cf_typeinfo *
find_type(cf_plan *plan, PyTypeObject *type)
{
    cf_type_way *way = cf_plan_type_way(plan, type);
    return way->type == type ? way->info : meet_type(plan, type);
}

/* Keep to the fixed part of OP if the block that it lies in is shorter than OP says to be. */
static CF_NOINLINE void
cf_believe(cf_plan *plan, cf_extent *extent, const cf_typeinfo *info, PyObject *op)
{
    if (extent->end < extent->start
        || extent->end > cf_block_end(plan->ranges, plan->n_ranges, extent->start)) {
        extent->end = (uintptr_t)op + (size_t)info->basic_size;
        plan->unbelieved++;
    }
}

/* Bytes of OP; pages beyond its first one are remembered. */
static size_t
measure(cf_plan *plan, const cf_typeinfo *info, PyObject *op)
{
    cf_extent extent;
    cf_extent_of(&extent, info, op);
    if (CF_UNLIKELY(info->sizing == CF_SIZE_SAID)) {
        cf_believe(plan, &extent, info, op);
    }
    if (extent.table_size > 0) {
        cf_plan_add_table(plan, (cf_sizing)info->sizing, extent.table, extent.table_size);
    }
    if ((extent.start ^ (extent.end - 1)) & plan->page_mask) {
        (void)cf_pageset_add(plan->tables, extent.start, extent.end);
    }
    if (CF_VALUES_WORD != 0 && info->gc && info->prefix > 2 * sizeof(void *)) {
        size_t size;
        uintptr_t values = cf_layout_values(op, &size);
        cf_plan_add_table(plan, CF_SIZE_FIXED, (const void *)values, size);
    }
    return extent.end - extent.start + extent.table_size;
}

/* Warm, mark and untrack OP. */
static inline void
take(cf_plan *plan, const cf_typeinfo *info, PyObject *op)
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
    bool forget = true;
    if (!cf_header_done(op)) {
        if (info->function && plan->remember_functions) {
            forget = cf_live_remember(op);
        }
        cf_header_freeze(op);
        CF_HOLDS("I3", cf_header_done(op));
    }
    if (info->gc && forget && (info->warmth != CF_WARM_TYPE || PyObject_IS_GC(op))) {
        PyObject_GC_UnTrack(op); /* only reads, if it is untracked already */
        CF_HOLDS("I4", !PyObject_GC_IsTracked(op));
    }
}

static void
pass_over(cf_plan *plan, PyObject *op, cf_decision decision)
{
    plan->skipped_by[decision]++;
    cf_stack_push(&plan->left, (uintptr_t)op);
    if (decision == CF_SKIP_BUFFER || decision == CF_SKIP_WEAKREF || decision == CF_SKIP_FINALIZER
        || decision == CF_SKIP_LIFE) {
        cf_stack_push(&plan->todo, (uintptr_t)op);
    }
}

/* OP is going to be taken, and was not before. */
static inline void
book(cf_plan *plan, cf_typeinfo *info, PyObject *op)
{
    size_t size = measure(plan, info, op);
    info->bytes += size;
    if (info->prefix > 2 * sizeof(void *) && cf_layout_lacks_dict(op)) {
        plan->bare++;
        plan->bare_bytes += size;
    }
    info->count++;
    cf_objset_mark_page(&plan->seen, (uintptr_t)op);
}

/* Decide about OP, which is not plain. */
static CF_NOINLINE void
settle_with_edges(cf_plan *plan, cf_typeinfo *info, PyObject *op)
{
    if (!cf_objset_add(&plan->seen, op)) {
        return;
    }
    cf_decision decision =
        info->check_object ? cf_policy_object(info, op) : (cf_decision)info->decision;
    if (decision != CF_TAKE) {
        pass_over(plan, op, decision);
        return;
    }
    unsigned tag = 0;
    if (CF_UNLIKELY(plan->looking)) {
        cf_fill_look(plan, op);
    }
    else if (!cf_header_done(op)) {
        book(plan, info, op);
        tag = info->sizing == CF_SIZE_DICT ? CF_NEW_DICT : 0;
    }
    if (!plan->dry_run) {
        if (CF_STR_STATE_CHECKED && PyUnicode_Check(op)) {
            cf_str_prepare(op); /* of a subclass */
        }
        take(plan, info, op);
    }
    if (CF_UNLIKELY(info->edges & CF_EDGE_NDARRAY)) {
        plan->records += cf_layout_has_object_fields(op);
    }
    if (info->edges == 0) {
        return;
    }
    if (info->edges & CF_EDGE_CODE) {
        cf_stack_push(&plan->codes, (uintptr_t)op);
    }
    if (info->edges & CF_EDGE_TYPE) {
        cf_stack_push(&plan->types, (uintptr_t)op);
    }
    if (plan->relocate && info->type == &PyFunction_Type) {
        cf_stack_push(&plan->functions, (uintptr_t)op);
    }
    if (info->boundary && !plan->whole_heap && !(info->edges & CF_EDGE_TYPE)) {
        return;
    }
    if (info->edges & CF_EDGE_DICT) {
        /* Read when OP is popped: let it come meanwhile. */
        __builtin_prefetch(((PyDictObject *)op)->ma_keys);
        __builtin_prefetch((const char *)((PyDictObject *)op)->ma_keys + 64);
    }
    cf_stack_push(&plan->todo, (uintptr_t)op | tag);
}

/* Mark a plain object of SIZE bytes. */
static inline void
settle_plain(cf_plan *plan, cf_typeinfo *info, PyObject *op, size_t size)
{
    uintptr_t start = (uintptr_t)op;
    if (plan->dry_run && (plan->looking || !cf_objset_add(&plan->seen, op))) {
        return; /* nothing marks it */
    }
    info->count++;
    info->bytes += size;
    cf_objset_mark_page(&plan->seen, start);
    if (CF_UNLIKELY((start ^ (start + size - 1)) & plan->page_mask)) {
        (void)cf_pageset_add(plan->tables, start, start + size);
    }
    if (!plan->dry_run) {
        cf_header_freeze(op);
    }
}

static inline void
settle_str(cf_plan *plan, cf_typeinfo *info, PyObject *op)
{
    if (CF_UNLIKELY(plan->looking)) {
        cf_fill_look(plan, op);
        return;
    }
    /* Also of an interpreter's own that was never hashed so far. */
    if (!plan->dry_run && ((PyASCIIObject *)op)->hash == -1
        && cf_warm_str(op) != CF_IS_WARM) {
        plan->unwarmed++;
    }
    if (!cf_header_done(op)) {
        if (CF_STR_STATE_CHECKED && cf_policy_is_special_name(op)) {
            if (cf_objset_add(&plan->seen, op)) {
                pass_over(plan, op, CF_SKIP_NAME);
            }
            return;
        }
        if (!plan->dry_run) {
            cf_str_prepare(op);
        }
        size_t size = cf_str_size(op);
        if (CF_UNLIKELY(!PyUnicode_IS_COMPACT_ASCII(op)) && cf_str_lacks_utf8(op)) {
            plan->raw_str++;
            plan->raw_str_bytes += size;
        }
        settle_plain(plan, info, op, size);
    }
}

/* Decide about OP. Most objects are plain; every instruction here counts. */
static inline void
settle(cf_plan *plan, PyObject *op)
{
    cf_typeinfo *info = find_type(plan, Py_TYPE(op));
    switch (info->plain) {
    case CF_PLAIN_STR:
        settle_str(plan, info, op);
        break;
    case CF_PLAIN_INT:
        if (!cf_header_done(op)) {
            settle_plain(plan, info, op, cf_int_size(op));
        }
        break;
    case CF_PLAIN_FIXED:
        if (!cf_header_done(op)) {
            settle_plain(plan, info, op, (size_t)info->basic_size);
        }
        break;
    default:
        settle_with_edges(plan, info, op);
    }
}

#endif
