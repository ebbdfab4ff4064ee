/* maps.c - the mappings of a process, one line of its maps file each.
 *
 * Parsed where the bytes lie, in a buffer that the caller brings: a worker
 * may not take memory from the heap while it measures it (procfile.c).
 *
 *   7f12a4000000-7f12a4100000 rw-p 00000000 00:00 0            [anon:x]
 *   `---start--' `---end----'  | | `offset' dev   inode        `-name
 *                              | `- p: private; s: shared, never copied
 *                              `--- w: writable at this moment. The scan of
 *                                   copied pages does not ask: a page that
 *                                   was written before an mprotect is a copy
 *                                   all the same
 *
 *   buffer   [ parsed | a line\n a line\n half a li | free ]
 *                      ^cursor                      ^fill
 *            a refill moves the rest to the front and reads behind it
 *
 * Lines are read with pread at an offset of our own. Sibling workers share
 * the witness's maps file, with one file offset for all of them; read(2)
 * would give each of them only a part.
 *
 * Start reading at cf_maps_next().
 */
#define _GNU_SOURCE
#include "proc/maps.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Read a number in BASE at *AT, which moves behind it; false if none. */
static bool
number(const char **at, const char *end, unsigned base, uint64_t *out)
{
    const char *start = *at;
    uint64_t value = 0;
    while (*at < end) {
        unsigned digit = (unsigned char)**at;
        if (digit >= '0' && digit <= '9') {
            digit -= '0';
        }
        else if (digit >= 'a' && digit <= 'f') {
            digit -= 'a' - 10;
        }
        else {
            break;
        }
        if (digit >= base) {
            break;
        }
        value = value * base + digit;
        ++*at;
    }
    *out = value;
    return *at > start;
}

static bool
skip(const char **at, const char *end, char expected)
{
    if (*at < end && **at == expected) {
        ++*at;
        return true;
    }
    return false;
}

static bool
begins(const char *at, const char *end, const char *prefix)
{
    size_t length = strlen(prefix);
    return (size_t)(end - at) >= length && memcmp(at, prefix, length) == 0;
}

static cf_area
area_of(bool shared, uint64_t inode, const char *name, const char *end)
{
    /* [vdso], [vvar], [vvar_vclock], [vsyscall], [vectors]: the kernel's
     * pages, which no process copies. */
    if (shared || begins(name, end, "[v")) {
        return CF_AREA_SKIP;
    }
    if (inode != 0) {
        return CF_AREA_FILE;
    }
    if (begins(name, end, "[heap]")) {
        return CF_AREA_HEAP;
    }
    if (begins(name, end, "[stack]")) {
        return CF_AREA_STACK;
    }
    return CF_AREA_ANON;
}

static bool
parse(const char *at, const char *end, cf_mapping *mapping)
{
    uint64_t start, stop, major, minor;
    if (!number(&at, end, 16, &start) || !skip(&at, end, '-') ||
        !number(&at, end, 16, &stop) || !skip(&at, end, ' ') ||
        end - at < 5) {
        return false;
    }
    bool shared = at[3] == 's';
    mapping->writable = at[1] == 'w';
    mapping->executable = at[2] == 'x';
    at += 5;  /* "rw-p " */
    if (!number(&at, end, 16, &mapping->offset) || !skip(&at, end, ' ') ||
        !number(&at, end, 16, &major) || !skip(&at, end, ':') ||
        !number(&at, end, 16, &minor) || !skip(&at, end, ' ') ||
        !number(&at, end, 10, &mapping->inode)) {
        return false;
    }
    while (skip(&at, end, ' ')) {
    }
    mapping->start = (uintptr_t)start;
    mapping->end = (uintptr_t)stop;
    mapping->device = makedev((unsigned)major, (unsigned)minor);
    mapping->area = area_of(shared, mapping->inode, at, end);
    mapping->name = at;
    mapping->name_length = (size_t)(end - at);
    mapping->moved = mapping->area == CF_AREA_FILE && begins(at, end, "/memfd:cowfreeze-heap");
    return start <= stop;
}

void
cf_maps_begin(cf_maps *maps, int fd, char *buffer, size_t capacity)
{
    *maps = (cf_maps){.fd = fd, .buffer = buffer, .capacity = capacity};
}

/* Move the unparsed rest to the front and read behind it. Returns the bytes
 * read, 0 at the end of the file, -1 with errno. */
static ssize_t
refill(cf_maps *maps)
{
    size_t rest = maps->fill - maps->cursor;
    memmove(maps->buffer, maps->buffer + maps->cursor, rest);
    maps->cursor = 0;
    maps->fill = rest;
    if (rest == maps->capacity) {
        errno = EPROTO;  /* a line longer than the buffer */
        return -1;
    }
    ssize_t got;
    do {
        got = pread(maps->fd, maps->buffer + rest, maps->capacity - rest,
                    maps->offset);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        maps->offset += got;
        maps->fill += (size_t)got;
    }
    return got;
}

int
cf_maps_next(cf_maps *maps, cf_mapping *mapping)
{
    for (;;) {
        const char *line = maps->buffer + maps->cursor;
        size_t rest = maps->fill - maps->cursor;
        const char *newline = rest ? memchr(line, '\n', rest) : NULL;
        if (newline != NULL) {
            maps->cursor += (size_t)(newline - line) + 1;
            if (!parse(line, newline, mapping)) {
                errno = EPROTO;
                return -1;
            }
            return 1;
        }
        if (maps->ended) {
            return 0;
        }
        ssize_t got = refill(maps);
        if (got < 0) {
            return -1;
        }
        maps->ended = got == 0;
    }
}
