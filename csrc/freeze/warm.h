/* warm.h - fill now what a reader would otherwise write later. */
#ifndef CF_WARM_H
#define CF_WARM_H

#include "cpython/compat.h"
#include "objects/type_info.h"

typedef enum {
    CF_IS_WARM,     /* a first use in a worker will find nothing left to write */
    CF_STAYS_COLD,  /* that would need user code, or too much time */
    CF_WARM_LATER,  /* a tuple of tuples that are not warm yet: try when they are */
} cf_warmed;

/* A hash reads the whole value; above this size the copied page that it saves
 * is not worth the time at freeze. */
#define CF_MAX_HASHED ((Py_ssize_t)1 << 20)

/* Warm an exact str. */
static inline cf_warmed
cf_warm_str(PyObject *op)
{
    if (((PyASCIIObject *)op)->hash != -1) {
        return CF_IS_WARM;
    }
    if (PyUnicode_GET_LENGTH(op) > CF_MAX_HASHED) {
        return CF_STAYS_COLD;
    }
    if (PyUnicode_Type.tp_hash(op) == -1) {
        PyErr_Clear(); /* 3.10, 3.11: no memory to make an old str compact */
        return CF_STAYS_COLD;
    }
    return CF_IS_WARM;
}

/* Warm one object. Never raises, never runs Python code. May make short-lived
 * Python objects (the hash of a datetime); what fails for want of memory stays
 * cold. */
cf_warmed cf_warm(PyObject *op, cf_warmth warmth);

#endif
