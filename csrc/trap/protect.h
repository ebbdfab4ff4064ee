/* protect.h - pages that fault when they are written, through mprotect.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_TRAP_PROTECT_H
#define CF_TRAP_PROTECT_H

#include "trap/pages.h"

/* How many ranges this process can protect without exhausting its mappings. */
size_t cf_protect_most_ranges(void);

/* Protect every range. Returns 0, or -1 with errno set and everything open
 * again (ENOMEM: vm.max_map_count). */
int cf_protect_start(cf_watch *watch);

/* Open the page of ADDRESS, which is in a range. Where the kernel has no mapping
 * left to split, open everything. Returns how many pages were opened that way,
 * else 0. Async-signal-safe. */
size_t cf_protect_open(cf_watch *watch, uintptr_t address);

/* Open everything. Async-signal-safe. */
void cf_protect_stop(cf_watch *watch);

#endif
