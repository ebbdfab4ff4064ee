"""Binding of clone.h: clone, CloneIterator."""


cdef extern from "copy/copy.h":
    ctypedef struct cf_copy_work:
        bint keep_keys
    int cf_copy_init(object enum_type, object generic_type) except -1
    void cf_copy_work_clear(cf_copy_work *work)


cdef extern from "clone/clone.h":
    int cf_clone_init() except -1


cdef extern from *:
    """
    static PyObject *
    cf_clone_path(PyObject *root, PyObject *path)
    {
        return cf_clone(root, path, -1, NULL, NULL);
    }

    /* NULL without an exception is the end, which Cython cannot say of an object. */
    static int
    cf_clone_next(PyObject *root, PyObject *path, Py_ssize_t index, cf_copy_work *work,
                  PyObject **copy)
    {
        bool end;
        *copy = cf_clone(root, path, index, &end, work);
        return *copy != NULL ? 1 : end ? 0 : -1;
    }
    """
    object cf_clone_path(object root, object path)
    int cf_clone_next(object root, object path, Py_ssize_t index, cf_copy_work *work,
                      PyObject **copy) except -1


def clone_init(enum_type, generic_type):
    """Tell clone and pack the types enum.Enum and typing.Generic. Once, at import."""
    cf_copy_init(enum_type, generic_type)
    cf_clone_init()


def clone(obj, tuple path not None):
    """A deep copy of what PATH leads to in OBJ."""
    return cf_clone_path(obj, path)


cdef class CloneIterator:
    """Deep copies of the elements of a list or tuple, one after the other."""

    cdef object root
    cdef tuple path
    cdef Py_ssize_t index
    cdef cf_copy_work work

    def __cinit__(self, root, tuple path not None):
        self.root = root
        self.path = path
        self.work.keep_keys = True

    def __dealloc__(self):
        cf_copy_work_clear(&self.work)

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject *copy = NULL
        if self.root is None or cf_clone_next(self.root, self.path, self.index, &self.work, &copy) == 0:
            self.root = None
            raise StopIteration
        self.index += 1
        result = <object>copy
        Py_DECREF(result)
        return result
