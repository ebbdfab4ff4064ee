/* memory.h - the bytes of another process, read through /proc/PID/mem.
 *
 * Never process_vm_readv: it takes hold of the pages it reads as for DMA, and
 * the kernel copies every shared page before that (Linux 5.19 and later), so
 * that looking would be the copying. A pread of /proc/PID/mem leaves all pages shared.
 * No Python.h, no malloc.
 */
#ifndef CF_MEMORY_H
#define CF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A process and a piece of its memory that was read last. The buffer is the
 * caller's, CF_SNAPSHOT_BUFFER bytes. */
typedef struct {
    int fd;              /* /proc/PID/mem, open for reading; borrowed */
    unsigned char *buffer;
    uintptr_t start;     /* what the buffer holds */
    size_t size;
} cf_snapshot;

#define CF_SNAPSHOT_BUFFER ((size_t)64 * 1024)

/* Read SIZE bytes at ADDRESS into INTO. Returns 0, or -1 (not mapped there, or
 * the process is gone). */
int cf_snapshot_read(const cf_snapshot *snapshot, uintptr_t address, void *into, size_t size);

/* The SIZE bytes at ADDRESS in the buffer, which is read anew where needed;
 * NULL: cannot be read. Valid until the next call. SIZE is at most half of
 * the buffer. */
const void *cf_snapshot_at(cf_snapshot *snapshot, uintptr_t address, size_t size);

#endif
