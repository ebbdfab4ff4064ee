/* packed_refusals.c - what a packed container does when somebody writes.
 *
 *   p[k] = v, del p[k], p += q, p.update(...)   ->   TypeError: this dict is packed and read-only; ...
 *
 * One function for each shape of a slot.
 */
#include "objects/packed_refusals.h"

static void
say_read_only(PyObject *self)
{
    const char *name = PyDict_Check(self) ? "dict" : PyList_Check(self) ? "list" : "set";
    PyErr_Format(PyExc_TypeError,
                 "this %s is packed and read-only; copy.deepcopy() or cowfreeze.clone() gives an "
                 "ordinary one",
                 name);
}

int
cf_packed_refuse_item(PyObject *self, PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value))
{
    say_read_only(self);
    return -1;
}

int
cf_packed_refuse_index(PyObject *self, Py_ssize_t Py_UNUSED(i), PyObject *Py_UNUSED(value))
{
    say_read_only(self);
    return -1;
}

PyObject *
cf_packed_refuse_operand(PyObject *self, PyObject *Py_UNUSED(other))
{
    say_read_only(self);
    return NULL;
}

PyObject *
cf_packed_refuse_repeat(PyObject *self, Py_ssize_t Py_UNUSED(n))
{
    say_read_only(self);
    return NULL;
}

PyObject *
cf_packed_refuse_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    say_read_only(self);
    return NULL;
}
