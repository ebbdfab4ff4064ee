/* values.h - copies of values, each often one stored once. */
#ifndef CF_PACK_VALUES_H
#define CF_PACK_VALUES_H

#include "pack/store.h"

/* The copy of something of at most this KIND's size that IMAGE, an object or one
 * on the C stack, is made like; its references are packed already. NULL with an exception. */
PyObject *cf_pack_find_or_store(cf_packer *p, PyObject *image, cf_copy_kind kind);

#endif
