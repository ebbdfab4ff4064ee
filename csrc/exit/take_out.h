/* take_out.h - mortal objects that frozen ones hold, taken out of them at the end of a process. */
#ifndef CF_TAKE_OUT_H
#define CF_TAKE_OUT_H

#include "cpython/compat.h"

/* Borrowed: none of them dies. The arrays are the heir's. */
typedef struct {
    PyObject **holders;     /* that refer to mortal objects */
    size_t n_holders;
    PyObject **class_dicts; /* holders among them that are the dict of a class; sorted */
    size_t n_class_dicts;
    PyObject **spared;      /* mortal ones that are the parent's; sorted */
    size_t n_spared;
} cf_estate;

/* Is OP mortal, and may have something left to do when it dies? */
bool cf_is_to_die(PyObject *op);

/* Take what is to die out of HOLDER, one of ESTATE's. Runs finalizers; no exception is set. */
void cf_take_out(const cf_estate *estate, PyObject *holder);

#endif
