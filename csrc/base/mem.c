/* mem.c - memory for bookkeeping, outside the Python heap and outside malloc.
 *
 *   [ mmap'ed block ][ mmap'ed block ] ...   private, anonymous, zeroed by the kernel
 *
 * All counters are plain: every caller holds the GIL.
 */
#define _GNU_SOURCE
#include "base/mem.h"

#include <stdbool.h>
#include <sys/mman.h>

/* Under the GIL (see above). */
static size_t mapped_bytes;
static long fail_countdown = -1;

static bool
must_fail(void)
{
    if (fail_countdown < 0) {
        return false;
    }
    if (fail_countdown > 1) {
        fail_countdown--;
        return false;
    }
    return true;
}

static void *
map(size_t size, int flags)
{
    if (must_fail()) {
        return NULL;
    }
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (block == MAP_FAILED) {
        return NULL;
    }
    mapped_bytes += size;
    return block;
}

void *
cf_mem_map(size_t size)
{
    return map(size, 0);
}

void *
cf_mem_reserve(size_t size)
{
    return map(size, MAP_NORESERVE);
}

void
cf_mem_unmap(void *block, size_t size)
{
    if (block != NULL) {
        munmap(block, size);
        mapped_bytes -= size;
    }
}

size_t
cf_mem_mapped(void)
{
    return mapped_bytes;
}

void
cf_mem_fail_at(long n)
{
    fail_countdown = n < 0 ? -1 : n;
}
