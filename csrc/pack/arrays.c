/* arrays.c - arrays of numpy over packed, read-only data.
 *
 *   tables     ... [ guard, owner NULL ][ up to 63 bytes | data in C or Fortran order ] ...
 *                                                         ^
 *   ordinary   [ ndarray | shape, type of elements* | memoryview* ]      (outside.c)
 *
 * An array is written by its own methods only, and they ask its buffer, which
 * is read-only: `a[0] = 1` and `a.flags.writeable = True` raise ValueError. The
 * data lie in the tables, where a write past that kills the writer.
 *
 * numpy is neither imported nor linked: its type is known by name once an array
 * is met, and is called like any other. That runs C code only (P2): the type is
 * exact, and elements that are objects are refused.
 */
#include "pack/arrays.h"

#include "pack/outside.h"

#include <string.h>

#define ALIGNMENT 64

/* A number or bool of an attribute; -1 with an exception. */
static Py_ssize_t
number_of(PyObject *op, const char *name)
{
    PyObject *value = PyObject_GetAttrString(op, name);
    Py_ssize_t number = value != NULL ? PyNumber_AsSsize_t(value, PyExc_OverflowError) : -1;
    Py_XDECREF(value);
    return number;
}

typedef struct {
    PyTypeObject *type;
    PyObject *shape, *dtype;
    Py_ssize_t bytes;
    bool fortran;
} description;

/* -1 with an exception; 0; 1: it holds objects. */
static int
describe(description *what, PyObject *op)
{
    what->type = Py_TYPE(op);
    what->shape = PyObject_GetAttrString(op, "shape");
    what->dtype = what->shape != NULL ? PyObject_GetAttrString(op, "dtype") : NULL;
    PyObject *flags = what->dtype != NULL ? PyObject_GetAttrString(op, "flags") : NULL;
    Py_ssize_t fortran = flags != NULL ? number_of(flags, "fnc") : -1;
    Py_XDECREF(flags);
    what->fortran = fortran > 0;
    what->bytes = fortran >= 0 ? number_of(op, "nbytes") : -1;
    return what->bytes < 0 ? -1 : (int)number_of(what->dtype, "hasobject");
}

/* An array over AT. New reference, or NULL with an exception. */
static PyObject *
array_over(const description *what, char *at, int access)
{
    PyObject *view = PyMemoryView_FromMemory(at, what->bytes, access);
    PyObject *array = view != NULL
                          ? PyObject_CallFunction((PyObject *)what->type, "OOOiOs", what->shape,
                                                  what->dtype, view, 0, Py_None,
                                                  what->fortran ? "F" : "C")
                          : NULL;
    Py_XDECREF(view);
    return array;
}

/* WRITER (a reference that is taken over, or NULL with an exception) is to get what OP holds. */
static int
note_filling(cf_packer *p, PyObject *writer, PyObject *op)
{
    PyObject *pair = writer != NULL ? PyTuple_Pack(2, writer, op) : NULL;
    Py_XDECREF(writer);
    if (pair == NULL || (p->fillings == NULL && (p->fillings = PyList_New(0)) == NULL)) {
        Py_XDECREF(pair);
        return -1;
    }
    int status = PyList_Append(p->fillings, pair);
    Py_DECREF(pair);
    return status;
}

int
cf_pack_fill_arrays(cf_packer *p)
{
    for (Py_ssize_t i = 0; p->fillings != NULL && i < PyList_GET_SIZE(p->fillings); i++) {
        PyObject *pair = PyList_GET_ITEM(p->fillings, i);
        if (PyObject_SetItem(PyTuple_GET_ITEM(pair, 0), Py_Ellipsis, PyTuple_GET_ITEM(pair, 1)) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
copy_array(cf_packer *p, const description *what, PyObject *op)
{
    char *block = cf_pack_table(p, NULL, 0, (size_t)what->bytes + ALIGNMENT);
    if (block == NULL) {
        return NULL;
    }
    block = (char *)(((uintptr_t)block + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
    if (note_filling(p, array_over(what, block, PyBUF_WRITE), op) < 0) {
        return NULL;
    }
    p->outcome->source_bytes += (size_t)what->bytes + (size_t)what->type->tp_basicsize;
    return cf_pack_outside(p, array_over(what, block, PyBUF_READ));
}

PyObject *
cf_pack_array(cf_packer *p, PyObject *op)
{
    PyObject *copy = (PyObject *)cf_memo_get(&p->work.memo, op);
    if (copy != NULL) {
        p->outcome->references++;
        return copy;
    }
    description what = {0};
    int objects = describe(&what, op);
    if (objects == 0) {
        copy = copy_array(p, &what, op);
    }
    else if (objects > 0) {
        p->work.refused = op;
    }
    Py_XDECREF(what.shape);
    Py_XDECREF(what.dtype);
    if (copy != NULL && cf_memo_set(&p->work.memo, op, (uintptr_t)copy) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return copy;
}
