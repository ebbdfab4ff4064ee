/* arena.c - memory of a memfd that is filled once and then only shared.
 *
 *   while it is filled    [ file, MAP_SHARED, writable |  address space only, PROT_NONE  ]
 *                          ^base              ^used  ^backed                    ^reserved
 *   PRIVATE               [ file, MAP_PRIVATE, writable ]     sealed: the file cannot change
 *   READ_ONLY             [ file, MAP_PRIVATE, read-only ]    sealed
 *   SHARED                [ file, MAP_SHARED, writable ]
 *
 * fork() skips a private mapping of a file that has no copied page (kernel:
 * vma_needs_copy), so the time of a fork does not depend on the size. And a
 * written page is an anonymous one in it, which the audit tells from the file's.
 *
 * Arenas of one kind are put one behind the other if that address is free, so
 * that many of them are not spread over the whole address space: a freeze keeps
 * a bit for every 8 bytes between neighbours.
 *
 * Memory is taken with fallocate: a page that cannot be had is an error here
 * and not a SIGBUS at the first write.
 */
#define _GNU_SOURCE
#include "pack/arena.h"

#include "base/pageset.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGEST_RANGE ((size_t)1 << 38)
#define SMALLEST_RANGE ((size_t)1 << 20)
#define ENOUGH ((size_t)1 << 34) /* behind another arena; less than that: elsewhere */
#define SMALLEST_STEP ((size_t)1 << 18)
#define LARGEST_STEP ((size_t)64 << 20)

static size_t
round_up(size_t size)
{
    size_t page = cf_page_size();
    return (size + page - 1) / page * page;
}

/* Behind the last arena of each kind. Under the GIL. */
static char *next_place[CF_ARENA_KINDS];

/* Address space at PLACE or, if that is NULL, anywhere; as much as there is and
 * as a limit lets us have. Returns 0, or -1 with errno. */
static int
reserve(cf_arena *arena, char *place)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    for (size_t size = LARGEST_RANGE; size >= SMALLEST_RANGE; size /= 2) {
        char *base = mmap(place, size, PROT_NONE,
                          flags | (place != NULL ? MAP_FIXED_NOREPLACE : 0), -1, 0);
        if (base == MAP_FAILED) {
            continue;
        }
        if (place != NULL && base != place) {
            munmap(base, size); /* before Linux 4.17 it was only a hint */
            continue;
        }
        arena->base = base;
        arena->reserved = size;
        return 0;
    }
    return -1;
}

int
cf_arena_open(cf_arena *arena, cf_arena_kind kind)
{
    static const char *const names[] = {"cowfreeze-headers", "cowfreeze-tables"};
    *arena = (cf_arena){.fd = -1, .kind = kind};
    arena->fd = memfd_create(names[kind], MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (arena->fd < 0) {
        return -1;
    }
    if (next_place[kind] != NULL && reserve(arena, next_place[kind]) == 0) {
        if (arena->reserved >= ENOUGH) {
            return 0;
        }
        munmap(arena->base, arena->reserved);
    }
    arena->base = NULL;
    arena->reserved = 0;
    if (reserve(arena, NULL) == 0) {
        return 0;
    }
    int saved = errno;
    cf_arena_close(arena);
    errno = saved;
    return -1;
}

int
cf_arena_grow(cf_arena *arena, size_t size)
{
    size_t step = arena->backed / 4;
    step = step < SMALLEST_STEP ? SMALLEST_STEP : step > LARGEST_STEP ? LARGEST_STEP : step;
    size_t missing = size - (arena->backed - arena->used);
    size_t more = round_up(missing > step ? missing : step);
    size_t left = arena->reserved - arena->backed;
    if (more > left) {
        more = left;
    }
    if (more < missing) {
        errno = ENOMEM;
        return -1;
    }
    int status;
    do {
        status = fallocate(arena->fd, 0, (off_t)arena->backed, (off_t)more);
    } while (status < 0 && errno == EINTR);
    if (status < 0) {
        return -1;
    }
    void *at = mmap(arena->base + arena->backed, more, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, arena->fd, (off_t)arena->backed);
    if (at == MAP_FAILED) {
        return -1;
    }
    arena->backed += more;
    return 0;
}

int
cf_arena_finish(cf_arena *arena, cf_arena_mode mode)
{
    size_t size = round_up(arena->used);
    if (munmap(arena->base + size, arena->reserved - size) < 0) {
        return -1;
    }
    arena->reserved = size;
    arena->backed = size;
    int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (size > 0) {
        if (ftruncate(arena->fd, (off_t)size) < 0) {
            return -1;
        }
        if (mode != CF_ARENA_SHARED) {
            int protection = mode == CF_ARENA_READ_ONLY ? PROT_READ : PROT_READ | PROT_WRITE;
            void *at = mmap(arena->base, size, protection,
                            MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, arena->fd, 0);
            if (at == MAP_FAILED) {
                return -1;
            }
            seals |= F_SEAL_WRITE;
        }
    }
    if (fcntl(arena->fd, F_ADD_SEALS, seals) < 0) {
        return -1;
    }
    close(arena->fd); /* the mapping keeps the file */
    arena->fd = -1;
    next_place[arena->kind] = arena->base + size;
    return 0;
}

void
cf_arena_close(cf_arena *arena)
{
    if (arena->base != NULL && arena->reserved > 0) {
        munmap(arena->base, arena->reserved);
    }
    if (arena->fd >= 0) {
        close(arena->fd);
    }
    *arena = (cf_arena){.fd = -1};
}
