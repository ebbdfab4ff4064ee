/* remap.c - move memory of frozen objects into a private mapping of a memfd.
 *
 *   before   [ anonymous: arena | arena | arena | ... ]     fork copies its page tables
 *
 *   file     [ piece 0 ][gap][ piece 1 ][gap] ...           written, then sealed
 *                |             |                  ... hole up to the file's end
 *   after    [ MAP_PRIVATE ][ MAP_PRIVATE ]  same addresses, same bytes
 *
 * fork() copies no page tables of a private mapping of a file that nobody has
 * written (kernel: vma_needs_copy): a child finds the pages in the page cache.
 * A written page is an anonymous one, as before, so that a write costs what it
 * cost. From the first one on fork copies the tables of the mapping that it is
 * in, so the mappings are kept small: 32 MiB where every page holds frozen
 * objects, one unit where some do not. A gap of one page in the file keeps the
 * kernel from joining neighbours.
 *
 * What could go wrong, and what is done about it:
 *   M1  No memory: pages are written with pwrite(), which fails where a store to
 *       a mapping would be a SIGBUS. One piece exists twice, never all.
 *   M2  A piece that cannot be written or mapped: what was moved before is moved
 *       back. Where that fails too, it stays moved: its bytes are the same.
 *   M3  Before Linux 6.12 a mapping that fails may have unmapped what was there.
 *       The bytes are in the file; if they cannot be mapped in any way, the
 *       process ends here, by name, and not at some later access.
 *   M4  A signal handler must not write between pwrite and mmap: all signals are
 *       blocked. Threads and sharers were refused before (frozen_spans.c).
 *   M5  realloc() grows a large block with mremap(), which would go beyond the
 *       end of a file: SIGBUS. So the file ends a TiB later, with a hole.
 *   M6  Sealed against writing and any change of size: whoever opens
 *       /proc/PID/map_files cannot change what workers read.
 *   M7  munmap() of a part gives no memory back while the rest is mapped. Frozen
 *       objects are never freed; the table of a list that still grows is.
 *
 * Moved memory counts as shared memory (RssShmem, `shmem` of a control group). It
 * is found again by its name in maps.
 */
#define _GNU_SOURCE
#include "move/remap.h"

#include "allocators/seal_malloc.h"
#include "base/mem.h"
#include "proc/pagemap.h"
#include "base/pageset.h"
#include "proc/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define UNIT ((size_t)1 << 20)
#define LARGEST_PIECE ((size_t)32 << 20)
#define PER_CENT 75
#define TAIL ((off_t)1 << 40)          /* M5 */
#define SPARE_MAPPINGS 1024            /* left for the program */

typedef struct {
    int fd;
    cf_spans spans;        /* joined: a span is a piece */
    off_t *offsets;        /* of each piece in the file */
    size_t room;           /* of offsets, in bytes */
    cf_file pagemap;
    uint64_t *entries;     /* of LARGEST_PIECE */
    size_t moved;          /* pieces */
    size_t written;        /* bytes */
} mover;

/* Under the GIL, which the caller of cf_remap holds. */
static long fail_countdown = -1;
static size_t total;

size_t
cf_remap_total(void)
{
    return total;
}

void
cf_remap_fail_at(long n)
{
    fail_countdown = n;
}

static bool
must_fail(void)
{
    if (fail_countdown < 0 || --fail_countdown > 0) {
        return false;
    }
    fail_countdown = -1;
    errno = ENOMEM;
    return true;
}

/* -- before -------------------------------------------------------------- */

/* A file of SIZE bytes and its tail, or -1 with errno. */
static int
open_file(off_t size)
{
    int fd = memfd_create(CF_REMAP_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ftruncate(fd, size + TAIL) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* How many mappings a process may have; where that cannot be read, the kernel's default. */
static long
mappings_allowed(void)
{
    char text[32];
    long allowed = 0;
    if (cf_read_path("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0) {
        allowed = strtol(text, NULL, 10);
    }
    return allowed > 0 ? allowed : 65530;
}

static bool
enough_mappings(cf_moved *moved, size_t now, size_t more)
{
    long allowed = mappings_allowed();
    if ((long)(now + more + SPARE_MAPPINGS) > allowed) {
        return cf_moved_refuse(moved, CF_MOVE_MAPPINGS, 0, allowed);
    }
    return true;
}

bool
cf_remap_check(cf_moved *moved)
{
    *moved = (cf_moved){0};
    if (!cf_spans_allowed(moved)) {
        return false;
    }
    if (!cf_chunks_malloc_is_known()) {
        return cf_moved_refuse(moved, CF_MOVE_MALLOC, 0, 0);
    }
    int fd = open_file(0);
    if (fd < 0) {
        return cf_moved_refuse(moved, CF_MOVE_MEMFD, errno, 0);
    }
    close(fd);
    cf_spans spans;
    if (cf_spans_find(&spans, UNIT, PER_CENT, false) < 0) {
        return cf_moved_refuse(moved, errno == ENOMEM ? CF_MOVE_MEMORY : CF_MOVE_UNKNOWN, errno, 0);
    }
    bool allowed = enough_mappings(moved, spans.mappings, 0);
    if (allowed && spans.shared_pages > 0) {
        allowed = cf_moved_refuse(moved, CF_MOVE_SHARERS, 0, 0);
    }
    cf_spans_clear(&spans);
    return allowed;
}

/* -- pieces -------------------------------------------------------------- */

/* Join neighbours that are full, and give each piece its place in the file. */
static off_t
plan_pieces(mover *m)
{
    cf_span *spans = m->spans.spans;
    size_t n = 0;
    off_t size = 0;
    for (size_t i = 0; i < m->spans.n; i++) {
        cf_span *last = n > 0 ? &spans[n - 1] : NULL;
        if (last != NULL && last->full && spans[i].full && last->end == spans[i].start
            && spans[i].end - last->start <= LARGEST_PIECE) {
            last->end = spans[i].end;
        }
        else {
            spans[n++] = spans[i];
        }
    }
    m->spans.n = n;
    for (size_t i = 0; i < n; i++) {
        m->offsets[i] = size;
        size += (off_t)(spans[i].end - spans[i].start + cf_page_size());
    }
    return size;
}

static int
write_all(int fd, uintptr_t from, size_t size, off_t at)
{
    while (size > 0) {
        ssize_t done = must_fail() ? -1 : pwrite(fd, (const void *)from, size, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            errno = done == 0 ? ENOSPC : errno;
            return -1;
        }
        from += (size_t)done;
        at += done;
        size -= (size_t)done;
    }
    return 0;
}

/* Write the pages of PIECE that are there; the others stay holes. */
static int
write_piece(mover *m, const cf_span *piece, off_t offset)
{
    size_t page = cf_page_size();
    size_t n = (piece->end - piece->start) / page;
    if (cf_pagemap_read(&m->pagemap, m->entries, piece->start / page, n) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n;) {
        size_t first = i;
        while (i < n && (m->entries[i] & (CF_ENTRY_PRESENT | CF_ENTRY_SWAPPED)) != 0) {
            i++;
        }
        if (i > first
            && write_all(m->fd, piece->start + first * page, (i - first) * page,
                         offset + (off_t)(first * page)) < 0) {
            return -1;
        }
        m->written += (i - first) * page;
        i += i == first;
    }
    return 0;
}

static int
map_file(const mover *m, const cf_span *piece, off_t offset)
{
    void *at = mmap((void *)piece->start, piece->end - piece->start, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, m->fd, offset);
    return at == MAP_FAILED ? -1 : 0;
}

/* Make PIECE anonymous again, from the file. -1: it is as it was. */
static int
restore(const mover *m, const cf_span *piece, off_t offset)
{
    size_t size = piece->end - piece->start;
    char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) {
        return -1;
    }
    off_t at = offset, end = offset + (off_t)size;
    while ((at = lseek(m->fd, at, SEEK_DATA)) >= 0 && at < end) {
        off_t hole = lseek(m->fd, at, SEEK_HOLE);
        hole = hole < 0 || hole > end ? end : hole;
        ssize_t got = pread(m->fd, copy + (at - offset), (size_t)(hole - at), at);
        if (got <= 0) {
            munmap(copy, size);
            return -1;
        }
        at += got;
    }
    void *target = (void *)piece->start;
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
        munmap(copy, size);
        return -1;
    }
    return 0;
}

static bool
is_mapped(const cf_span *piece)
{
    /* ENOMEM: part of it is not. No memory is touched or changed. */
    return msync((void *)piece->start, piece->end - piece->start, MS_ASYNC) == 0
           || errno != ENOMEM;
}

/* M3: PIECE could not be mapped; its bytes must be at their place all the same. */
static void
keep_alive(const mover *m, const cf_span *piece, off_t offset)
{
    static const char text[] = "cowfreeze: memory of the process was unmapped by a mmap() that "
                               "failed, and cannot be mapped again; it cannot go on\n";
    if (is_mapped(piece) || map_file(m, piece, offset) == 0 || restore(m, piece, offset) == 0) {
        return;
    }
    (void)!write(2, text, sizeof(text) - 1);
    abort();
}

/* Move all pieces. Returns 0, or -1 with errno and everything back (M2). */
static int
move_pieces(mover *m)
{
    for (; m->moved < m->spans.n; m->moved++) {
        const cf_span *piece = &m->spans.spans[m->moved];
        off_t offset = m->offsets[m->moved];
        if (write_piece(m, piece, offset) < 0) {
            break;
        }
        if (must_fail() || map_file(m, piece, offset) < 0) {
            int saved = errno;
            keep_alive(m, piece, offset);
            errno = saved;
            break;
        }
    }
    if (m->moved == m->spans.n) {
        total += m->written;
        return 0;
    }
    int saved = errno;
    while (m->moved > 0) {
        m->moved--;
        (void)restore(m, &m->spans.spans[m->moved], m->offsets[m->moved]);
    }
    errno = saved;
    return -1;
}

/* -- the operation ------------------------------------------------------- */

static bool
open_mover(mover *m, cf_moved *moved)
{
    if (cf_spans_find(&m->spans, UNIT, PER_CENT, false) < 0) {
        return cf_moved_refuse(moved, errno == ENOMEM ? CF_MOVE_MEMORY : CF_MOVE_UNKNOWN, errno, 0);
    }
    if (m->spans.shared_pages > 0) {
        return cf_moved_refuse(moved, CF_MOVE_SHARERS, 0, 0);
    }
    if (m->spans.n == 0) {
        return cf_moved_refuse(moved, CF_MOVE_NOTHING, 0, 0);
    }
    m->room = m->spans.n * sizeof(off_t);
    m->offsets = cf_mem_map(m->room);
    m->entries = cf_mem_map(LARGEST_PIECE / cf_page_size() * sizeof(uint64_t));
    cf_file_open(&m->pagemap, "/proc/self/pagemap");
    if (m->offsets == NULL || m->entries == NULL || m->pagemap.fd < 0) {
        return cf_moved_refuse(moved, CF_MOVE_MEMORY, ENOMEM, 0);
    }
    off_t size = plan_pieces(m);
    /* A piece in the middle of a mapping leaves one on both sides. */
    if (!enough_mappings(moved, m->spans.mappings, 2 * m->spans.n)) {
        return false;
    }
    m->fd = open_file(size);
    return m->fd >= 0 ? true : cf_moved_refuse(moved, CF_MOVE_MEMFD, errno, 0);
}

static void
close_mover(mover *m)
{
    cf_mem_unmap(m->offsets, m->room);
    cf_mem_unmap(m->entries, LARGEST_PIECE / cf_page_size() * sizeof(uint64_t));
    cf_spans_clear(&m->spans);
    cf_file_close(&m->pagemap);
    if (m->fd >= 0) {
        close(m->fd); /* the mappings keep the file */
    }
}

void
cf_remap(cf_moved *moved)
{
    struct timespec start, end;
    mover m = {.fd = -1, .pagemap = {.fd = -1}};
    sigset_t all, before;
    *moved = (cf_moved){0};
    clock_gettime(CLOCK_MONOTONIC, &start);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* M4; refused if there are threads */
    if (cf_spans_allowed(moved) && open_mover(&m, moved)) {
        if (move_pieces(&m) < 0) {
            cf_moved_refuse(moved, CF_MOVE_MEMORY, errno, 0);
        }
        /* M6. Without the seals nothing works worse: nobody else has the file. */
        (void)fcntl(m.fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    }
    for (size_t i = 0; i < m.moved; i++) {
        moved->bytes += m.spans.spans[i].end - m.spans.spans[i].start;
    }
    moved->pieces = m.moved;
    close_mover(&m);
    sigprocmask(SIG_SETMASK, &before, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    moved->seconds = (double)(end.tv_sec - start.tv_sec)
                     + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
}
