/* finish.h - an ordinary exit that leaves shared pages alone. */
#ifndef CF_FINISH_H
#define CF_FINISH_H

#include "cpython/compat.h"

/* What cf_finish_run did; for tests, and for nothing else. */
typedef struct {
    size_t modules;   /* frozen modules that finalisation will not walk */
    size_t dropped;   /* mortal globals of them that were set to None */
    size_t strings;   /* interned strings that stay in the interpreter's dict */
    bool swapped;     /* the dict of interned strings was replaced */
    bool ended;       /* the process was ended on the spot */
} cf_finish_result;

/* In the parent, once: from now on remember what an uncaught SystemExit says. */
void cf_finish_watch(void);

/* The process has begun to end: its status is settled. */
void cf_finish_note(void);

/* OP is an exception that a freeze marks: if it is a SystemExit, the status of an end is not known. */
void cf_finish_met(PyObject *op);

/* While the interpreter is being finalised, after the atexit handlers and
 * right before modules are torn down. Does nothing at any other time. Runs
 * destructors of mortal objects; no exception is set or lost. MAY_END: this is
 * a forked process of the ordinary `python` program, and no traceback was
 * printed at its end; then its status is known, and it ends here: this
 * function does not return. */
void cf_finish_run(cf_finish_result *result, bool may_end);

#endif
