/* interned.h - the interpreter's dict of interned strings. */
#ifndef CF_INTERNED_H
#define CF_INTERNED_H

#include "cpython/compat.h"

/* In the parent, before anything is frozen: find the dict. Returns whether it
 * is known. Interns a handful of new strings; sets no exception. */
bool cf_interned_find(void);

/* At the very end of an interpreter: let it refer to a dict of the STRINGS that
 * are mortal only. False: unknown or no memory, and nothing has changed. */
bool cf_interned_swap(size_t *strings);

#endif
