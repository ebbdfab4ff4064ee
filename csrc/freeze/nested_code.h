/* nested_code.h - a code object and those nested in it. */
#ifndef CF_NESTED_CODE_H
#define CF_NESTED_CODE_H

#include "cpython/compat.h"

/* Call VISIT with CODE and with every code object among its constants, and theirs, depth first.
 * VISIT must run no Python code. What nests deeper than the compiler allows is left out. */
void cf_codes_visit(PyCodeObject *code, void (*visit)(PyCodeObject *code, void *arg), void *arg);

#endif
