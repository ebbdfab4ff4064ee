/* fill.h - make what a reader would make, before anything is frozen. */
#ifndef CF_FILL_H
#define CF_FILL_H

#include "cpython/compat.h"
#include "freeze/freeze.h"
#include "objects/walk_memory.h"

/* OP is met by a walk that is looking: note an instance without a __dict__ down, and give a str
 * its UTF-8 form if that is asked for. What cannot be filled stays as it is. */
void cf_fill_look(cf_plan *plan, PyObject *op);

/* Make what REQUEST asks for, in a walk of its own: what is made must be there when memory is
 * reserved for the next one. Returns 0, or -1 with MemoryError; nothing is frozen then. */
int cf_fill(const cf_request *request, bool whole_heap, cf_outcome *outcome);

#endif
