/* seal_pymalloc.c - leave no free block beside a frozen one.
 *
 * pymalloc (Objects/obmalloc.c) cuts arenas into pools of 16 KiB, one size
 * class each:
 *
 *   pool   [ header | frozen | free | frozen | free | free | ... ]      four 4 KiB pages
 *             |  `- ref.count: blocks in use
 *             written by every allocation from the pool
 *
 * A worker's first small allocations come from the partly used pools, that is,
 * from the pages that hold the frozen objects. So, per size class, blocks are
 * taken until one comes from a pool in which it is alone: every older pool of
 * the class is full then, and full pools are in none of the allocator's lists.
 * That last block goes back; the others are kept for ever. (Unless there are too many
 * free blocks: then some pools stay partly used.)
 *
 * Then the pools that are free as a whole: no frozen object is in them, but their pages
 * exist, and a worker would copy each instead of getting a new one. Blocks of the largest
 * class are taken until the allocator asks for a new arena:
 *
 *   arena  [ frozen | frozen | filler | filler ][ fresh: nothing in it yet ... ]
 *                                `- its header stays, its other pages go back to the kernel
 *
 * Only public calls are used; the pool header's counter is read, and checked
 * first to count as expected. A block need not be in a pool: where no arena is to be had, pymalloc
 * asks malloc. So a header is read only in memory that was mapped before, or in an arena that was
 * made meanwhile (H8).
 */
#include "allocators/seal_pymalloc.h" /* first: Python.h defines _GNU_SOURCE, which madvise wants */

#include "allocators/layouts.h"
#include "allocators/packed_tables.h"
#include "base/invariants.h"

#include <string.h>
#include <sys/mman.h>

/* Never more than this in one freeze: 1,600 pools of one class. */
#define MAX_BLOCKS_PER_CLASS (1 << 20)
/* Free pools beyond 64 MiB stay free. */
#define MAX_FREE_POOLS 4096
/* One per class is made, and one or two before. */
#define MAX_ARENAS 64

/* What the allocator adds to a request: nothing, or in debug builds the size
 * and guard bytes around the block. */
static size_t extra_bytes; /* under the GIL, by the seal that goes on */

static uintptr_t
pool_of(const void *block)
{
    return (uintptr_t)block & ~(CF_POOL_SIZE - 1);
}

/* -- where a pool can be ------------------------------------------------- */

/* Of the seal that goes on; under the GIL, without which pymalloc makes no arena. */
static PyObjectArenaAllocator arenas;
static cf_range made[MAX_ARENAS]; /* while sealing */
static size_t n_made;
static const cf_range *mapped; /* before, ascending */
static size_t n_mapped;
static uintptr_t last_pool;

static void *
notice_arena(void *context, size_t size)
{
    void *arena = arenas.alloc(context, size);
    if (arena != NULL && n_made < MAX_ARENAS) {
        made[n_made] = (cf_range){(uintptr_t)arena, (uintptr_t)arena + size};
        n_made++;
    }
    return arena;
}

static bool
can_be_pool(uintptr_t pool)
{
    for (size_t i = n_made; i > 0; i--) {
        if (pool - made[i - 1].start < made[i - 1].end - made[i - 1].start) {
            return true;
        }
    }
    return cf_range_find(mapped, n_mapped, pool) != NULL;
}

/* 0: BLOCK is in no pool. */
static unsigned
blocks_in_pool_of(const void *block)
{
    uintptr_t pool = pool_of(block);
    if (pool != last_pool && !can_be_pool(pool)) {
        return 0;
    }
    last_pool = pool;
    return *(const unsigned *)pool;
}

/* Does the word at the start of a pool count its blocks? Two blocks of the
 * largest class from one pool must differ by one. In a heap that had much
 * freed, many pools have room for a single block; those are taken until two
 * in a row come from one pool, at the latest a pool of its own, and all go
 * back. */
static bool
pools_count_blocks(void)
{
    const char *name = cf_allocator_name();
    if (name == NULL
        || (strcmp(name, "pymalloc") != 0 && strcmp(name, "pymalloc_debug") != 0)) {
        return false;
    }
    extra_bytes = strcmp(name, "pymalloc") == 0 ? 0 : 3 * sizeof(size_t);
    bool counts = false, decided = false;
    void **taken = NULL;  /* each block's first word leads to the one before */
    for (int n = 0; n < MAX_BLOCKS_PER_CLASS && !decided; n++) {
        void **block = PyObject_Malloc(CF_LARGEST_BLOCK - extra_bytes);
        if (block == NULL) {
            break;
        }
        *block = taken;
        taken = block;
        unsigned before = blocks_in_pool_of(block);
        void *next = PyObject_Malloc(CF_LARGEST_BLOCK - extra_bytes);
        if (next != NULL && ((uintptr_t)next ^ (uintptr_t)block) < CF_POOL_SIZE) {
            decided = true;
            counts = before >= 1 && before <= CF_POOL_SIZE / CF_LARGEST_BLOCK
                     && blocks_in_pool_of(next) == before + 1;
        }
        PyObject_Free(next);
    }
    while (taken != NULL) {
        void **before = *taken;
        PyObject_Free(taken);
        taken = before;
    }
    return counts;
}

/* -- free pools ---------------------------------------------------------- */

/* Give back the pages of the pool of BLOCK that hold nothing but fillers. */
static size_t
return_pages(const void *block)
{
    uintptr_t page = (uintptr_t)cf_page_size();
    uintptr_t pool = pool_of(block);
    uintptr_t start = (pool + CF_POOL_HEADER_SIZE + page - 1) & ~(page - 1);
    uintptr_t end = pool + CF_POOL_SIZE;
    if (start >= end || madvise((void *)start, end - start, MADV_DONTNEED) < 0) {
        return 0;
    }
    return end - start;
}

/* After the classes: every older pool is full or free as a whole, or there were too many. So
 * a pool holds fillers alone only if its first block was one (H1). */
static void
fill_free_pools(cf_seal_result *result)
{
    size_t per_pool = (CF_POOL_SIZE - CF_POOL_HEADER_SIZE) / CF_LARGEST_BLOCK;
    size_t before = n_made;
    uintptr_t ours = 0;
    unsigned in_ours = 0;
    for (size_t n = 0; n < MAX_FREE_POOLS * per_pool; n++) {
        void *block = PyObject_Malloc(CF_LARGEST_BLOCK - extra_bytes);
        if (block == NULL) {
            break;
        }
        unsigned n_blocks = blocks_in_pool_of(block);
        if (n_made > before || n_blocks == 0) {
            PyObject_Free(block);
            break;
        }
        result->blocks++;
        result->bytes += CF_LARGEST_BLOCK;
        if (n_blocks == 1) {
            ours = pool_of(block);
            in_ours = 0;
        }
        in_ours++;
        if (n_blocks == per_pool && ours == pool_of(block)) {
            CF_HOLDS("H1", in_ours == per_pool);
            result->returned += return_pages(block);
        }
    }
}

static void
fill_class(cf_seal_result *result, size_t size)
{
    for (int n = 0; n < MAX_BLOCKS_PER_CLASS; n++) {
        void *block = PyObject_Malloc(size - extra_bytes);
        if (block == NULL) {
            return;
        }
        if (blocks_in_pool_of(block) <= 1) {
            PyObject_Free(block);
            return;
        }
        result->blocks++;
        result->bytes += size;
    }
}

void
cf_seal_pools(cf_seal_result *result, bool free_pools, const cf_range *ranges, size_t n)
{
    memset(result, 0, sizeof(*result));
    mapped = ranges;
    n_mapped = n;
    n_made = 0;
    last_pool = 0;
    PyObject_GetArenaAllocator(&arenas);
    PyObjectArenaAllocator noticing = arenas;
    noticing.alloc = notice_arena;
    PyObject_SetArenaAllocator(&noticing);
    const char *name = cf_allocator_name();
    result->in_malloc = name != NULL && strncmp(name, "malloc", strlen("malloc")) == 0;
    result->pools_known = pools_count_blocks();
    if (result->pools_known) {
        for (size_t size = CF_ALIGNMENT; size <= CF_LARGEST_BLOCK; size += CF_ALIGNMENT) {
            if (size > extra_bytes) {
                fill_class(result, size);
            }
        }
        if (free_pools) {
            fill_free_pools(result);
        }
    }
    PyObject_SetArenaAllocator(&arenas);
}

#if CF_ARENAS_ARE_HUGE
static int
forbid_huge_pages(uintptr_t start, uintptr_t end, void *arg)
{
    (void)arg;
    /* Whole regions: advice that differs from page to page would split the mapping at each. What
     * else lies in a region loses its advice with it. ENOMEM says that a part is not mapped; the
     * rest is done. */
    (void)madvise((void *)start, end - start, MADV_NOHUGEPAGE);
    return 0;
}
#endif

void
cf_seal_huge_pages(const cf_pageset *pages)
{
#if CF_ARENAS_ARE_HUGE
    (void)cf_pageset_ranges(pages, forbid_huge_pages, NULL);
#else
    (void)pages;
#endif
}
