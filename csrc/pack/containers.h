/* containers.h - lists and tuples of packed data. */
#ifndef CF_PACK_CONTAINERS_H
#define CF_PACK_CONTAINERS_H

#include "pack/store.h"

/* Headers and tables for copies of SRC, still empty; NULL with an exception. */
PyObject *cf_pack_list(cf_packer *p, PyObject *src);
PyObject *cf_pack_tuple(cf_packer *p, PyObject *src);

/* Fill in the hash of a complete tuple, if it has one. */
void cf_pack_warm_tuple(PyObject *tuple);

#endif
