/* arrays.h - arrays of numpy over packed, read-only data. */
#ifndef CF_PACK_ARRAYS_H
#define CF_PACK_ARRAYS_H

#include "pack/store.h"

/* An array over a read-only copy of the data of OP, in the tables; NULL: an
 * exception, or work.refused (references to objects in it). */
PyObject *cf_pack_array(cf_packer *p, PyObject *op);

/* The walk is over: copy the data of all arrays. Other threads may run meanwhile (P2). Returns 0,
 * or -1 with an exception. */
int cf_pack_fill_arrays(cf_packer *p);

#endif
