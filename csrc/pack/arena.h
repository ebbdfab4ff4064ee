/* arena.h - memory of a memfd that is filled once and then only shared.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_ARENA_H
#define CF_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef enum { CF_ARENA_OF_HEADERS, CF_ARENA_OF_TABLES, CF_ARENA_KINDS } cf_arena_kind;

typedef struct {
    cf_arena_kind kind;
    char *base;      /* of the address range; objects in it never move */
    size_t reserved; /* bytes of address space */
    size_t backed;   /* of them with memory behind */
    size_t used;
    int fd;
} cf_arena;

/* What becomes of an arena that is complete. */
typedef enum {
    CF_ARENA_PRIVATE,   /* a write copies the page, for this process only */
    CF_ARENA_READ_ONLY, /* a write kills the process */
    CF_ARENA_SHARED,    /* a write is seen by all processes */
} cf_arena_mode;

/* An empty arena. Returns 0, or -1 with errno (EPERM, ENOSYS: no memfd here). */
int cf_arena_open(cf_arena *arena, cf_arena_kind kind);

/* Back at least SIZE more bytes. Returns 0, or -1 with errno. */
int cf_arena_grow(cf_arena *arena, size_t size);

/* SIZE bytes of zeroed memory on an 8-byte boundary, or NULL with errno. */
static inline void *
cf_arena_take(cf_arena *arena, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (arena->backed - arena->used < size && cf_arena_grow(arena, size) < 0) {
        return NULL;
    }
    void *block = arena->base + arena->used;
    arena->used += size;
    return block;
}

/* Cut ARENA to what is used and map it again as MODE says. Its memory stays
 * until the process ends. Returns 0, or -1 with errno: then close it. */
int cf_arena_finish(cf_arena *arena, cf_arena_mode mode);

/* Give everything back. */
void cf_arena_close(cf_arena *arena);

#endif
