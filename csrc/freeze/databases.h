/* databases.h - what open databases keep for themselves. */
#ifndef CF_DATABASES_H
#define CF_DATABASES_H

#include "objects/walk_memory.h"

/* Exclude the statements that connections of sqlite3 keep for reuse, and what holds them. ALL is the
 * list of the collector's objects, or NULL where it shows them itself. Before a walk of the whole
 * heap, with PLAN reserved. Cannot fail. */
void cf_databases_exclude(cf_plan *plan, PyObject *all);

#endif
