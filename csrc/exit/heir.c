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
 * of what a context variable holds). But some objects end by their death alone (an
 * InterpreterID, a C library's file). So it takes out what frozen namespaces, dicts and
 * lists hold, which is safe at any time; but not code, nor locks, which later code needs.
 *
 *   F1  the heir reports each reference of a frozen object as often as it is counted: the
 *       objects that it speaks for are untracked, and speak for themselves otherwise;
 *   F3  nothing is taken apart that a frozen object still refers to.
 */
#include "exit/heir.h"

#include "objects/type_info.h"

typedef struct {
    PyObject ob_base;
    cf_estate estate;
} heir;

bool
cf_is_to_die(PyObject *op)
{
    if (cf_header_done(op)) {
        return false;
    }
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_IS_GC(type)) {
        return PyObject_GC_IsTracked(op);
    }
    return type != &PyUnicode_Type && type != &PyLong_Type && type != &PyBytes_Type && type != &PyFloat_Type
           && type != &PyBool_Type && op != Py_None && op != Py_NotImplemented && op != Py_Ellipsis;
}

size_t
cf_place_among(PyObject *const *sorted, size_t n, const PyObject *op)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)sorted[middle] < (uintptr_t)op) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low < n && sorted[low] == op ? low : n;
}

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

/* -- what is taken out --------------------------------------------------- */

/* Why a freeze would leave OP as it is, by its type; CF_TAKE: it would not. */
static cf_decision
decision_of(PyObject *op)
{
    static const cf_own_code none_known; /* what ends instances of C types is asked of a freeze only */
    cf_typeinfo info;
    cf_policy_classify(&info, Py_TYPE(op), NULL, &none_known);
    return (cf_decision)info.decision;
}

static bool
is_taken_out(const cf_estate *estate, PyObject *op)
{
    if (!cf_is_to_die(op) || PyModule_Check(op)
        || cf_place_among(estate->spared, estate->n_spared, op) < estate->n_spared) {
        return false;
    }
    cf_decision decision = decision_of(op);
    if (PyCallable_Check(op)) {
        return decision == CF_SKIP_HANDLE; /* a connection of sqlite3 can be called, but is no code */
    }
    return decision != CF_SKIP_LOCK && decision != CF_SKIP_THREAD && decision != CF_SKIP_CONTEXT;
}

static void
take_from_dict(const cf_estate *estate, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (is_taken_out(estate, value)) {
            Py_INCREF(key);
            (void)PyDict_DelItem(dict, key);
            PyErr_Clear(); /* a finalizer, or the key's own comparison */
            Py_DECREF(key);
        }
    }
}

static void
take_from_list(const cf_estate *estate, PyObject *list)
{
    for (Py_ssize_t i = PyList_GET_SIZE(list); i-- > 0;) {
        if (i < PyList_GET_SIZE(list) && is_taken_out(estate, PyList_GET_ITEM(list, i))) {
            (void)PyList_SetSlice(list, i, i + 1, NULL);
            PyErr_Clear();
        }
    }
}

static void
take_from(const cf_estate *estate, PyObject *holder)
{
    if (PyDict_CheckExact(holder)) {
        size_t n = estate->n_class_dicts;
        if (cf_place_among(estate->class_dicts, n, holder) == n) { /* else caches of attributes refer to its values */
            take_from_dict(estate, holder);
        }
    }
    else if (PyList_CheckExact(holder)) {
        take_from_list(estate, holder);
    }
    else if (Py_TYPE(holder)->tp_dictoffset != 0 && !PyCallable_Check(holder)) {
        PyObject *dict = PyObject_GenericGetDict(holder, NULL); /* attributes that lie in the instance */
        if (dict != NULL && PyDict_CheckExact(dict)) {
            take_from_dict(estate, dict);
        }
        Py_XDECREF(dict);
    }
    PyErr_Clear();
}

static void
heir_finalize(PyObject *op)
{
    const cf_estate *estate = &((heir *)op)->estate;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_INCREF(op); /* F3 */
    for (size_t i = 0; i < estate->n_holders; i++) {
        take_from(estate, estate->holders[i]);
    }
    PyErr_Restore(type, value, traceback);
}

/* Never called. */
static void
heir_dealloc(PyObject *op)
{
    PyObject_GC_Del(op);
}

/* Made ready once, under the GIL, in a process that ends. */
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
