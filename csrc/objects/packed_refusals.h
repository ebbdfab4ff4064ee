/* packed_refusals.h - what a packed container does when somebody writes. */
#ifndef CF_PACKED_REFUSALS_H
#define CF_PACKED_REFUSALS_H

#include "cpython/compat.h"

/* Each raises TypeError; -1 or NULL. */
int cf_packed_refuse_item(PyObject *self, PyObject *key, PyObject *value);
int cf_packed_refuse_index(PyObject *self, Py_ssize_t i, PyObject *value);
PyObject *cf_packed_refuse_operand(PyObject *self, PyObject *other);
PyObject *cf_packed_refuse_repeat(PyObject *self, Py_ssize_t n);
PyObject *cf_packed_refuse_call(PyObject *self, PyObject *args, PyObject *kwargs);

#endif
