/* memory.c - the bytes of another process, read through /proc/PID/mem.
 *
 *   buffer [ start ......................... start + size )
 *               ^ address: served from here while neighbours are asked for
 *
 * Questions come by rising address, so one buffer serves nearly all of them.
 */
#define _GNU_SOURCE 1
#include "proc/memory.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

int
cf_snapshot_read(const cf_snapshot *snapshot, uintptr_t address, void *into, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(snapshot->fd, (char *)into + done, size - done,
                            (off_t)(address + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return -1; /* 0: the process has no memory any more */
        }
        done += (size_t)got;
    }
    return 0;
}

const void *
cf_snapshot_at(cf_snapshot *snapshot, uintptr_t address, size_t size)
{
    uintptr_t offset = address - snapshot->start;
    if (offset < snapshot->size && size <= snapshot->size - offset) {
        return snapshot->buffer + offset;
    }
    ssize_t got;
    do {
        got = pread(snapshot->fd, snapshot->buffer, CF_SNAPSHOT_BUFFER, (off_t)address);
    } while (got < 0 && errno == EINTR);
    snapshot->start = address;
    snapshot->size = got > 0 ? (size_t)got : 0; /* short: a hole follows */
    return snapshot->size >= size ? snapshot->buffer : NULL;
}
