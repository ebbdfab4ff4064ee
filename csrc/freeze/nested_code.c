/* nested_code.c - a code object and those nested in it.
 *
 *   module  co_consts  [ 1 | code of f | "x" ]
 *                            `-> co_consts  [ code of <lambda> | None ]
 *                                             `-> ...
 *
 * The path from the outermost to the one that is looked at is kept here, because recursion over
 * what a program has made may end the C stack. The compiler gives up before MAX_NESTING.
 */
#include "freeze/nested_code.h"

#define MAX_NESTING 64

void
cf_codes_visit(PyCodeObject *code, void (*visit)(PyCodeObject *, void *), void *arg)
{
    struct {
        PyCodeObject *code;
        Py_ssize_t next;
    } path[MAX_NESTING];
    int depth = 0;
    path[0].code = code;
    path[0].next = 0;
    visit(code, arg);
    while (depth >= 0) {
        PyObject *consts = path[depth].code->co_consts;
        if (path[depth].next == PyTuple_GET_SIZE(consts)) {
            depth--;
            continue;
        }
        PyObject *constant = PyTuple_GET_ITEM(consts, path[depth].next++);
        if (PyCode_Check(constant) && depth + 1 < MAX_NESTING) {
            visit((PyCodeObject *)constant, arg);
            depth++;
            path[depth].code = (PyCodeObject *)constant;
            path[depth].next = 0;
        }
    }
}
