/* blocks_at_fork.c - what the allocators' own structures said at the fork.
 *
 * pymalloc (Objects/obmalloc.c, the same from 3.10 to 3.15 on 64 bits):
 *
 *   pool, 16 KiB, aligned
 *     0 count | 8 freeblock | 16 next | 24 previous | 32 arena, class | 40 nextoffset,
 *     maxnextoffset | 48 block | block | free block --> free block --> 0 | never used ...
 *                                                                        ^ nextoffset
 *   Nothing says which memory is an arena. But nextoffset, maxnextoffset and the
 *   class must fit each other to the byte, which other memory does not do by
 *   chance.
 *
 * malloc of glibc (malloc.c): the brk heap is one chain of chunks:
 *
 *   [ prev_size | size, flags | user data ... ][ prev_size | size, flags | ...
 *     `- user data of the chunk before, if that is in use (flag 1)
 *
 * Both are read from the witness: what the worker did with them since is what
 * is to be explained.
 */
#include "allocators/blocks_at_fork.h"

#include "base/pageset.h"

#include <string.h>

/* -- pymalloc ------------------------------------------------------------ */

typedef struct {
    uint32_t count;
    uint32_t padding;
    uint64_t freeblock;
    uint64_t next;
    uint64_t previous;
    uint32_t arena;
    uint32_t size_class;
    uint32_t next_offset;
    uint32_t max_next_offset;
} pool_header;

static bool
is_pool(const pool_header *header, uintptr_t base)
{
    if (header->size_class >= CF_LARGEST_BLOCK / CF_ALIGNMENT) {
        return false;
    }
    uint32_t size = (header->size_class + 1) * CF_ALIGNMENT;
    uint32_t blocks = ((uint32_t)CF_POOL_SIZE - CF_POOL_HEADER_SIZE) / size;
    return header->max_next_offset == CF_POOL_SIZE - size
           && header->next_offset >= CF_POOL_HEADER_SIZE + size
           && header->next_offset <= CF_POOL_HEADER_SIZE + blocks * size
           && (header->next_offset - CF_POOL_HEADER_SIZE) % size == 0 && header->count <= blocks
           && (header->freeblock == 0 || header->freeblock - base < CF_POOL_SIZE);
}

bool
cf_pool_fits(const void *header, uintptr_t base, size_t *block_size)
{
    pool_header copy;
    memcpy(&copy, header, sizeof(copy));
    *block_size = (copy.size_class + (size_t)1) * CF_ALIGNMENT;
    return is_pool(&copy, base);
}

bool
cf_pool_arena(cf_snapshot *memory, uintptr_t base, uint32_t *arena)
{
    pool_header header;
    if (cf_snapshot_read(memory, base, &header, sizeof(header)) < 0 || !is_pool(&header, base)) {
        return false;
    }
    *arena = header.arena;
    return true;
}

static size_t
block_index(const cf_pool *pool, uintptr_t address)
{
    return (address - pool->base - CF_POOL_HEADER_SIZE) / pool->block_size;
}

static void
mark_free(cf_pool *pool, size_t index)
{
    pool->is_free[index / 64] |= UINT64_C(1) << (index % 64);
}

/* Read the pool at BASE and its list of free blocks. */
static void
read_pool(cf_pool *pool, cf_snapshot *memory, uintptr_t base)
{
    memset(pool, 0, sizeof(*pool));
    pool->base = base;
    const pool_header *found = cf_snapshot_at(memory, base, sizeof(*found));
    if (found == NULL || !is_pool(found, base)) {
        return;
    }
    pool_header header = *found; /* the next call of cf_snapshot_at ends FOUND */
    pool->valid = true;
    pool->block_size = (header.size_class + 1) * CF_ALIGNMENT;
    size_t n = (CF_POOL_SIZE - CF_POOL_HEADER_SIZE) / pool->block_size;
    uint64_t block = header.freeblock;
    for (size_t i = 0; i < n && block != 0; i++) {
        if (block - base - CF_POOL_HEADER_SIZE >= n * pool->block_size) {
            break;
        }
        mark_free(pool, block_index(pool, block));
        const uint64_t *next = cf_snapshot_at(memory, block, sizeof(*next));
        if (next == NULL) {
            break;
        }
        block = *next;
    }
    for (size_t i = (header.next_offset - CF_POOL_HEADER_SIZE) / pool->block_size; i < n; i++) {
        mark_free(pool, i); /* never used so far */
    }
    if (header.count == 0) { /* an empty pool: no list is kept */
        memset(pool->is_free, 0xFF, sizeof(pool->is_free));
    }
}

cf_pool_place
cf_pool_find(cf_pool *pool, cf_snapshot *memory, uintptr_t address, uintptr_t *block)
{
    uintptr_t base = address & ~(CF_POOL_SIZE - 1);
    if (pool->base != base) {
        read_pool(pool, memory, base);
    }
    if (!pool->valid) {
        return CF_POOL_NONE;
    }
    if (address - base < CF_POOL_HEADER_SIZE) {
        *block = base;
        return CF_POOL_HEADER;
    }
    size_t index = block_index(pool, address);
    *block = base + CF_POOL_HEADER_SIZE + index * pool->block_size;
    if (index >= CF_POOL_MAX_BLOCKS) {
        return CF_POOL_NONE;
    }
    return pool->is_free[index / 64] >> (index % 64) & 1 ? CF_POOL_FREE : CF_POOL_USED;
}

/* -- malloc of glibc ----------------------------------------------------- */

#define PREV_IN_USE 1u
#define IS_MMAPPED 2u

void
cf_chunks_begin(cf_chunks *chunks, uintptr_t start, uintptr_t end)
{
    *chunks = (cf_chunks){.start = start, .end = end};
}

/* Make the chunk at ADDRESS the current one. */
static void
go_to(cf_chunks *chunks, cf_snapshot *memory, uintptr_t address)
{
    const uint64_t *header = NULL;
    if (address + CF_SMALLEST_CHUNK <= chunks->end) {
        header = cf_snapshot_at(memory, address, 2 * sizeof(uint64_t));
    }
    uint64_t size = header != NULL ? header[1] & ~(uint64_t)CF_CHUNK_FLAGS : 0;
    if (size < CF_SMALLEST_CHUNK / 2 || size % CF_ALIGNMENT != 0 || size > chunks->end - address) {
        chunks->broken = true;
        return;
    }
    chunks->chunk = address;
    chunks->size = size;
    chunks->previous_in_use = (header[1] & PREV_IN_USE) != 0;
}

cf_chunk_place
cf_chunks_find(cf_chunks *chunks, cf_snapshot *memory, uintptr_t address)
{
    if (chunks->chunk == 0 && !chunks->broken) {
        go_to(chunks, memory, chunks->start);
    }
    while (!chunks->broken && address >= chunks->chunk + chunks->size) {
        go_to(chunks, memory, chunks->chunk + chunks->size);
    }
    if (chunks->broken || address < chunks->chunk) {
        return CF_CHUNK_UNKNOWN;
    }
    uintptr_t offset = address - chunks->chunk;
    if (offset >= sizeof(uint64_t) && offset < 2 * sizeof(uint64_t)) {
        return CF_CHUNK_HEADER;
    }
    if (offset < sizeof(uint64_t)) {
        return chunks->previous_in_use ? CF_CHUNK_USED : CF_CHUNK_HEADER;
    }
    uintptr_t next = chunks->chunk + chunks->size;
    if (next + CF_SMALLEST_CHUNK > chunks->end) {
        return CF_CHUNK_TOP;
    }
    const uint64_t *header = cf_snapshot_at(memory, next, 2 * sizeof(uint64_t));
    if (header == NULL) {
        return CF_CHUNK_UNKNOWN;
    }
    return header[1] & PREV_IN_USE ? CF_CHUNK_USED : CF_CHUNK_FREE;
}

bool
cf_chunk_is_mmapped(cf_snapshot *memory, uintptr_t start, uintptr_t end)
{
    const uint64_t *header = cf_snapshot_at(memory, start, 2 * sizeof(uint64_t));
    if (header == NULL || (header[1] & CF_CHUNK_FLAGS) != IS_MMAPPED) {
        return false;
    }
    uint64_t size = header[1] & ~(uint64_t)CF_CHUNK_FLAGS;
    return header[0] == 0 && size % cf_page_size() == 0 && size != 0 && size <= end - start;
}
