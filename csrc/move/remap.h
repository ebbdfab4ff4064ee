/* remap.h - move memory of frozen objects into a private mapping of a memfd.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_REMAP_H
#define CF_REMAP_H

#include "move/frozen_spans.h"

#include <stdbool.h>

/* The name of the files in /proc/PID/maps begins with this (maps.c knows it). */
#define CF_REMAP_NAME "cowfreeze-heap"

/* Could cf_remap() succeed in this process? Changes nothing. True; false: MOVED
 * says why not. */
bool cf_remap_check(cf_moved *moved);

/* Move what holds frozen objects; every address and every byte stays. The caller
 * holds the GIL and has no other thread; no Python code runs. Nothing is raised:
 * MOVED says what happened. If it fails half-way, what was moved is moved back. */
void cf_remap(cf_moved *moved);

/* Bytes of memory (pages that were there) that all calls so far have moved. */
size_t cf_remap_total(void);

/* For tests: let the N-th step (a write to the file, a mapping) fail; negative: none. */
void cf_remap_fail_at(long n);

#endif
