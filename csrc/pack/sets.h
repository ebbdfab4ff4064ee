/* sets.h - sets of packed data, and ordinary ones that are made from them. */
#ifndef CF_PACK_SETS_H
#define CF_PACK_SETS_H

#include "pack/store.h"

/* An empty packed set for as many elements as SRC has; NULL with an exception. */
PyObject *cf_pack_set(cf_packer *p, PyObject *src);

/* Enter KEY, which must be complete and not be in it. */
void cf_pack_set_add(PyObject *set, PyObject *key, Py_hash_t hash);

/* All elements of F->dst, or if that is an ordinary set of F->set, are there.
 * Returns 0, or -1 with an exception. */
int cf_pack_set_finish(cf_copy_frame *f);

#endif
