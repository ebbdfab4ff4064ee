/* collector.c - is a collection running?
 *
 * No function tells. A collection that does nothing would, but where none is running it does
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

static const int *collecting; /* NULL: not known */

int
cf_collector_init(PyObject *gc)
{
    PyObject *garbage = PyObject_GetAttrString(gc, "garbage");
    PyObject *callbacks = PyObject_GetAttrString(gc, "callbacks");
    int ret = garbage == NULL || callbacks == NULL ? -1 : 0;
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
    return ret;
}

bool
cf_collector_runs(void)
{
    return collecting != NULL && *collecting != 0;
}
