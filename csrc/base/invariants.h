/* invariants.h - invariants that are looked at where that is cheap.
 *
 * Only in builds with COWFREEZE_DEBUG=1 (setup.py), which CI runs on a debug interpreter and
 * under the sanitizers; nothing in others. Not in signal handlers. No Python.h.
 */
#ifndef CF_INVARIANTS_H
#define CF_INVARIANTS_H

#include <assert.h>

/* NUMBER as in docs/internals/invariants.md; it stands in what assert() prints. Otherwise the
 * condition is compiled, so that it stays right, and never evaluated. */
#ifdef NDEBUG
#  define CF_HOLDS(number, condition) ((void)(0 && (condition)))
#else
#  define CF_HOLDS(number, condition) assert((condition) && number)
#endif

#endif
