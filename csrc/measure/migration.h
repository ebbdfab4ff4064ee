/* migration.h - pages that the kernel moves while we look at them.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_MIGRATION_H
#define CF_MIGRATION_H

#include "proc/pagemap.h"

#include <stdbool.h>
#include <stdint.h>

/* Did the page change its place or its state between two readings of one
 * entry? */
static inline bool
cf_entry_moved(uint64_t before, uint64_t behind)
{
    return ((before ^ behind) &
            (CF_ENTRY_PRESENT | CF_ENTRY_SWAPPED | CF_ENTRY_FILE |
             CF_ENTRY_EXCLUSIVE | CF_ENTRY_FRAME)) != 0;
}

/* How long one scan may still wait for pages on the move, all of them
 * together. All zero: nothing was waited for yet. */
typedef struct {
    bool begun;
    long left_ns;
} cf_patience;

/* Sleep before the next look at a page, longer each time; *PAUSE (ns) is 0
 * before the first. False, at once: patience is over. */
bool cf_patience_wait(cf_patience *patience, long *pause);

#endif
