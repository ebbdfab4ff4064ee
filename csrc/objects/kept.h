/* kept.h - what freezes have frozen, until the end of the process. */
#ifndef CF_KEPT_H
#define CF_KEPT_H

#include "objects/walk_memory.h"

/* Take over what PLAN has found, when its walk is over and every pointer in it is still
 * valid. Cannot fail. */
void cf_kept_take(cf_plan *plan);

/* Call VISIT(op, ARG) for every frozen object that is no plain one, by rising address. */
void cf_kept_visit(void (*visit)(void *, void *), void *arg);

#endif
