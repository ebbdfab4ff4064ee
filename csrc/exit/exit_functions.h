/* exit_functions.h - what C code has registered with Py_AtExit, for an end without finalisation. */
#ifndef CF_EXIT_FUNCTIONS_H
#define CF_EXIT_FUNCTIONS_H

#include "cpython/compat.h"

/* Call them, the last one first; they are gone then. False: they cannot be found, and none was called:
 * let CPython end the process. Needs the GIL; no exception is set. */
bool cf_exit_functions_call(void);

#endif
