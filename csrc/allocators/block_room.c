/* block_room.c - how far the block reaches in which something lies.
 *
 *   pymalloc   [ pool header | block | block | block ... ]      the header says how long blocks are
 *                                      ^start     ^end
 *   malloc     [ size, flags | user data ......... ][ size ...  the word before says it
 *                            ^start                 ^end + 8
 *   else       the mapping
 *
 * An object says itself how long it is, and may be wrong: a type that has tp_itemsize need not
 * have ob_size. Nothing is believed that goes beyond its block.
 *
 * Both headers are looked at only in memory that is mapped, and must fit: a pool's to the byte; a chunk's
 * size must be a multiple of 16 that ends in the mapping, and is asked for only where malloc is glibc's.
 */
#include "allocators/block_room.h"

#include "allocators/blocks_at_fork.h"
#include "allocators/layouts.h"
#include "allocators/seal_malloc.h"
#include "base/mem.h"

static bool
malloc_is_glibcs(void)
{
    static int known = -1; /* a process keeps its malloc */
    if (known < 0) {
        known = cf_chunks_malloc_is_known();
    }
    return known;
}

CF_READS_ANY_WORD uintptr_t
cf_block_end(const cf_range *ranges, size_t n, uintptr_t start)
{
    const cf_range *range = cf_range_find(ranges, n, start);
    if (range == NULL) {
        return 0;
    }
    uintptr_t pool = start & ~(CF_POOL_SIZE - 1);
    size_t size;
    if (pool >= range->start && start - pool >= CF_POOL_HEADER_SIZE
        && cf_pool_fits((const void *)pool, pool, &size)) {
        uintptr_t first = pool + CF_POOL_HEADER_SIZE;
        uintptr_t end = first + ((start - first) / size + 1) * size;
        return end <= pool + CF_POOL_SIZE ? end : 0;
    }
    if (start - range->start < 2 * sizeof(size_t) || !malloc_is_glibcs()) {
        return range->end;
    }
    size = ((const size_t *)start)[-1] & ~(size_t)CF_CHUNK_FLAGS;
    uintptr_t chunk = start - 2 * sizeof(size_t);
    bool fits = size >= CF_SMALLEST_CHUNK && size % CF_ALIGNMENT == 0
                && size <= range->end - chunk;
    return fits ? chunk + size + sizeof(size_t) : range->end;
}
