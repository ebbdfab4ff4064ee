/* freeze.c - the phases of a freeze, and their order.
 *
 *   collect   a full collection                       may run Python code, may fail
 *   fill      make what a reader would make (fill.c)  may fail, runs no Python code
 *   reserve   all the memory that the rest can need   may fail
 *   ------------------------------------------------- from here nothing can fail
 *   walk      find, warm, mark and untrack (walk.c)   each object is read once
 *   live      references and code alive right now (running_code.c)
 *   relocate  hot code objects into one region (relocate_code.c), if asked to
 *   seal      gc.freeze(), shared keys (shared_keys.c), allocator pools (seal_pymalloc.c),
 *             malloc's heap (seal_malloc.c)
 *
 * Invariants:
 *   I1  no object is marked before everything that can fail is over. So a freeze that
 *       raises has changed nothing; what fill has made stays, as if a reader had asked for it.
 *   I2  no Python code runs from the walk to the end of seal, and no object
 *       that outlives its statement is allocated: a borrowed pointer stays
 *       valid because nobody can drop it.
 *   I3  an object that is frozen already is not written again, except for a
 *       hash or version tag that it still lacks.
 *   I4  what is marked is untracked, so that neither a collection nor a dying
 *       neighbour in the collector's list writes its header. What must be found
 *       again is remembered (running_code.c).
 *   I5  no reference on a stack that may be used again counts a frozen object
 *       (3.14 and later: running_code.c).
 *   I6  the collector is not running, and there is no other interpreter: nothing is on
 *       lists or in frames that cannot be seen from here. What is on the collector's own
 *       lists neither the walk nor live_frames.c meets, and what is untracked there
 *       loses its callback.
 */
#include "freeze/freeze.h"

#include "allocators/seal_malloc.h"
#include "freeze/shared_keys.h"
#include "base/invariants.h"
#include "cpython/collector.h"
#include "cpython/layout.h"
#include "cpython/live_frames.h"
#include "freeze/databases.h"
#include "freeze/fill.h"
#include "freeze/running_code.h"
#include "objects/kept.h"
#include "base/mem.h"
#include "freeze/relocate_code.h"
#include "allocators/seal_pymalloc.h"
#include "freeze/walk.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double
now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int
cf_init(void)
{
    if (cf_collector_init() < 0) {
        return -1;
    }
    cf_live_frames_init();
    return cf_layout_init() < 0 || cf_life_init() < 0 ? -1 : cf_keys_init();
}

size_t
cf_other_threads(void)
{
    size_t n = 0;
    PyThreadState *tstate = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; tstate != NULL; tstate = PyThreadState_Next(tstate)) {
        n += tstate != PyThreadState_Get();
    }
    return n;
}

void
cf_outcome_clear(cf_outcome *outcome)
{
    cf_mem_unmap(outcome->types, outcome->types_mapped);
    memset(outcome, 0, sizeof(*outcome));
}

/* -- collect ------------------------------------------------------------- */

/* A full collection, so that garbage is not made immortal and free lists are
 * empty. PyGC_Collect does nothing while the collector is disabled. */
static void
collect(void)
{
    int was_enabled = PyGC_Enable();
    PyGC_Collect();
    if (!was_enabled) {
        PyGC_Disable();
    }
}

/* -- fill ---------------------------------------------------------------- */

static void
set_up(cf_plan *plan, const cf_request *request, bool whole_heap)
{
    plan->whole_heap = whole_heap;
    plan->dry_run = request->dry_run;
    plan->skip = request->skip;
    cf_plan_exclude(plan, request->own[0]);
    cf_plan_exclude(plan, request->own[1]);
    cf_plan_exclude(plan, request->files);
}

/* A walk of its own: what is made here must be there when memory is reserved for the next one. */
static int
fill(const cf_request *request, bool whole_heap, cf_outcome *outcome)
{
    cf_plan plan;
    if (cf_plan_reserve(&plan) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (CF_PERMANENT_IS_HIDDEN && whole_heap && cf_gc_unfreeze() < 0) {
        cf_plan_clear(&plan);
        return -1; /* cannot be, as in seal() */
    }
    set_up(&plan, request, whole_heap);
    plan.dry_run = plan.looking = true;
    plan.utf8 = request->utf8;
    if (whole_heap) {
        cf_databases_exclude(&plan, NULL);
    }
    cf_walk(&plan, request->roots, NULL);
    outcome->made_utf8 = plan.filled_utf8;
    int ret = request->instance_dicts ? cf_fill_dicts(&plan.instances) : 0;
    outcome->made_dicts = ret < 0 || !request->instance_dicts ? 0 : plan.instances.used;
    outcome->peak_extra_bytes = cf_plan_used_bytes(&plan);
    cf_plan_clear(&plan);
    return ret;
}

/* -- reserve ------------------------------------------------------------- */

static int
reserve(cf_plan *plan, cf_pageset **pages, cf_outcome *outcome, cf_relocation *relocation,
        bool relocate)
{
    if (cf_plan_reserve(plan) < 0 || cf_live_reserve() < 0
        || (relocate && cf_relocate_reserve(relocation) < 0)) {
        return -1;
    }
    size_t regions = plan->n_regions;
    *pages = cf_pageset_new();
    if (*pages == NULL || cf_pageset_reserve_regions(*pages, regions) < 0) {
        return -1;
    }
    if (cf_frozen_pages == NULL) {
        cf_frozen_pages = cf_pageset_new();
    }
    if (cf_frozen_pages == NULL
        || cf_pageset_reserve_regions(cf_frozen_pages, regions) < 0) {
        return -1;
    }
    outcome->types_mapped = CF_MAX_TYPES * sizeof(cf_type_count);
    outcome->types = cf_mem_reserve(outcome->types_mapped);
    return outcome->types == NULL ? -1 : 0;
}

/* -- outcome ------------------------------------------------------------- */

static int
by_falling_bytes(const void *a, const void *b)
{
    size_t x = ((const cf_type_count *)a)->bytes;
    size_t y = ((const cf_type_count *)b)->bytes;
    return (x < y) - (x > y);
}

static void
count(const cf_plan *plan, cf_outcome *outcome)
{
    memcpy(outcome->skipped, plan->skipped_by, sizeof(outcome->skipped));
    outcome->unwarmed = plan->unwarmed;
    outcome->records = plan->records;
    outcome->unbelieved = plan->unbelieved;
    outcome->bare = plan->bare;
    outcome->bare_bytes = plan->bare_bytes;
    outcome->raw_str = plan->raw_str;
    outcome->raw_str_bytes = plan->raw_str_bytes;
    for (size_t i = 0; i < plan->n_infos; i++) {
        const cf_typeinfo *info = &plan->infos[i];
        if (info->count > 0) {
            outcome->objects += info->count;
            outcome->bytes += info->bytes;
            outcome->types[outcome->n_types++] =
                (cf_type_count){info->type, info->count, info->bytes};
        }
    }
    qsort(outcome->types, outcome->n_types, sizeof(cf_type_count), by_falling_bytes);
}

/* -- seal ---------------------------------------------------------------- */

static void
seal(const cf_request *request, const cf_plan *plan, const cf_pageset *pages,
     cf_outcome *outcome)
{
    if (request->gc_freeze && cf_gc_freeze() < 0) {
        PyErr_Clear(); /* cannot be: it takes no arguments and allocates nothing */
    }
    if (request->seal) {
        if (plan->whole_heap) {
            outcome->stopped_counters = cf_keys_stop(&plan->types);
        }
        /* Pools first: a new arena may take from malloc. */
        cf_seal_result sealed;
        cf_seal_pools(&sealed, plan->whole_heap, plan->ranges, plan->n_ranges);
        outcome->sealed_blocks = sealed.blocks;
        outcome->sealed_bytes = sealed.bytes;
        outcome->returned_bytes = sealed.returned;
        outcome->pools_known = sealed.pools_known;
        outcome->in_malloc = sealed.in_malloc;
        cf_chunks_result chunks;
        cf_chunks_seal(&chunks);
        outcome->sealed_chunks = chunks.blocks;
        outcome->sealed_chunk_bytes = chunks.bytes;
        outcome->chunks_why = chunks.why;
    }
    cf_seal_huge_pages(pages);
}

/* Files that were left and write through a buffer; without memory, some of them. */
static void
list_files(const cf_plan *plan, PyObject *files)
{
    for (size_t i = 0; i < plan->left.used; i++) {
        PyObject *op = (PyObject *)plan->left.words[i];
        if (cf_policy_is_buffered_file(Py_TYPE(op)) && PyList_Append(files, op) < 0) {
            PyErr_Clear();
        }
    }
}

/* What follows from the marks that the walk has set, around the objects. Cannot fail. */
static void
settle_heap(const cf_request *request, cf_plan *plan, cf_relocation *relocation, cf_pageset *pages,
            cf_outcome *outcome)
{
    double start = now();
    cf_pageset_merge(cf_frozen_pages, pages);
    outcome->tagged_references = cf_live_tag_references();
    CF_HOLDS("I5", cf_live_counted_references() == 0);
    outcome->patched_constants = cf_live_patch_constants(&plan->codes, &outcome->unreadable_codes);
    if (plan->relocate) {
        cf_relocate(relocation, &plan->codes, &plan->functions);
        outcome->relocated_codes = relocation->moved;
        outcome->relocated_bytes = relocation->used;
        outcome->unmoved_codes = relocation->left;
    }
    seal(request, plan, pages, outcome);
    outcome->seconds_seal = now() - start;
}

/* -- all of it ----------------------------------------------------------- */

int
cf_freeze(const cf_request *request, cf_outcome *outcome)
{
    int ret = -1;
    cf_plan plan = {0};
    cf_relocation relocation = {0};
    cf_pageset *pages = NULL;
    PyObject *all = NULL;
    memset(outcome, 0, sizeof(*outcome));
    outcome->frames_known = !CF_HAS_STACKREFS || cf_layout.frames;
    outcome->shared_keys_known = !CF_HAS_SHARED_KEYS || cf_layout.shared_keys;
    outcome->counters_known = !CF_HAS_IMMORTAL || cf_keys_known();
    bool whole_heap = PyTuple_GET_SIZE(request->roots) == 0;
    bool relocate = CF_HAS_RELOCATION && request->relocate && whole_heap && !request->dry_run;

    double start = now();
    if (CF_HAS_IMMORTAL && !request->dry_run) {
        /* The method cache holds the only reference to some names (of getattr(module,
         * computed_name)); each that dies in a worker opens a full pool. Before 3.12 this
         * would also take all version tags away. */
        (void)PyType_ClearCache();
    }
    bool running = cf_collector_runs();
    if (request->collect && !running) {
        collect();
    }
    outcome->refused = running ? CF_REFUSED_COLLECTOR
                       : cf_other_interpreters() ? CF_REFUSED_INTERPRETERS
                                                 : CF_REFUSED_NOT;
    if (outcome->refused != CF_REFUSED_NOT) {
        ret = 0;
        goto done;
    }
    outcome->seconds_collect = now() - start;

    start = now();
    if (CF_HAS_IMMORTAL && (request->instance_dicts || request->utf8) && !request->dry_run
        && fill(request, whole_heap, outcome) < 0) {
        goto done;
    }
    if (reserve(&plan, &pages, outcome, &relocation, relocate) < 0) {
        cf_outcome_clear(outcome);
        PyErr_SetString(PyExc_MemoryError,
                        "cowfreeze.freeze() could not reserve address space for its book-keeping "
                        "(about two thirds of what the process has mapped); nothing was frozen. Raise "
                        "the limit on address space (ulimit -v), or free memory");
        goto done;
    }
    if (CF_PERMANENT_IS_HIDDEN && whole_heap && !request->dry_run && cf_gc_unfreeze() < 0) {
        goto done; /* cannot be, as in seal() */
    }
    if (whole_heap && !CF_HAS_GC_VISIT) {
        all = cf_gc_objects();
        if (all == NULL) {
            goto done;
        }
    }
    set_up(&plan, request, whole_heap);
    plan.relocate = relocate;
    plan.remember_functions = CF_HAS_LOAD_CONST_MORTAL && !whole_heap;
    if (whole_heap) {
        cf_databases_exclude(&plan, all);
    }

    /* From here on nothing can fail. */
    cf_walk(&plan, request->roots, all);
    cf_plan_pages(&plan, pages);
    outcome->pages = cf_pageset_count(pages);
    count(&plan, outcome);
    outcome->seconds_walk = now() - start;
    if (!request->dry_run) {
        settle_heap(request, &plan, &relocation, pages, outcome);
    }
    size_t used = cf_plan_used_bytes(&plan) + cf_pageset_used_bytes(pages);
    outcome->peak_extra_bytes = Py_MAX(outcome->peak_extra_bytes, used);
    if (!request->dry_run) {
        list_files(&plan, request->files);
        cf_kept_take(&plan, request->takes_over);
    }
    ret = 0;

done:
    Py_XDECREF(all);
    cf_relocate_clear(&relocation);
    cf_pageset_free(pages);
    cf_plan_clear(&plan);
    return ret;
}
