/* frozen_spans.h - which anonymous memory holds frozen objects and little else.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_FROZEN_SPANS_H
#define CF_FROZEN_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uintptr_t start;
    uintptr_t end;
    bool full;            /* each page that is there holds a frozen object */
} cf_span;

typedef struct {
    cf_span *spans;       /* by rising address */
    size_t n;
    size_t mappings;      /* of the whole process */
    size_t shared_pages;  /* frozen ones that another process maps as well */
} cf_spans;

/* Why memory was not moved. */
typedef enum {
    CF_MOVE_DONE,
    CF_MOVE_NOTHING,      /* no memory holds enough frozen objects */
    CF_MOVE_THREADS,      /* `who`: how many others */
    CF_MOVE_SHARERS,      /* `who`: a process that has this one's pages, if it is known */
    CF_MOVE_UNKNOWN,      /* a file of /proc cannot be read: `error` */
    CF_MOVE_MERGED,       /* KSM has merged pages */
    CF_MOVE_LOCKED,       /* mlock() */
    CF_MOVE_PINNED,       /* a device or the kernel writes to pages of this process by their frames */
    CF_MOVE_MAPPINGS,     /* too many mappings; `who`: how many there may be */
    CF_MOVE_MEMFD,        /* memfd_create() or the file's size is forbidden: `error` */
    CF_MOVE_MEMORY,       /* `error`; what had been moved was moved back */
    CF_MOVE_MALLOC,       /* malloc may rely on private memory */
    CF_MOVE_NO_HUGE,      /* no huge pages here: `error` */
} cf_move_why;

/* What was done to memory. */
typedef struct {
    cf_move_why why;
    int error;            /* errno, where it says more */
    long who;
    size_t bytes;         /* of address space that lies elsewhere now */
    size_t pieces;        /* mappings of it, or huge pages */
    size_t failed_bytes;  /* huge pages that could not be made */
    double seconds;
} cf_moved;

/* Note why memory is not moved. Always false. */
static inline bool
cf_moved_refuse(cf_moved *moved, cf_move_why why, int error, long who)
{
    moved->why = why;
    moved->error = error;
    moved->who = who;
    return false;
}

/* Find the spans of private, anonymous, writable memory, cut at multiples of UNIT
 * bytes, in which at least PER_CENT of the pages that are there hold frozen
 * objects. WHOLE: only spans of exactly UNIT bytes. Never the stack, the thread's
 * own data, or the first and last unit of the brk heap. Returns 0, or -1 with
 * errno; then *OUT is empty. */
int cf_spans_find(cf_spans *out, size_t unit, unsigned per_cent, bool whole);

void cf_spans_clear(cf_spans *spans);

/* May memory be moved at all? Looks for other threads, live children that share
 * it, merged, locked and registered pages. True; false: MOVED says why not. */
bool cf_spans_allowed(cf_moved *moved);

#endif
