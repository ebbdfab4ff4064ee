/* maps.h - the mappings of a process, one line of its maps file each.
 *
 * No Python.h, no allocation, no locks: safe after a fork and in a worker
 * whose heap must not be written. Not for signal handlers (errno changes).
 */
#ifndef CF_MAPS_H
#define CF_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The kinds of private mapping that a report tells apart. */
typedef enum {
    CF_AREA_ANON,   /* arenas of the allocators, thread stacks, mmap */
    CF_AREA_HEAP,   /* the [heap] that brk grows */
    CF_AREA_STACK,  /* the main thread's stack */
    CF_AREA_FILE,   /* MAP_PRIVATE of a file or memfd, .data of libraries */
    CF_AREA_COUNT,
    CF_AREA_SKIP = CF_AREA_COUNT  /* shared, or the kernel's own pages */
} cf_area;

/* One line of a maps file. */
typedef struct {
    uintptr_t start;
    uintptr_t end;
    uint64_t offset;
    uint64_t device;
    uint64_t inode;
    cf_area area;
    bool writable;  /* now; private or shared */
    bool executable;
    bool moved;     /* heap in a memfd: remap.c has put it there */
    const char *name;   /* not terminated; valid until the next mapping is asked for */
    size_t name_length;
} cf_mapping;

/* A position in a maps file. The buffer is the caller's and must hold the
 * longest line: a path (4096 bytes, escaped up to four times) and 100. */
typedef struct {
    int fd;
    off_t offset;     /* of the next byte to read from the file */
    char *buffer;
    size_t capacity;
    size_t cursor;    /* the first byte not yet parsed */
    size_t fill;      /* the bytes in buffer */
    bool ended;
} cf_maps;

#define CF_MAPS_BUFFER ((size_t)32 * 1024)

/* Start at the first mapping of FD, an open maps file. */
void cf_maps_begin(cf_maps *maps, int fd, char *buffer, size_t capacity);

/* The next mapping, in ascending order of address: 1 and *MAPPING filled,
 * 0 at the end, -1 with errno set (EPROTO: not a maps line). */
int cf_maps_next(cf_maps *maps, cf_mapping *mapping);

#endif
