/* collector.c - is a collection running? And what the module gc offers.
 *
 * No function tells whether one is running. A collection that does nothing would, but where none is running it does
 * something: it ends young garbage and untracks tuples, also of a freeze that was to collect
 * nothing, or that fails. So the interpreter's own note is read. It lies before two lists that
 * the module gc shows:
 *
 *   PyInterpreterState ... gc: [ .. | int collecting | (frame) | garbage | callbacks | .. ]
 *                                     read                       looked for
 *
 * If the two are not there, it is not known, and nothing is read.
 */
#include "cpython/collector.h"

/* Looked up once, under the GIL. */
static const int *collecting; /* NULL: not known */
static PyObject *gc_freeze, *gc_unfreeze, *gc_get_objects;

int
cf_collector_init(void)
{
    PyObject *gc = PyImport_ImportModule("gc");
    if (gc == NULL) {
        return -1;
    }
    gc_freeze = PyObject_GetAttrString(gc, "freeze");
    gc_unfreeze = PyObject_GetAttrString(gc, "unfreeze");
    gc_get_objects = PyObject_GetAttrString(gc, "get_objects");
    PyObject *garbage = PyObject_GetAttrString(gc, "garbage");
    PyObject *callbacks = PyObject_GetAttrString(gc, "callbacks");
    int ret = gc_freeze == NULL || gc_unfreeze == NULL || gc_get_objects == NULL || garbage == NULL
                      || callbacks == NULL
                  ? -1
                  : 0;
    if (ret == 0) {
        PyObject *const *words = (PyObject *const *)PyInterpreterState_Main();
        for (size_t i = CF_COLLECTING_BEFORE; i < CF_COLLECTING_WITHIN / sizeof(void *); i++) {
            if (words[i] == garbage && words[i + 1] == callbacks) {
                collecting = (const int *)(words + i - CF_COLLECTING_BEFORE);
                break;
            }
        }
    }
    Py_XDECREF(garbage);
    Py_XDECREF(callbacks);
    Py_DECREF(gc);
    return ret;
}

bool
cf_collector_runs(void)
{
    return collecting != NULL && *collecting != 0;
}

static int
call(PyObject *function)
{
    PyObject *result = PyObject_CallNoArgs(function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
cf_gc_freeze(void)
{
    return call(gc_freeze);
}

int
cf_gc_unfreeze(void)
{
    return call(gc_unfreeze);
}

PyObject *
cf_gc_objects(void)
{
    return PyObject_CallNoArgs(gc_get_objects);
}

bool
cf_other_interpreters(void)
{
    /* New ones are put in front of the list, and the main one is never taken out. */
    return PyInterpreterState_Head() != PyInterpreterState_Main();
}
