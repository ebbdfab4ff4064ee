/* descendants.h - live descendants that share this process's pages.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_DESCENDANTS_H
#define CF_DESCENDANTS_H

#include <stddef.h>
#include <sys/types.h>

typedef enum {
    CF_KIN_NONE,     /* no live descendant shares this process's pages */
    CF_KIN_SHARING,  /* one does: its pid is given */
    CF_KIN_UNKNOWN   /* it cannot be told */
} cf_kin;

/* Look for live descendants of this process that still have its memory.
 * Needs PR_SET_CHILD_SUBREAPER since before the first of them was forked:
 * else the orphans among them belong to init and are not seen. EXCEPT is the
 * witness: a child of the process that forked it, but what it holds are the
 * pages of the fork, never the copies made since. SCRATCH is SIZE bytes of
 * work space (at least 16 KiB). */
cf_kin cf_kin_look(char *scratch, size_t size, pid_t except, pid_t *who);

#endif
