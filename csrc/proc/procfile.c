/* procfile.c - reading files of /proc without malloc.
 *
 * A worker that measures itself must not disturb what it measures: an fopen()
 * would take a buffer from the heap and so copy heap pages in the middle of
 * the scan. Everything here reads into memory that the caller brings.
 *
 * Files that are asked again and again stay open:
 *
 *   descriptors  0 1 2 3 4 ...            1000 1001 1002
 *                | the application's       `- ours: out of its way, and
 *                                             close-on-exec
 *   cf_file      { fd = 1001, dev, ino }  who it was when it was opened
 *
 * "Close all descriptors" is a habit of daemons, and the next open may be
 * given the number that was ours. So each use first compares dev and ino: a
 * stranger's file is neither read (its bytes would look like a measurement)
 * nor closed.
 *
 * Reads are pread at an offset of our own: sibling workers share the files of
 * the witness, and with them one file offset.
 *
 * Start reading at cf_file_open().
 */
#define _GNU_SOURCE
#include "proc/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* ---- stat lines -------------------------------------------------------- */

const char *
cf_stat_field(const char *line, int field)
{
    /* The name in field 2 may hold blanks and brackets: count from the last. */
    const char *at = strrchr(line, ')');
    if (at == NULL || at[1] != ' ') {
        return NULL;
    }
    at += 2;
    for (int i = 3; i < field; i++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            return NULL;
        }
        at++;
    }
    return at;
}

int
cf_thread_count(void)
{
    char line[1024];
    const char *field = NULL;
    if (cf_read_path("/proc/self/stat", line, sizeof(line)) > 0) {
        field = cf_stat_field(line, 20); /* num_threads */
    }
    return field == NULL ? -1 : (int)strtol(field, NULL, 10);
}

bool
cf_is_only_thread(void)
{
    int n = cf_thread_count();
    /* unshare(2): with this flag it does nothing, and fails where there are more threads. */
    return n == 1 || (n < 0 && unshare(CLONE_THREAD) == 0);
}
