/* walk.h - from the roots to every object that a freeze takes. */
#ifndef CF_WALK_H
#define CF_WALK_H

#include "objects/walk_memory.h"

/* Take OP and everything that is reached from it: warm, mark and untrack it
 * (unless plan->dry_run). OP itself is opened even if it is a module, function,
 * code object or type. Cannot fail; runs no Python code. */
void cf_walk_from(cf_plan *plan, PyObject *op);

/* Take what the collector knows: by visiting it (versions with
 * CF_HAS_GC_VISIT), or from ALL, the list of gc.get_objects(). Tuples are taken
 * only if something else refers to them. Likewise. */
void cf_walk_collector(cf_plan *plan);
void cf_walk_list(cf_plan *plan, PyObject *all);

/* After all roots of a whole heap: count the tuples that were not taken. ALL as
 * above, NULL where the collector was visited. */
void cf_walk_left_over(cf_plan *plan, PyObject *all);

/* After the last root: what had to wait for others. Likewise. */
void cf_walk_finish(cf_plan *plan);

/* All of it: from ROOTS, or with `whole_heap` from the collector's objects and the modules. ALL: the list
 * of gc.get_objects() where the collector cannot be visited, else NULL. */
void cf_walk(cf_plan *plan, PyObject *roots, PyObject *all);

#endif
