/* finish.h - the interpreter's end, with a heap that does not die. */
#ifndef CF_FINISH_H
#define CF_FINISH_H

#include "cpython/compat.h"

/* What cf_finish_run did; for tests, and for nothing else. */
typedef struct {
    size_t holders;   /* frozen objects that hold mortal ones */
    size_t modules;   /* frozen modules that finalisation does not take apart */
    size_t strings;   /* interned strings that stay in the interpreter's dict */
    bool swapped;     /* the dict of interned strings was replaced */
} cf_finish_result;

/* In the process that is going to freeze, before anything is frozen; does nothing to its end if
 * nothing is frozen after all. Returns 0, or -1 with an exception. */
int cf_finish_prepare(void);

/* While the interpreter is being finalised, right before modules are taken apart; does
 * nothing at any other time. No exception is set or lost. */
void cf_finish_run(cf_finish_result *result);

/* Write what finalizers have left in the buffers of files that are the parent's: these files
 * do not die here. Nothing to do before cf_finish_run. No exception is set. */
void cf_finish_flush(void);

#endif
