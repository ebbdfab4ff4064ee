/* walk.h - from the roots to every object that a freeze takes. */
#ifndef CF_WALK_H
#define CF_WALK_H

#include "compat.h"
#include "objset.h"
#include "pageset.h"
#include "policy.h"
#include "stack.h"

/* How many objects are waited for while their memory comes (walk.c). */
#define CF_COMING 16
/* More types than this share one entry, and one line in the report. */
#define CF_MAX_TYPES 65536
#define CF_TYPE_CACHE 256

typedef struct {
    /* what was asked */
    bool whole_heap;           /* walk through modules, functions, code and types */
    bool dry_run;              /* count only: no object is written */
    bool keep_functions_tracked;
    PyTypeObject *const *skip; /* NULL-terminated, or NULL */

    /* what was found */
    cf_objset seen;            /* everything met, taken or not */
    cf_stack skipped;          /* what was met and not taken */
    cf_stack codes;            /* code objects taken */
    cf_pageset *tables;        /* pages of what lies outside the objects' first page */
    size_t skipped_by[CF_N_DECISIONS];
    size_t unwarmed;
    cf_typeinfo *infos;        /* by order of arrival; entries never move */
    size_t n_infos;

    /* book-keeping of the walk */
    cf_stack todo;             /* objects whose edges are still to be followed */
    PyObject *met[CF_COMING];  /* seen, header on its way */
    unsigned next_met;
    uintptr_t page_mask;       /* ~(page size - 1) */
    uintptr_t last_table_page[CF_N_SIZINGS];
    bool deferred;             /* a tuple's hash waits for those of its items */
    uint32_t *type_index;      /* 1 + position in infos; 0: free */
    cf_typeinfo *type_cache[CF_TYPE_CACHE];
} cf_plan;

/* Reserve all the memory that a walk of this process can need; after that the
 * walk cannot fail. Returns 0, or -1 (out of memory, no exception; the plan is
 * empty). */
int cf_plan_reserve(cf_plan *plan);

/* Give everything back. */
void cf_plan_clear(cf_plan *plan);

/* OP is not to be taken, whoever refers to it. Before the walk. */
void cf_plan_exclude(cf_plan *plan, PyObject *op);

/* Take OP and everything that is reached from it. OP itself is opened even if
 * it is a module, function, code object or type. Cannot fail; runs no Python
 * code. */
void cf_walk_from(cf_plan *plan, PyObject *op);

/* Take what the collector knows (versions with CF_HAS_GC_VISIT). Likewise. */
void cf_walk_collector(cf_plan *plan);

/* After the last root: what had to wait for others. Likewise. */
void cf_walk_finish(cf_plan *plan);

/* Add the pages of everything taken to PAGES, which has room for them. */
void cf_plan_pages(cf_plan *plan, cf_pageset *pages);

/* Bytes of book-keeping that were really used. */
size_t cf_plan_used_bytes(const cf_plan *plan);

#endif
