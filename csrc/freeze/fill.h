/* fill.h - make what a reader would make, before anything is frozen. */
#ifndef CF_FILL_H
#define CF_FILL_H

#include "cpython/compat.h"
#include "objects/walk_memory.h"

/* OP is met by a walk that is looking: note an instance without a __dict__ down, and give a str
 * its UTF-8 form if that is asked for. What cannot be filled stays as it is. */
void cf_fill_look(cf_plan *plan, PyObject *op);

/* Make the __dict__ of each of INSTANCES. Returns 0, or -1 with MemoryError: those that were
 * made stay, as if somebody had asked for them. */
int cf_fill_dicts(const cf_stack *instances);

#endif
