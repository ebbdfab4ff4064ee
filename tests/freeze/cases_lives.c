/* lives.c - types whose size or life is not what a flag says.
 *
 *   Raw         tp_itemsize, but no ob_size: a pointer stands there (as in msgspec 0.22)
 *   Short       the same with a number that ends in the same mapping, but not in the same block
 *   Long        a real length
 *   Connection  ends something when it dies, and has a close()
 *   Record      gives memory back, no more
 */
#include <Python.h>

typedef struct {
    PyObject_HEAD
    uintptr_t word;
    char body[24];
} Thing;

static long ended;

static PyObject *
thing_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    Py_ssize_t n = 0;
    if (!PyArg_ParseTuple(args, "|n", &n)) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        ((Thing *)self)->word = n > 0 ? (uintptr_t)n : (uintptr_t)self;
    }
    return self;
}

static PyObject *
long_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    Py_ssize_t n;
    return PyArg_ParseTuple(args, "n", &n) ? type->tp_alloc(type, n) : NULL;
}

static void
thing_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ended++;
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
close_thing(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    Py_RETURN_NONE;
}

static PyMethodDef closing[] = {{"close", close_thing, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot plain[] = {{Py_tp_new, thing_new}, {Py_tp_dealloc, thing_dealloc}, {0, NULL}};
static PyType_Slot with_close[] = {
    {Py_tp_new, thing_new}, {Py_tp_dealloc, thing_dealloc}, {Py_tp_methods, closing}, {0, NULL}};
static PyType_Slot with_length[] = {{Py_tp_new, long_new}, {Py_tp_dealloc, thing_dealloc}, {0, NULL}};

#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE)

static PyType_Spec specs[] = {
    {"lives.Raw", sizeof(Thing), 1, FLAGS, plain},
    {"lives.Short", sizeof(Thing), 1, FLAGS, plain},
    {"lives.Long", sizeof(PyVarObject), 8, FLAGS, with_length},
    {"lives.Connection", sizeof(Thing), 0, FLAGS, with_close},
    {"lives.Record", sizeof(Thing), 0, FLAGS, plain},
};

static void
destroy(PyObject *capsule)
{
    (void)capsule;
    ended++;
}

static PyObject *
capsule(PyObject *module, PyObject *with_destructor)
{
    (void)module;
    return PyCapsule_New(&ended, "lives", PyObject_IsTrue(with_destructor) ? destroy : NULL);
}

static PyObject *
count_ended(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyLong_FromLong(ended);
}

static PyMethodDef methods[] = {{"capsule", capsule, METH_O, NULL},
                                {"count_ended", count_ended, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lives", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_lives(void)
{
    PyObject *module = PyModule_Create(&definition);
    for (size_t i = 0; module != NULL && i < sizeof(specs) / sizeof(specs[0]); i++) {
        PyObject *type = PyType_FromSpec(&specs[i]);
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            Py_CLEAR(module);
        }
        Py_XDECREF(type);
    }
    return module;
}
