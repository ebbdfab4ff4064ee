/* maps.c - reading /proc without malloc: descriptors, small files, mappings.
 *
 * A worker that measures itself must not disturb what it measures. An
 * fopen() would take a buffer from the heap and so copy heap pages in the
 * middle of the scan; everything here reads into memory that the caller
 * brings, and the parser works on the bytes where they lie:
 *
 *   7f12a4000000-7f12a4100000 rw-p 00000000 00:00 0            [anon:x]
 *   `---start--' `---end----' |  | `offset' dev   inode        `-name
 *                             |  `- p: private; s: shared, never copied
 *                             `---- not looked at: a page written before
 *                                   an mprotect is copied all the same
 *
 * Lines are read with pread at an offset of our own. Sibling workers share
 * the witness's maps file, with one file offset for all of them; read(2)
 * would give each of them only a part.
 *
 * Start reading at cf_maps_next().
 */
#define _GNU_SOURCE
#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- descriptors ------------------------------------------------------ */

/* Move FD where applications do not look: daemons close and reuse low
 * numbers. Keeps the low one if the limit leaves no room above. */
static int
move_high(int fd)
{
    static const int floors[] = {1000, 200, 20};
    for (size_t i = 0; i < sizeof(floors) / sizeof(floors[0]); i++) {
        int high = fcntl(fd, F_DUPFD_CLOEXEC, floors[i]);
        if (high >= 0) {
            close(fd);
            return high;
        }
    }
    return fd;
}

void
cf_file_open(cf_file *file, const char *path)
{
    struct stat status;
    file->error = 0;
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0) {
        file->error = errno;
        return;
    }
    file->fd = move_high(file->fd);
    if (fstat(file->fd, &status) < 0) {
        file->error = errno;
        close(file->fd);
        file->fd = -1;
        return;
    }
    file->dev = status.st_dev;
    file->ino = status.st_ino;
}

bool
cf_file_intact(const cf_file *file)
{
    struct stat status;
    return file->fd >= 0 && fstat(file->fd, &status) == 0 &&
           status.st_dev == file->dev && status.st_ino == file->ino;
}

void
cf_file_close(cf_file *file)
{
    if (cf_file_intact(file)) {
        close(file->fd);
    }
    file->fd = -1;
}

/* Fill BUFFER from the start of FD; pread, so that a shared offset stays. */
static ssize_t
read_start(int fd, char *buffer, size_t size)
{
    size_t length = 0;
    ssize_t got = 0;
    while (length < size - 1) {
        got = pread(fd, buffer + length, size - 1 - length, (off_t)length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
    }
    buffer[length] = '\0';
    return got < 0 ? -1 : (ssize_t)length;
}

ssize_t
cf_read_path(const char *path, char *buffer, size_t size)
{
    buffer[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t length = read_start(fd, buffer, size);
    int saved = errno;
    close(fd);
    errno = saved;
    return length;
}

ssize_t
cf_read_file(const cf_file *file, char *buffer, size_t size)
{
    buffer[0] = '\0';
    if (!cf_file_intact(file)) {
        errno = file->error ? file->error : EBADF;
        return -1;
    }
    return read_start(file->fd, buffer, size);
}

/* ---- mappings --------------------------------------------------------- */

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
