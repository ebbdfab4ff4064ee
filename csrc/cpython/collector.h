/* collector.h - is a collection running? And what the module gc offers. */
#ifndef CF_COLLECTOR_H
#define CF_COLLECTOR_H

#include "cpython/compat.h"

/* Find where the interpreter notes it, and the functions below. Once, at import.
 * Returns 0, or -1 with an exception. */
int cf_collector_init(void);

/* Is this called by a finalizer, or by a callback of a weak reference or of gc.callbacks, within a
 * collection? False if that cannot be told. */
bool cf_collector_runs(void);

/* gc.freeze() and gc.unfreeze(): they allocate nothing. Return 0, or -1 with an exception. */
int cf_gc_freeze(void);
int cf_gc_unfreeze(void);

/* gc.get_objects(): a new list, or NULL with an exception. */
PyObject *cf_gc_objects(void);

/* Is there an interpreter beside the main one, each with a collector of its own? */
bool cf_other_interpreters(void);

#endif
