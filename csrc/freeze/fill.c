/* fill.c - make what a reader would make, before anything is frozen.
 *
 *   instance   [ dict | values ]   vars(o), pickle and copy make a dict and write it into the first
 *                  |               word (3.12: instead of the pointer to the values)
 *                  `-> dict        its table is the class's shared keys and the instance's values
 *   str        [ utf8 | length ]   PyUnicode_AsUTF8 of what is not ASCII keeps its result there
 *
 * Both need memory that stays, hence a walk of their own before the one that marks: nothing may be
 * allocated between that one's reservation and its end (freeze.c, I2). Nothing here runs Python
 * code: the dict is made as object.__getstate__ makes it, past a __dict__ that a class defines. So
 * what the walk noted down is still there when its turn comes.
 *
 * An attribute is found in the values as before where these stay in the instance (3.13 and later).
 * On 3.12 the interpreter no longer specialises code that reads attributes of an instance with a
 * dict, hence it is for the caller to ask.
 */
#include "freeze/fill.h"

#include "cpython/layout.h"

static void
fill_utf8(cf_plan *plan, PyObject *op)
{
    Py_ssize_t size;
    if (!cf_str_lacks_utf8(op)) {
        return;
    }
    if (PyUnicode_AsUTF8AndSize(op, &size) == NULL) {
        PyErr_Clear(); /* a lone surrogate has none */
        return;
    }
    plan->filled_utf8++;
}

void
cf_fill_look(cf_plan *plan, PyObject *op)
{
    if (PyUnicode_Check(op) && plan->utf8) {
        fill_utf8(plan, op);
    }
    if (cf_layout_lacks_dict(op)) {
        cf_stack_push(&plan->instances, (uintptr_t)op);
    }
}

int
cf_fill_dicts(const cf_stack *instances)
{
    for (size_t i = 0; i < instances->used; i++) {
        PyObject *dict = PyObject_GenericGetDict((PyObject *)instances->words[i], NULL);
        if (dict == NULL) {
            return -1;
        }
        Py_DECREF(dict); /* the instance keeps it */
    }
    return 0;
}
