/* blocks_at_fork.h - what the allocators' own structures said at the fork, read from
 * the witness. No Python.h, no malloc. */
#ifndef CF_BLOCKS_AT_FORK_H
#define CF_BLOCKS_AT_FORK_H

#include "allocators/layouts.h"
#include "proc/memory.h"

/* -- pymalloc ------------------------------------------------------------ */

#define CF_POOL_MAX_BLOCKS (CF_POOL_SIZE / CF_ALIGNMENT)

typedef struct {
    uintptr_t base;       /* 0: nothing looked up yet */
    bool valid;           /* a pool was here at the fork */
    size_t block_size;
    uint64_t is_free[CF_POOL_MAX_BLOCKS / 64];
} cf_pool;

typedef enum {
    CF_POOL_NONE,         /* no pool of pymalloc here */
    CF_POOL_HEADER,
    CF_POOL_FREE,         /* a block that was free at the fork */
    CF_POOL_USED,
} cf_pool_place;

/* Where in a pool ADDRESS lies; *BLOCK becomes the start of its block. POOL
 * remembers the pool looked up last. MEMORY is the witness. */
cf_pool_place cf_pool_find(cf_pool *pool, cf_snapshot *memory, uintptr_t address,
                           uintptr_t *block);

/* Is the header of a pool at BASE what HEADER, 48 bytes, says? *BLOCK_SIZE becomes its blocks'. */
bool cf_pool_fits(const void *header, uintptr_t base, size_t *block_size);

/* Did a pool begin at BASE, a multiple of CF_POOL_SIZE, at the fork? *ARENA
 * becomes the number of its arena. */
bool cf_pool_arena(cf_snapshot *memory, uintptr_t base, uint32_t *arena);

/* -- malloc of glibc ----------------------------------------------------- */

/* A position in the chain of chunks of the brk heap. */
typedef struct {
    uintptr_t start;      /* of the heap */
    uintptr_t end;
    uintptr_t chunk;      /* the chunk looked at last; 0: none yet */
    size_t size;
    bool previous_in_use;
    bool broken;          /* this is not glibc's heap, or not only */
} cf_chunks;

typedef enum {
    CF_CHUNK_UNKNOWN,     /* in the heap, but the chain does not lead there */
    CF_CHUNK_HEADER,
    CF_CHUNK_FREE,
    CF_CHUNK_USED,        /* or kept in a cache of malloc, which looks the same */
    CF_CHUNK_TOP,
} cf_chunk_place;

/* Start at the heap [START, END). */
void cf_chunks_begin(cf_chunks *chunks, uintptr_t start, uintptr_t end);

/* What lies at ADDRESS in the heap. Addresses come in rising order: the chain
 * is walked once. */
cf_chunk_place cf_chunks_find(cf_chunks *chunks, cf_snapshot *memory, uintptr_t address);

/* Does the mapping that begins at START hold one large block of malloc? */
bool cf_chunk_is_mmapped(cf_snapshot *memory, uintptr_t start, uintptr_t end);

#endif
