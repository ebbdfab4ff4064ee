/* outside.h - what packed data refers to outside of packed memory. */
#ifndef CF_PACK_OUTSIDE_H
#define CF_PACK_OUTSIDE_H

#include "pack/store.h"

/* Take over OP, an ordinary object (or NULL with an exception, which is handed
 * through): packed memory may refer to it. A borrowed pointer to it, or NULL. */
PyObject *cf_pack_outside(cf_packer *p, PyObject *op);

/* Packed memory refers to OP, which is not copied. Returns OP, or NULL. */
PyObject *cf_pack_refer(cf_packer *p, PyObject *op);

/* A new instance of the class of OP, and whether it is an ordinary object; NULL
 * with an exception. */
PyObject *cf_pack_instance(cf_packer *p, PyObject *op, bool *outside);

/* Set attribute NAME of an ordinary instance, without Python code. Returns 0, or
 * -1 with an exception. */
int cf_pack_set_attribute(PyObject *instance, PyObject *name, PyObject *value);

/* A list of all that packed memory refers to outside, None, or NULL with an exception. */
PyObject *cf_pack_keeper(const cf_packer *p);

/* What KEEPER holds shall never die, although there was no memory to freeze it: slots in packed
 * memory do not count. Marks it and untracks it (I4), and nothing behind it; the end of the process
 * does not look into it (objects/kept.h). Needs no memory. */
void cf_pack_keep(PyObject *keeper);

/* After a failure: drop what was made, before packed memory is unmapped. */
void cf_pack_drop_outside(cf_packer *p);

#endif
