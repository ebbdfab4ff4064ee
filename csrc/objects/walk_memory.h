/* walk_memory.h - what a walk remembers: seen objects, types, pages. */
#ifndef CF_WALK_MEMORY_H
#define CF_WALK_MEMORY_H

#include "cpython/compat.h"
#include "base/objset.h"
#include "base/pageset.h"
#include "objects/life.h"
#include "objects/type_info.h"
#include "base/stack.h"

/* How many objects are met before they are looked at (walk.c). */
#define CF_COMING 64
#define CF_LAST_KEYS 32
/* More types than this share one entry, and one line in the report. */
#define CF_MAX_TYPES 65536
#define CF_TYPE_CACHE 256

typedef struct {
    PyTypeObject *type;
    cf_typeinfo *info;
} cf_type_way;

typedef struct {
    /* what was asked */
    bool whole_heap;           /* walk through modules, functions, code and types */
    bool dry_run;              /* count only: no object is written */
    bool looking;              /* a dry run that only looks for what fill.c fills */
    bool utf8;                 /* ... UTF-8 forms of str too, at once */
    bool remember_functions;   /* cf_live_remember */
    bool relocate;             /* code is going to be moved: note functions down */
    PyTypeObject *const *skip; /* NULL-terminated, or NULL */

    /* what was found */
    cf_objset seen;            /* met, but for plain objects (walk.c); pages of what was marked */
    cf_stack codes;            /* code objects taken */
    cf_stack types;            /* types taken */
    cf_stack functions;        /* functions taken; with `relocate` only */
    cf_stack left;             /* objects passed over; of weak references, decided at the end */
    cf_stack instances;        /* without a __dict__ so far; with `looking` only */
    cf_pageset *tables;        /* pages of what lies outside the objects' first page */
    size_t skipped_by[CF_N_DECISIONS];
    size_t unwarmed;
    size_t filled_utf8;
    size_t bare;               /* instances without a __dict__, and their bytes */
    size_t bare_bytes;
    size_t raw_str;            /* str without the UTF-8 form that they could have, and their bytes */
    size_t raw_str_bytes;
    size_t records;            /* numpy arrays with object fields, which are not followed */
    cf_typeinfo *infos;        /* by order of arrival; entries never move */
    size_t n_infos;

    /* book-keeping of the walk */
    cf_stack todo;             /* objects whose edges are still to be followed */
    PyObject *met[CF_COMING];  /* headers on their way */
    size_t n_met;
    uintptr_t page_mask;       /* ~(page size - 1) */
    uintptr_t last_table_page[CF_N_SIZINGS];
    PyObject *last_keys[CF_LAST_KEYS]; /* of the dict before, by position */
    bool deferred;             /* a tuple's hash waits for those of its items */
    uint32_t *type_index;      /* 1 + position in infos; 0: free */
    cf_type_way type_cache[CF_TYPE_CACHE];
    cf_range *ranges;          /* writable memory, ascending */
    size_t n_ranges;
    size_t ranges_capacity;
    const cf_range *last_range; /* the one that held a table last; NULL: none yet */
    cf_own_code own_code;
    size_t unbelieved;         /* objects that say to be longer than the memory that they lie in */
    size_t n_regions;          /* of 1 MiB, in those ranges, at most */
} cf_plan;

/* Reserve all the memory that a walk of this process can need; after that the
 * walk cannot fail. Returns 0, or -1 (out of memory, no exception; the plan is
 * empty). */
int cf_plan_reserve(cf_plan *plan);

/* Give everything back. */
void cf_plan_clear(cf_plan *plan);

/* OP is not to be taken, whoever refers to it. Before the walk. */
void cf_plan_exclude(cf_plan *plan, PyObject *op);

/* What is to be done with instances of TYPE. *NEW says that the type was met
 * for the first time. Cannot fail. walk.c asks the cache first. */
cf_typeinfo *cf_plan_find_type_slowly(cf_plan *plan, PyTypeObject *type, bool *new);

static inline cf_type_way *
cf_plan_type_way(cf_plan *plan, PyTypeObject *type)
{
    return &plan->type_cache[((uintptr_t)type >> 4) % CF_TYPE_CACHE];
}

/* Is all of [START, END) memory that could be written when the walk began? */
static inline bool
cf_plan_is_mapped(cf_plan *plan, uintptr_t start, uintptr_t end)
{
    const cf_range *range = plan->last_range;
    if (range == NULL || start - range->start >= range->end - range->start) {
        range = cf_range_find(plan->ranges, plan->n_ranges, start);
        plan->last_range = range;
    }
    return range != NULL && end > start && end <= range->end;
}

/* Remember the pages of an object's table. Tables of neighbours usually lie on
 * the same page: one comparison. */
static inline void
cf_plan_add_table(cf_plan *plan, cf_sizing kind, const void *start, size_t size)
{
    uintptr_t first = (uintptr_t)start;
    uintptr_t last = first + size - 1;
    if (size == 0
        || (((plan->last_table_page[kind] ^ first) & plan->page_mask) == 0
            && ((first ^ last) & plan->page_mask) == 0)) {
        return;
    }
    if (!cf_plan_is_mapped(plan, first, last + 1)) {
        plan->unbelieved++;
        return;
    }
    plan->last_table_page[kind] = last;
    (void)cf_pageset_add(plan->tables, first, last + 1); /* reserved */
}

/* After the walk: add the pages of everything taken to PAGES, which has room
 * for them. */
void cf_plan_pages(cf_plan *plan, cf_pageset *pages);

/* Bytes of book-keeping that were really used. */
size_t cf_plan_used_bytes(cf_plan *plan);

#endif
