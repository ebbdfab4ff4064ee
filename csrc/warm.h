/* warm.h - fill now what a reader would otherwise write later. */
#ifndef CF_WARM_H
#define CF_WARM_H

#include "compat.h"
#include "policy.h"

typedef enum {
    CF_IS_WARM,     /* a first use in a worker will find nothing left to write */
    CF_STAYS_COLD,  /* that would need user code, or too much time */
    CF_WARM_LATER,  /* a tuple of tuples that are not warm yet: try when they are */
} cf_warmed;

/* Warm one object. Never raises, never runs Python code. May make short-lived
 * Python objects (the hash of a datetime); what fails for want of memory stays
 * cold. */
cf_warmed cf_warm(PyObject *op, cf_warmth warmth);

#endif
