/* record.h - what a worker's audit found: pages, and the bytes that it pipes up.
 *
 * Header only; no Python.h.
 */
#ifndef CF_RECORD_H
#define CF_RECORD_H

#include "proc/maps.h"

#include <stddef.h>
#include <stdint.h>

/* Pages by the address of their first byte, ascending. There may be more of
 * them than there is room for: those are counted only. */
typedef struct {
    uintptr_t *addresses;
    size_t count;
    size_t room;
} cf_pages;

/* Why a figure is unknown: a set of bits. decode_record() has the words. */
enum {
    CF_WHY_NO_PAGEMAP = 1 << 0,      /* own pagemap; `error` says why */
    CF_WHY_NO_MAPS = 1 << 1,         /* own maps */
    CF_WHY_NO_WITNESS_FILE = 1 << 2, /* the witness's pagemap; `error` */
    CF_WHY_WITNESS_DIED = 1 << 3,
    CF_WHY_SWAP = 1 << 4,            /* `unknown_pages` says how many */
    CF_WHY_KSM = 1 << 5,
    CF_WHY_CHILD = 1 << 6,           /* `child` shares this memory */
    CF_WHY_CHILD_UNKNOWN = 1 << 7,   /* `child` cannot be looked at */
    CF_WHY_OTHER_PROCESS = 1 << 8,   /* measured by a child of the worker */
    CF_WHY_NO_MEMORY = 1 << 9,
    CF_WHY_FAILED = 1 << 10,         /* a read failed half-way; `error` */
    CF_WHY_NO_RUSAGE = 1 << 11,      /* only the fault counts are unknown */
    CF_WHY_OTHER_PROC = 1 << 12,     /* /proc numbers other processes */
    CF_WHY_NO_ROOM = 1 << 13         /* for the pages of the measuring before */
};

enum { CF_METHOD_NONE, CF_METHOD_BIT56, CF_METHOD_PFN };

#define CF_RECORD_MAGIC UINT32_C(0x57464331)  /* "1CFW" */

/* What a worker pipes up: fixed size, below PIPE_BUF, so that one write(2)
 * cannot be torn. Both ends are the same program; -1 is "unknown". */
typedef struct {
    uint32_t magic;
    uint32_t size;
    uint32_t method;
    uint32_t why;
    int32_t error;
    int32_t pid;
    int32_t child;
    int32_t reserved;
    int64_t copied;
    int64_t frozen_copied;
    int64_t fresh;
    int64_t minor_faults;
    int64_t major_faults;
    int64_t by_area[CF_AREA_COUNT];  /* of `copied` */
    uint64_t unknown_pages;
    uint64_t scanned_bytes;
    uint64_t scan_ns;
    uint64_t page_size;
} cf_record;

#endif
