/* pages.h - which pages a trap watches, and which were written already.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_TRAP_PAGES_H
#define CF_TRAP_PAGES_H

#include "proc/maps.h"
#include "base/pageset.h"

#include <stdatomic.h>

/* Pages side by side. */
typedef struct {
    uintptr_t start;
    uintptr_t end;
    size_t first;         /* number of its first page; counted over all ranges */
    bool protected;       /* by protect.c */
} cf_watch_range;

typedef struct {
    uintptr_t start;
    uintptr_t end;
} cf_watch_span;

#define CF_SPARED 3 /* the thread's own data, its signal stack, what handlers write */

typedef struct {
    cf_watch_range *ranges; /* ascending */
    size_t n;
    size_t capacity;
    _Atomic uint64_t *done; /* a bit per page: written, or not watched at all */
    size_t pages;           /* in ranges */
    size_t joined;          /* of them, not watched: they join two ranges */
    size_t exclusive;       /* watched ones that were this process's alone */
    bool exclusive_known;
    size_t mappings;        /* of this process, when it was looked at */
    cf_watch_span spared[CF_SPARED]; /* never watched, nor joined over */
} cf_watch;

typedef enum {
    CF_WATCH_FROZEN,      /* pages that hold frozen objects */
    CF_WATCH_ALL,         /* every page that is there, of private writable memory */
} cf_watch_scope;

/* Look at this process's mappings and take the pages of SCOPE; stacks, the
 * thread's own data, its signal stack and STATE, which the handlers write, are left out. If that
 * makes more than MOST ranges, ranges with small gaps are joined. Returns 0, or -1 with errno set
 * (WATCH is empty). */
int cf_watch_build(cf_watch *watch, cf_watch_scope scope, const cf_pageset *frozen,
                   const cf_watch_span *state, size_t most);

void cf_watch_clear(cf_watch *watch);

/* The range that holds ADDRESS, or NULL. Async-signal-safe. */
cf_watch_range *cf_watch_find(const cf_watch *watch, uintptr_t address);

/* Is this page's first write still to come? Async-signal-safe. */
static inline size_t
cf_watch_number(const cf_watch_range *range, uintptr_t address)
{
    return range->first + (address - range->start) / cf_page_size();
}

static inline bool
cf_watch_is_done(const cf_watch *watch, size_t number)
{
    return atomic_load(&watch->done[number / 64]) >> (number % 64) & 1;
}

static inline void
cf_watch_set_done(cf_watch *watch, size_t number)
{
    atomic_fetch_or(&watch->done[number / 64], UINT64_C(1) << (number % 64));
}

/* Map in the pages of WATCH that this process has not touched yet, without copying any.
 * fork() leaves out what lies in a memfd (remap.c, pack.c), so the first read of such a
 * page is a fault, too, and perf cannot tell it from the first write. */
void cf_watch_map_in(const cf_watch *watch);

#endif
