/* canary.h - a page that tells whether anybody else has this process's memory.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_CANARY_H
#define CF_CANARY_H

#include "proc/procfile.h"

/* One page of this process alone, written before anything was forked from it;
 * NULL: none. */
typedef volatile char *cf_canary;

/* Make one, right after the fork that made this process. */
cf_canary cf_canary_new(void);

void cf_canary_free(cf_canary canary);

typedef enum {
    CF_CANARY_ALONE,   /* nobody else has this process's memory */
    CF_CANARY_SHARED,  /* somebody has */
    CF_CANARY_UNKNOWN
} cf_canary_state;

/* Look at it through PAGEMAP, this process's own. */
cf_canary_state cf_canary_look(cf_canary canary, const cf_file *pagemap);

#endif
