/* trap.h - who writes a watched page first?
 *
 * One trap per process at a time. Prepare, arm and disarm need the GIL (or
 * another way to run one at a time).
 */
#ifndef CF_TRAP_H
#define CF_TRAP_H

#include "trap/pages.h"
#include "trap/record.h"

/* Why the trap does not use perf. */
typedef enum {
    CF_TRAP_USES_PERF,
    CF_TRAP_ASKED,         /* the other one was asked for */
    CF_TRAP_FORBIDDEN,     /* the kernel said no: the errno says how */
    CF_TRAP_SILENT,        /* events can be made, but no signal arrives */
} cf_trap_why;

typedef struct {
    cf_watch_scope scope;
    cf_trap_backend backend; /* CF_TRAP_NONE: perf, else protected pages */
    const cf_pageset *frozen;
} cf_trap_request;

/* Once, at import. Returns 0, or -1 with errno set. */
int cf_trap_init(void);

/* Find the pages, install the handlers, open the events: all that can be done
 * before it counts. BUFFER is borrowed until cf_trap_disarm. Returns 0, or -1
 * with errno set and nothing changed: EBUSY (a trap is prepared already),
 * ENODATA (no page to watch), ENOMEM, EOPNOTSUPP (perf was asked for and is
 * not to be had). */
int cf_trap_prepare(cf_trap_buffer *buffer, const cf_trap_request *request);

/* Begin. Returns 0, or -1 with errno set and the trap disarmed: ENOMEM (the
 * process has as many mappings as vm.max_map_count allows). */
int cf_trap_arm(void);

/* End: pages open, events gone, handlers as they were unless somebody else has
 * put theirs on top. Fills in the figures. May be called again, and in a forked
 * child, which is disarmed already. */
void cf_trap_disarm(void);

/* Does a trap run in this process? */
bool cf_trap_is_armed(void);

#endif
