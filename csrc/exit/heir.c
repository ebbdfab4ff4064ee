/* heir.c - an object that dies in the place of the frozen ones.
 *
 *                  [frozen dict]---.              .--> [file of this process]
 *                  [frozen list]---+--- heir -----+--> [object with __del__]
 *                  [module]     ---'     ^ |      `--> [generator]
 *                                        `-'
 *
 * It refers to itself, so it is garbage, and so is what only frozen objects hold: the
 * collection in which modules die takes it for what it would have been. All is the
 * collector's own: a reference of a frame, a thread or C code keeps an object alive, weak
 * references die first, finalizers run in the order in which objects were made, and all
 * objects are whole meanwhile.
 *
 * The heir is the youngest object and has a finalizer, so that is the last one to run. It
 * keeps the heir, and all that it refers to, alive: otherwise the collector would take it
 * apart, and a function that a frozen class refers to may still be called (by a finalizer
 * of what a context variable holds). But some objects end by their death alone. So it takes
 * them out of their holders (take_out.c).
 *
 *   F1  the heir reports each reference of a frozen object as often as it is counted: the
 *       objects that it speaks for are untracked, and speak for themselves otherwise;
 *   F3  nothing is taken apart that a frozen object still refers to.
 */
#include "exit/heir.h"

#include "exit/take_out.h"

typedef struct {
    PyObject ob_base;
    cf_estate estate;
} heir;

static int
heir_traverse(PyObject *op, visitproc visit, void *arg)
{
    const cf_estate *estate = &((heir *)op)->estate;
    Py_VISIT(op);
    for (size_t i = 0; i < estate->n_holders; i++) {
        PyObject *holder = estate->holders[i];
        if (PyObject_GC_IsTracked(holder)) {
            continue; /* before 3.14 a dict is tracked when a container is put into it (F1) */
        }
        int stop = Py_TYPE(holder)->tp_traverse(holder, visit, arg);
        if (stop != 0) {
            return stop;
        }
    }
    return 0;
}

static void
heir_finalize(PyObject *op)
{
    const cf_estate *estate = &((heir *)op)->estate;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_INCREF(op); /* F3 */
    for (size_t i = 0; i < estate->n_holders; i++) {
        cf_take_out(estate, estate->holders[i]);
    }
    PyErr_Restore(type, value, traceback);
}

/* Never called. */
static void
heir_dealloc(PyObject *op)
{
    PyObject_GC_Del(op);
}

/* Made ready before the first freeze, under the GIL. */
static PyTypeObject heir_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cowfreeze._core.Heir",
    .tp_basicsize = sizeof(heir),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = heir_dealloc,
    .tp_traverse = heir_traverse,
    .tp_finalize = heir_finalize,
};

int
cf_heir_prepare(void)
{
    if (PyType_Ready(&heir_type) < 0) {
        if (!PyErr_Occurred()) {
            PyErr_NoMemory(); /* 3.10 does not always say so */
        }
        return -1;
    }
    return 0;
}

void
cf_heir_make(const cf_estate *estate)
{
    heir *it = PyObject_GC_New(heir, &heir_type);
    if (it == NULL) {
        PyErr_Clear();
        return;
    }
    it->estate = *estate;
    PyObject_GC_Track((PyObject *)it);
}
