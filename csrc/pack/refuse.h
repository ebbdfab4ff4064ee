/* refuse.h - what Python code would make C code do to packed memory that all processes share. */
#ifndef CF_PACK_REFUSE_H
#define CF_PACK_REFUSE_H

#include "cpython/compat.h"

/* From now on no assignment to __class__ changes a packed object that other
 * processes see. Returns 0, or -1 with an exception. */
int cf_pack_guard_class(void);

/* From now on a packed dict becomes no __dict__ and no globals, and a packed list no heap, where
 * other processes would see it. Returns 0, or -1 with an exception. */
int cf_pack_guard_containers(void);

#endif
