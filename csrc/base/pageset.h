/* pageset.h - a set of OS pages, kept outside the Python heap.
 *
 * Used for the frozen pages: the freeze adds to it, a worker's audit asks it.
 * No Python.h; no locks (the callers hold the GIL, or are single-threaded).
 */
#ifndef CF_PAGESET_H
#define CF_PAGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cf_pageset cf_pageset;

/* An empty set, or NULL (out of memory). */
cf_pageset *cf_pageset_new(void);

/* Give everything back; NULL is allowed. */
void cf_pageset_free(cf_pageset *set);

/* Add every page that [START, END) touches. Returns 0, or -1 (out of memory;
 * never within what cf_pageset_reserve_regions made room for). */
int cf_pageset_add(cf_pageset *set, uintptr_t start, uintptr_t end);

/* Make room for N more regions of 1 MiB, whichever they are. Returns 0, or -1
 * (out of memory; the set is unchanged). */
int cf_pageset_reserve_regions(cf_pageset *set, size_t n);

/* Add all pages of OTHER. Cannot fail after cf_pageset_reserve_regions. */
void cf_pageset_merge(cf_pageset *set, const cf_pageset *other);

/* Bytes that members take. */
size_t cf_pageset_used_bytes(const cf_pageset *set);

/* Is the page that holds ADDRESS in the set? Writes nothing, allocates
 * nothing: safe in a worker and in a signal handler. */
bool cf_pageset_contains(const cf_pageset *set, uintptr_t address);

/* How many pages. */
size_t cf_pageset_count(const cf_pageset *set);

/* Call VISIT(start, end, ARG) for every 1 MiB region that holds a member, in no
 * order, until it returns non-zero; that value is returned. */
int cf_pageset_ranges(const cf_pageset *set, int (*visit)(uintptr_t, uintptr_t, void *),
                      void *arg);

/* The page size of this machine, in bytes (asked once). */
size_t cf_page_size(void);

/* The pages that hold frozen objects; NULL until the first freeze. Owned by
 * freeze.c; everybody else only reads it. */
extern cf_pageset *cf_frozen_pages;

#endif
