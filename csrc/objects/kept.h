/* kept.h - what freezes have frozen, and what they left, until the end of the process. */
#ifndef CF_KEPT_H
#define CF_KEPT_H

#include "objects/walk_memory.h"

/* An object that a freeze met, left as it is, and that has something to finish. */
typedef struct {
    PyObject *op;       /* an address; borrowed */
    PyTypeObject *type; /* of the object, an address likewise */
    PyObject *ref;      /* a weak reference to it; NULL: it can have none */
} cf_left;

/* Is it certain that the object of ENTRY is still there? */
static inline bool
cf_left_is_there(const cf_left *entry)
{
    return entry->ref != NULL && ((PyWeakReference *)entry->ref)->wr_object == entry->op;
}

/* Take over what PLAN has found, when its walk is over and every pointer in it is still
 * valid. TAKES_OVER: what other processes that froze have left is this one's to finish from now
 * on. Makes weak references; runs no Python code. Cannot fail. */
void cf_kept_take(cf_plan *plan, bool takes_over);

/* Call VISIT(op, ARG) for every frozen object that is no plain one, by rising address. */
void cf_kept_visit(void (*visit)(void *, void *), void *arg);

/* The N objects that were left, by rising address. */
const cf_left *cf_kept_left(size_t *n);

/* False: there was no memory to note some of them down. */
bool cf_kept_left_is_known(void);

/* Has this process frozen anything, or one that it was forked from? */
bool cf_kept_any(void);

/* ... and was it not this one, so that what was left is another's to finish? */
bool cf_kept_is_inherited(void);

#endif
