/* heir.h - an object that dies in the place of the frozen ones. */
#ifndef CF_HEIR_H
#define CF_HEIR_H

#include "cpython/compat.h"
#include "objects/type_info.h"

/* Borrowed: none of them dies. The arrays are the heir's. */
typedef struct {
    PyObject **holders;     /* that refer to mortal objects */
    size_t n_holders;
    PyObject **class_dicts; /* holders among them that are the dict of a class; sorted */
    size_t n_class_dicts;
    PyObject **spared;      /* mortal ones that are the parent's; sorted */
    size_t n_spared;
} cf_estate;

/* Once, before anything is frozen. Returns 0, or -1 with an exception. */
int cf_heir_prepare(void);

/* Make the heir of ESTATE: garbage, for the next collection to find. Without memory there
 * is none. No exception is set. */
void cf_heir_make(const cf_estate *estate);

/* Where OP stands among N words that are SORTED; N: nowhere. */
size_t cf_place_among(PyObject *const *sorted, size_t n, const PyObject *op);

/* Is OP mortal, and may have something left to do when it dies? */
bool cf_is_to_die(PyObject *op);

#endif
