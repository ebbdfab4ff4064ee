/* clone.h - a deep copy that writes no reference count of its source. */
#ifndef CF_CLONE_H
#define CF_CLONE_H

#include "copy/copy.h"

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_clone_init(void);

/* A copy of what PATH (a tuple of keys and indexes) leads to in ROOT, and if
 * INDEX >= 0 of that sequence's element. *END, if not NULL, says that there is
 * no such element any more (then NULL without an exception). NULL with an
 * exception otherwise. WORK may be NULL for memory that all calls share.
 * Needs the GIL; runs no Python code. */
PyObject *cf_clone(PyObject *root, PyObject *path, Py_ssize_t index, bool *end,
                   cf_copy_work *work);

/* A copy of a leaf; a new reference, or NULL with an exception. */
PyObject *cf_clone_leaf(PyObject *op, cf_copy_kind kind);

#endif
