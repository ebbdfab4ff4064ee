/* dict.h - dicts of packed data. */
#ifndef CF_PACK_DICT_H
#define CF_PACK_DICT_H

#include "pack/store.h"

int cf_pack_dict_init(void);

/* An empty packed dict for N entries; NULL with an exception. */
PyObject *cf_pack_dict(cf_packer *p, PyObject *src);

/* PyDict_Next, and the stored hash of the key. */
bool cf_pack_dict_next(PyObject *dict, Py_ssize_t *position, PyObject **key, PyObject **value,
                       Py_hash_t *hash);

/* Enter KEY, which must be complete, with VALUE. Returns where the value stands. */
PyObject **cf_pack_dict_add(PyObject *dict, PyObject *key, Py_hash_t hash, PyObject *value);

#endif
