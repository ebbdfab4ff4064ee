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
 * Other arenas (of other threads) and other allocators are left alone.
 *
 * Nothing of malloc's memory is read because it ought to be there: other threads trim the heap, a
 * tunable moves it off the program break, a debugging malloc puts a page without access in front
 * of each block. So
 *
 *   S1  whose malloc it is, is asked of the loader: the library that has mallinfo2 has malloc, too.
 *       A library in front of it that only passes calls on is found out by trying: the statistics
 *       count one of several probes to the byte. (Not by one alone: it may come from a cache.)
 *   S2  where the heap lies is read from the process's own map, once, and a block counts as one of
 *       it by its address alone. Not even malloc_usable_size() is asked: if a malloc does not bring
 *       its own, that is glibc's, which reads the word before the block.
 *   S3  the header of top is read by the kernel (/proc/self/mem), for which memory that is gone is
 *       an error and not the end. It must say what the statistics say, else nothing is done.
 *   S4  if another thread moves top meanwhile, only how much is taken changes: at most what it gave back.
 */
#define _GNU_SOURCE /* sbrk, dladdr */
#include "allocators/seal_malloc.h"

#include "allocators/layouts.h"
#include "base/mem.h"
#include "proc/maps.h"
#include "proc/memory.h"
#include "proc/procfile.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GLIBC__)
#  include <dlfcn.h>
#  include <malloc.h>
#  include <unistd.h>

#  define LARGEST (((size_t)128 << 10) - 56)
#  define LARGEST_CACHED 1032
#  define SMALLEST 24
#  define STEP 16
/* Beyond this many the heap is left as it is, and the result says so. */
#  define MAX_BLOCKS ((size_t)1 << 20)
#  define PROBE 20000
#  define TRIES 16

#  define FLAG_OF_OTHER_ARENA 4u

/* struct mallinfo2 of glibc 2.33; declared here, so that a package built on an
 * older one finds it where it runs. */
typedef struct {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks;
    size_t keepcost;
} statistics;

extern statistics cf_mallinfo2(void) __asm__("mallinfo2") __attribute__((weak));

static const char too_old[] =
    "the C library is older than glibc 2.33 and does not tell where its heap ends";
static const char not_glibcs[] =
    "malloc is not glibc's own (jemalloc, tcmalloc, a debugging library)";
static const char no_heap[] =
    "the heap does not end at the program break (or another thread moves its end all the time)";
static const char other_arena[] =
    "freeze was called in a thread that has a malloc arena of its own";
static const char in_mappings[] =
    "M_MMAP_THRESHOLD is set, so that malloc makes mappings of small blocks";

/* -- whose malloc (S1) --------------------------------------------------- */

/* Does the library that has mallinfo2 have malloc as well? In a program that is not position
 * independent the answer may be no although it does. */
static bool
has_malloc_of_glibc(void)
{
    Dl_info of_malloc, of_statistics;
    void *found = dlsym(RTLD_DEFAULT, "malloc");
    return found != NULL && dladdr(found, &of_malloc) != 0
           && dladdr((void *)(uintptr_t)cf_mallinfo2, &of_statistics) != 0
           && of_malloc.dli_fbase == of_statistics.dli_fbase;
}

/* Bytes of the chunk for a request of SIZE. */
static size_t
chunk_size(size_t size)
{
    return (size + sizeof(size_t) + STEP - 1) & ~(size_t)(STEP - 1);
}

/* Other threads may allocate meanwhile, and a cache may hold a block of any size: each probe has
 * another. */
static bool
statistics_count(void)
{
    static const size_t probes[] = {20000, 9000, 1500, 50000, 30000, 4000, 15000, 2500};
    bool counted = false;
    for (size_t i = 0; !counted && i < sizeof(probes) / sizeof(probes[0]); i++) {
        size_t before = cf_mallinfo2().uordblks;
        void *volatile probe = malloc(probes[i]);
        size_t more = cf_mallinfo2().uordblks - before;
        size_t chunk = chunk_size(probes[i]);
        counted = probe != NULL && (more == chunk || more == chunk + STEP); /* no smaller rest */
        free(probe);
    }
    return counted;
}

bool
cf_chunks_malloc_is_known(void)
{
    return cf_mallinfo2 != NULL && (has_malloc_of_glibc() || statistics_count());
}

/* -- where its heap is (S2, S3) ------------------------------------------ */

typedef struct {
    uintptr_t start;
    uintptr_t top; /* where the last chunk begins: behind it nothing was ever allocated */
} heap;

/* Find the brk heap in the process's map. False: there is none, or no map. */
static bool
find_start(heap *heap)
{
    bool found = false;
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    cf_file file;
    cf_file_open(&file, "/proc/self/maps");
    if (buffer != NULL && file.fd >= 0) {
        cf_maps maps;
        cf_mapping mapping;
        cf_maps_begin(&maps, file.fd, buffer, CF_MAPS_BUFFER);
        while (!found && cf_maps_next(&maps, &mapping) > 0) {
            found = mapping.area == CF_AREA_HEAP || mapping.end == (uintptr_t)sbrk(0);
            heap->start = mapping.start;
        }
    }
    cf_file_close(&file);
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return found;
}

/* What the statistics call top must end at the program break, and say so itself. */
static bool
find_top(heap *heap)
{
    cf_file memory;
    size_t header[2] = {0, 0};
    size_t keepcost = cf_mallinfo2().keepcost;
    uintptr_t end = (uintptr_t)sbrk(0);
    if (keepcost < 2 * sizeof(size_t) || keepcost > end - heap->start) {
        return false;
    }
    heap->top = end - keepcost;
    cf_file_open(&memory, "/proc/self/mem");
    cf_snapshot self = {.fd = memory.fd};
    bool read = memory.fd >= 0 && cf_snapshot_read(&self, heap->top, header, sizeof(header)) == 0;
    cf_file_close(&memory);
    return read && (header[1] & ~(size_t)CF_CHUNK_FLAGS) == keepcost;
}

static bool
find_heap(heap *heap)
{
    bool found = find_start(heap);
    for (int i = 0; found && i < TRIES; i++) {
        if (find_top(heap)) {
            return true;
        }
    }
    return false;
}

static bool
is_in(const heap *heap, const void *block)
{
    return (uintptr_t)block - heap->start < heap->top - heap->start;
}

/* Why this thread's blocks do not come from the heap; NULL: they do. OWN: no library stands before
 * malloc, so that the word before a block is its header. */
CF_READS_ANY_WORD static const char *
find_obstacle(const heap *heap, bool own)
{
    const char *why = NULL;
    const size_t *volatile probe = malloc(PROBE);
    if (probe != NULL && (uintptr_t)probe - heap->start >= (uintptr_t)sbrk(0) - heap->start) {
        why = !own ? not_glibcs : probe[-1] & FLAG_OF_OTHER_ARENA ? other_arena : in_mappings;
    }
    free((void *)probe);
    return why;
}

/* -- taking -------------------------------------------------------------- */

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
fill(cf_chunks_result *result, const heap *heap)
{
    size_t size = LARGEST;
    while (size > 0) {
        void *volatile block = malloc(size);
        if (block == NULL) {
            result->why = "memory ran out half-way";
            return;
        }
        bool old = is_in(heap, block);
        if (old || size <= LARGEST_CACHED) {
            result->blocks++;
            result->bytes += chunk_size(size);
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
    if (!cf_chunks_malloc_is_known()) {
        result->why = cf_mallinfo2 == NULL ? too_old : not_glibcs;
        return;
    }
    (void)malloc_trim(0);
    heap heap;
    if (!find_heap(&heap)) {
        result->why = no_heap;
        return;
    }
    result->why = find_obstacle(&heap, has_malloc_of_glibc());
    if (result->why == NULL) {
        fill(result, &heap);
        (void)malloc_trim(0);
    }
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
