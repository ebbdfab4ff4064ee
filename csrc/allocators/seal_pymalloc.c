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
 * first to count as expected.
 */
#include "allocators/seal_pymalloc.h" /* first: Python.h defines _GNU_SOURCE, which madvise wants */

#include "base/invariants.h"

#include <string.h>
#include <sys/mman.h>

#define POOL_SIZE ((uintptr_t)16 << 10)
#define ALIGNMENT 16
#define LARGEST_CLASS 512
/* Never more than this in one freeze: 1,600 pools of one class. */
#define MAX_BLOCKS_PER_CLASS (1 << 20)
/* Free pools beyond 64 MiB stay free. */
#define MAX_FREE_POOLS 4096
#define POOL_HEADER 48

/* What the allocator adds to a request: nothing, or in debug builds the size
 * and guard bytes around the block. */
static size_t extra_bytes;

static uintptr_t
pool_of(const void *block)
{
    return (uintptr_t)block & ~(POOL_SIZE - 1);
}

static unsigned
blocks_in_pool_of(const void *block)
{
    return *(const unsigned *)pool_of(block);
}

/* Does the word at the start of a pool count its blocks? Two blocks of the
 * largest class from one pool must differ by one. In a heap that had much
 * freed, many pools have room for a single block; those are taken until two
 * in a row come from one pool, at the latest a pool of its own, and all go
 * back. */
static bool
pools_count_blocks(void)
{
    const char *name = _PyMem_GetCurrentAllocatorName();
    if (name == NULL
        || (strcmp(name, "pymalloc") != 0 && strcmp(name, "pymalloc_debug") != 0)) {
        return false;
    }
    extra_bytes = strcmp(name, "pymalloc") == 0 ? 0 : 3 * sizeof(size_t);
    bool counts = false, decided = false;
    void **taken = NULL;  /* each block's first word leads to the one before */
    for (int n = 0; n < MAX_BLOCKS_PER_CLASS && !decided; n++) {
        void **block = PyObject_Malloc(LARGEST_CLASS - extra_bytes);
        if (block == NULL) {
            break;
        }
        *block = taken;
        taken = block;
        unsigned before = blocks_in_pool_of(block);
        void *next = PyObject_Malloc(LARGEST_CLASS - extra_bytes);
        if (next != NULL && ((uintptr_t)next ^ (uintptr_t)block) < POOL_SIZE) {
            decided = true;
            counts = before >= 1 && before <= POOL_SIZE / LARGEST_CLASS
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

static PyObjectArenaAllocator arenas;
static bool arena_was_made;

static void *
notice_arena(void *context, size_t size)
{
    arena_was_made = true;
    return arenas.alloc(context, size);
}

/* Give back the pages of the pool of BLOCK that hold nothing but fillers. */
static size_t
return_pages(const void *block)
{
    uintptr_t page = (uintptr_t)cf_page_size();
    uintptr_t pool = pool_of(block);
    uintptr_t start = (pool + POOL_HEADER + page - 1) & ~(page - 1);
    uintptr_t end = pool + POOL_SIZE;
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
    PyObject_GetArenaAllocator(&arenas);
    PyObjectArenaAllocator noticing = arenas;
    noticing.alloc = notice_arena;
    arena_was_made = false;
    PyObject_SetArenaAllocator(&noticing);
    size_t per_pool = (POOL_SIZE - POOL_HEADER) / LARGEST_CLASS;
    uintptr_t ours = 0;
    unsigned in_ours = 0;
    for (size_t n = 0; n < MAX_FREE_POOLS * per_pool; n++) {
        void *block = PyObject_Malloc(LARGEST_CLASS - extra_bytes);
        if (block == NULL) {
            break;
        }
        if (arena_was_made) {
            PyObject_Free(block);
            break;
        }
        result->blocks++;
        result->bytes += LARGEST_CLASS;
        unsigned n_blocks = blocks_in_pool_of(block);
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
    PyObject_SetArenaAllocator(&arenas);
}

void
cf_seal_pools(cf_seal_result *result, bool free_pools)
{
    memset(result, 0, sizeof(*result));
    result->pools_known = pools_count_blocks();
    if (!result->pools_known) {
        return;
    }
    for (size_t size = ALIGNMENT; size <= LARGEST_CLASS; size += ALIGNMENT) {
        for (int n = 0; size > extra_bytes && n < MAX_BLOCKS_PER_CLASS; n++) {
            void *block = PyObject_Malloc(size - extra_bytes);
            if (block == NULL) {
                return;
            }
            if (blocks_in_pool_of(block) == 1) {
                PyObject_Free(block);
                break;
            }
            result->blocks++;
            result->bytes += size;
        }
    }
    if (free_pools) {
        fill_free_pools(result);
    }
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
