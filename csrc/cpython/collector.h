/* collector.h - is a collection running? */
#ifndef CF_COLLECTOR_H
#define CF_COLLECTOR_H

#include "cpython/compat.h"

/* Find where the interpreter notes it. GC is the module. Once, at import.
 * Returns 0, or -1 with an exception. */
int cf_collector_init(PyObject *gc);

/* Is this called by a finalizer, or by a callback of a weak reference or of gc.callbacks, within a
 * collection? False if that cannot be told. */
bool cf_collector_runs(void);

#endif
