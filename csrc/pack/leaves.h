/* leaves.h - copies of what has no parts that are met one after the other. */
#ifndef CF_PACK_LEAVES_H
#define CF_PACK_LEAVES_H

#include "pack/store.h"

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_pack_leaves_init(void);

/* The copy of a leaf, perhaps one stored before; NULL: an exception, or work.refused. */
PyObject *cf_pack_leaf(cf_packer *p, PyObject *op, cf_copy_kind kind);

#endif
