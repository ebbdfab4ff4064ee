/* seal.c - leave no free block beside a frozen one.
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
 * That last block goes back; the others are kept for ever.
 *
 * Only public calls are used; the pool header's counter is read, and checked
 * first to count as expected.
 */
#include "seal.h" /* first: Python.h defines _GNU_SOURCE, which madvise wants */

#include <string.h>
#include <sys/mman.h>

#define POOL_SIZE ((uintptr_t)16 << 10)
#define ALIGNMENT 16
#define LARGEST_CLASS 512
/* Never more than this in one freeze: 1,600 pools of one class. */
#define MAX_BLOCKS_PER_CLASS (1 << 20)

/* What the allocator adds to a request: nothing, or in debug builds the size
 * and guard bytes around the block. */
static size_t extra_bytes;

static unsigned
blocks_in_pool_of(const void *block)
{
    return *(const unsigned *)((uintptr_t)block & ~(POOL_SIZE - 1));
}

/* Does the word at the start of a pool count its blocks? Two blocks of the
 * largest class from one pool must differ by one. */
static bool
pools_count_blocks(void)
{
    const char *name = _PyMem_GetCurrentAllocatorName();
    if (name == NULL
        || (strcmp(name, "pymalloc") != 0 && strcmp(name, "pymalloc_debug") != 0)) {
        return false;
    }
    extra_bytes = strcmp(name, "pymalloc") == 0 ? 0 : 3 * sizeof(size_t);
    bool counts = false;
    void *blocks[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3 && !counts; i++) {
        blocks[i] = PyObject_Malloc(LARGEST_CLASS - extra_bytes);
        if (blocks[i] == NULL) {
            break;
        }
        unsigned before = blocks_in_pool_of(blocks[i]);
        void *next = PyObject_Malloc(LARGEST_CLASS - extra_bytes);
        if (next != NULL && ((uintptr_t)next ^ (uintptr_t)blocks[i]) < POOL_SIZE) {
            counts = before >= 1 && before <= POOL_SIZE / LARGEST_CLASS
                     && blocks_in_pool_of(next) == before + 1;
        }
        PyObject_Free(next);
    }
    for (int i = 0; i < 3; i++) {
        PyObject_Free(blocks[i]);
    }
    return counts;
}

void
cf_seal_pools(cf_seal_result *result)
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
}

#if CF_ARENAS_ARE_HUGE
static int
forbid_huge_pages(uintptr_t start, uintptr_t end, void *arg)
{
    (void)arg;
    /* ENOMEM says that part of the range is not mapped; the rest is done. */
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
