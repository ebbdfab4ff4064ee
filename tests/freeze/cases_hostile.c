/* hostile.c - types that break the rules of the C API in ways that real extensions do.
 *
 *   Liar        holds two objects, reports one
 *   Chatterbox  reports what it holds a thousand times, and itself; never tracked, because the
 *               collector itself would free what it counts too often
 *   Null        reports NULL; never tracked, because the collector itself would crash
 *   Maker       allocates, tracks and drops objects inside of tp_traverse
 *   Raiser      leaves an exception set in tp_traverse; a debug build's collector dies of it
 *   Quitter     returns a status of its own before it has reported everything
 *   Opaque      holds an object and is not known to the collector at all
 *   Counter     counts its deallocations, which must never happen to what is frozen
 *
 * All have the one layout below; the functions at the end put objects where none belong.
 */
#include <Python.h>

typedef struct {
    PyObject_HEAD
    PyObject *first;
    PyObject *second;
} Pair;

static long deallocated;

static PyObject *
pair_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *first, *second;
    if (!PyArg_ParseTuple(args, "OO", &first, &second)) {
        return NULL;
    }
    Pair *self = (Pair *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->first = Py_NewRef(first);
        self->second = Py_NewRef(second);
    }
    return (PyObject *)self;
}

static void
pair_dealloc(PyObject *op)
{
    Pair *self = (Pair *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_IS_GC(type)) {
        PyObject_GC_UnTrack(op);
    }
    deallocated++;
    Py_CLEAR(self->first);
    Py_CLEAR(self->second);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
pair_get(PyObject *op, void *which)
{
    Pair *self = (Pair *)op;
    return Py_NewRef(which != NULL ? self->second : self->first);
}

static PyGetSetDef pair_getset[] = {
    {"first", pair_get, NULL, NULL, NULL},
    {"second", pair_get, NULL, NULL, "1"},
    {NULL, NULL, NULL, NULL, NULL},
};

static int
clear(PyObject *op)
{
    Py_CLEAR(((Pair *)op)->first);
    Py_CLEAR(((Pair *)op)->second);
    return 0;
}

static int
traverse_liar(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Pair *)op)->first);
    return 0;
}

static int
traverse_honest(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Pair *)op)->first);
    Py_VISIT(((Pair *)op)->second);
    return 0;
}

static int
traverse_chatterbox(PyObject *op, visitproc visit, void *arg)
{
    for (int i = 0; i < 1000; i++) {
        Py_VISIT(((Pair *)op)->first);
        Py_VISIT(op);
    }
    return traverse_honest(op, visit, arg);
}

static int
traverse_null(PyObject *op, visitproc visit, void *arg)
{
    int status = visit(NULL, arg);
    return status != 0 ? status : traverse_honest(op, visit, arg);
}

static int
traverse_maker(PyObject *op, visitproc visit, void *arg)
{
    for (int i = 0; i < 2000; i++) {
        PyObject *list = PyList_New(3);
        Py_XDECREF(list);
    }
    return traverse_honest(op, visit, arg);
}

static int
traverse_raiser(PyObject *op, visitproc visit, void *arg)
{
    PyErr_SetString(PyExc_RuntimeError, "raised in tp_traverse");
    return traverse_honest(op, visit, arg);
}

static int
traverse_quitter(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((Pair *)op)->first);
    return 7;
}

#define SLOTS(traverse)                                                                         \
    {                                                                                           \
        {Py_tp_new, pair_new}, {Py_tp_dealloc, pair_dealloc}, {Py_tp_getset, pair_getset},      \
            {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {0, NULL}                         \
    }
#define GC_TYPE (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC)

static PyType_Slot liar[] = SLOTS(traverse_liar);
static PyType_Slot chatterbox[] = SLOTS(traverse_chatterbox);
static PyType_Slot null[] = SLOTS(traverse_null);
static PyType_Slot maker[] = SLOTS(traverse_maker);
static PyType_Slot raiser[] = SLOTS(traverse_raiser);
static PyType_Slot quitter[] = SLOTS(traverse_quitter);
static PyType_Slot counter[] = SLOTS(traverse_honest);
static PyType_Slot opaque[] = {
    {Py_tp_new, pair_new}, {Py_tp_dealloc, pair_dealloc}, {Py_tp_getset, pair_getset}, {0, NULL}};

static PyType_Spec specs[] = {
    {"hostile.Liar", sizeof(Pair), 0, GC_TYPE, liar},
    {"hostile.Chatterbox", sizeof(Pair), 0, GC_TYPE, chatterbox},
    {"hostile.Null", sizeof(Pair), 0, GC_TYPE, null},
    {"hostile.Maker", sizeof(Pair), 0, GC_TYPE, maker},
    {"hostile.Raiser", sizeof(Pair), 0, GC_TYPE, raiser},
    {"hostile.Quitter", sizeof(Pair), 0, GC_TYPE, quitter},
    {"hostile.Counter", sizeof(Pair), 0, GC_TYPE, counter},
    {"hostile.Opaque", sizeof(Pair), 0, Py_TPFLAGS_DEFAULT, opaque},
};

/* Take OP out of the collector's lists, for types that it cannot stand. */
static PyObject *
untrack(PyObject *module, PyObject *op)
{
    (void)module;
    PyObject_GC_UnTrack(op);
    Py_RETURN_NONE;
}

/* Call CALLBACK([object]) with an object whose memory is this C frame. */
static PyObject *
on_the_stack(PyObject *module, PyObject *callback)
{
    (void)module;
    PyFloatObject here;
    memset(&here, 0, sizeof(here));
    PyObject_Init((PyObject *)&here, &PyFloat_Type);
    here.ob_fval = 2.5;
    PyObject *list = PyList_New(1);
    if (list == NULL) {
        return NULL;
    }
    PyList_SET_ITEM(list, 0, (PyObject *)&here);
    PyObject *result = PyObject_CallOneArg(callback, list);
    PyList_SET_ITEM(list, 0, Py_NewRef(Py_None));
    Py_DECREF(list);
    return result;
}

static PyObject *
count_deallocated(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(deallocated);
}

static PyMethodDef methods[] = {
    {"untrack", untrack, METH_O, NULL},
    {"on_the_stack", on_the_stack, METH_O, NULL},
    {"count_deallocated", count_deallocated, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "hostile", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_hostile(void)
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
