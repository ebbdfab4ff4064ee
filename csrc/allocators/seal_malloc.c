/* seal_malloc.c - leave no free chunk of malloc beside a frozen one.
 *
 * glibc's main heap is one chain of chunks, and what is free lies in bins by size
 * (malloc/malloc.c):
 *
 *   [ frozen table | free 48 | frozen | free 4 KiB ... | frozen | ... | top ----> ) sbrk(0)
 *                    `- size, and links to others of its bin
 *
 * A worker's allocations split free chunks and relink their neighbours, on pages that
 * hold frozen tables. So chunks are requested, from large ones to small ones, until
 * each request is served from `top`, behind everything that exists: then no older
 * chunk of that size or a larger one is free.
 *
 *   1. malloc_trim: whole free pages go back to the kernel. What is requested
 *      afterwards and never touched costs address space, but for its 16 byte header.
 *   2. sizes from 128 KiB down by 1/8 each to 1032, then exactly 1032, 1016, ... 24:
 *      below, glibc keeps a list for each size (tcache, fast bins), and a step over one
 *      leaves its list open (47 free and 35 cached chunks in a Django application).
 *   3. what came from top goes back to it if it is large; a small one would go to a
 *      cache and be handed to the worker, so it stays.
 *   4. malloc_trim again: the pages of top that this has touched.
 *
 * Blocks of 128 KiB and more may get a mapping of their own, and freeing one raises
 * that limit for good. None is requested here.
 *
 * Other arenas (of other threads) and other allocators are left alone. Whether malloc is
 * glibc's is tried out: its statistics must count a probe to the byte.
 */
#define _GNU_SOURCE /* sbrk */
#include "allocators/seal_malloc.h"

#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GLIBC__)
#  include <malloc.h>
#  include <unistd.h>

#  define LARGEST (((size_t)128 << 10) - 56)
#  define LARGEST_CACHED 1032
#  define SMALLEST 24
#  define STEP 16
/* Beyond this many the heap is left as it is, and the result says so. */
#  define MAX_BLOCKS ((size_t)1 << 20)
#  define PROBE 20000
#  define TRIES 3

#  define FLAG_OF_MAPPING 2u
#  define FLAG_OF_OTHER_ARENA 4u
#  define FLAGS 7u

/* struct mallinfo2 of glibc 2.33; declared here, so that a package built on an
 * older one finds it where it runs. */
typedef struct {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks;
    size_t keepcost;
} statistics;

extern statistics cf_mallinfo2(void) __asm__("mallinfo2") __attribute__((weak));

/* The second word of the chunk that BLOCK is in: size and flags. */
CF_READS_ANY_WORD static size_t
chunk_word(const void *block)
{
    return *(const size_t *)((uintptr_t)block - sizeof(size_t));
}

static const char too_old[] =
    "the C library is older than glibc 2.33 and does not tell where its heap ends";
static const char not_glibcs[] =
    "malloc is not glibc's own (jemalloc, tcmalloc, a debugging library)";

/* NULL if malloc is glibc's and this thread allocates from the main heap, else what is
 * the matter. Other threads may allocate meanwhile, hence several tries. */
static const char *
find_obstacle(void)
{
    if (cf_mallinfo2 == NULL) {
        return too_old;
    }
    for (int i = 0; i < TRIES; i++) {
        size_t before = cf_mallinfo2().uordblks;
        void *volatile probe = malloc(PROBE);
        if (probe == NULL) {
            break;
        }
        size_t word = chunk_word(probe);
        size_t counted = cf_mallinfo2().uordblks - before;
        free(probe);
        if (counted == (word & ~(size_t)FLAGS) && counted - PROBE < 64) {
            return word & FLAG_OF_OTHER_ARENA
                       ? "freeze was called in a thread that has a malloc arena of its own"
                       : NULL;
        }
        if (word & FLAG_OF_MAPPING) {
            return "M_MMAP_THRESHOLD is set, so that malloc makes mappings of small blocks";
        }
    }
    return not_glibcs;
}

bool
cf_chunks_malloc_is_known(void)
{
    const char *why = find_obstacle();
    return why != too_old && why != not_glibcs;
}

/* Where the last chunk begins, behind which nothing was ever allocated; 0: it
 * does not end at the program break. */
static uintptr_t
find_top(void)
{
    size_t keepcost = cf_mallinfo2().keepcost;
    uintptr_t top = (uintptr_t)sbrk(0) - keepcost;
    if (keepcost < 2 * sizeof(size_t) || keepcost > (uintptr_t)sbrk(0)) {
        return 0;
    }
    return (chunk_word((void *)(top + 2 * sizeof(size_t))) & ~(size_t)FLAGS) == keepcost ? top
                                                                                      : 0;
}

static size_t
next_size(size_t size)
{
    if (size <= LARGEST_CACHED) {
        return size <= SMALLEST ? 0 : size - STEP;
    }
    size_t next = ((size - size / 8) & ~(size_t)(STEP - 1)) + 8;
    return next > LARGEST_CACHED ? next : LARGEST_CACHED;
}

static void
keep(cf_chunks_result *result, void *block)
{
    result->blocks++;
    result->bytes += chunk_word(block) & ~(size_t)FLAGS;
}

static void
fill(cf_chunks_result *result, uintptr_t top)
{
    size_t size = LARGEST;
    while (size > 0) {
        void *volatile block = malloc(size);
        if (block == NULL) {
            result->why = "memory ran out half-way";
            return;
        }
        bool old = (uintptr_t)block < top && (chunk_word(block) & FLAG_OF_MAPPING) == 0;
        if (old || size <= LARGEST_CACHED) {
            keep(result, block);
        }
        else {
            free(block);
        }
        if (result->blocks >= MAX_BLOCKS) {
            result->why = "there are more than a million free chunks";
            return;
        }
        if (!old) {
            size = next_size(size);
        }
    }
}

void
cf_chunks_seal(cf_chunks_result *result)
{
    memset(result, 0, sizeof(*result));
    result->why = find_obstacle();
    if (result->why != NULL) {
        return;
    }
    (void)malloc_trim(0);
    uintptr_t top = find_top();
    if (top == 0) {
        result->why = "the heap does not end at the program break";
        return;
    }
    fill(result, top);
    (void)malloc_trim(0);
}

#else

void
cf_chunks_seal(cf_chunks_result *result)
{
    memset(result, 0, sizeof(*result));
    result->why = "the C library is not glibc";
}

bool
cf_chunks_malloc_is_known(void)
{
    return false;
}
#endif
