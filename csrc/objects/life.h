/* life.h - does anybody notice when an instance of a type dies? */
#ifndef CF_LIFE_H
#define CF_LIFE_H

#include "cpython/compat.h"
#include "base/objset.h"

#define CF_MAX_OWN_CODE 128

/* Where the code of the interpreter and of the standard library's modules lies. */
typedef struct {
    cf_range ranges[CF_MAX_OWN_CODE];
    size_t n;
    bool more; /* that did not fit */
} cf_own_code;

/* Find it. Cannot fail. */
void cf_own_code_find(cf_own_code *own);

/* Does the death of an instance of TYPE do nothing but give memory and references back, as far
 * as can be known? Then it may be made immortal. Allocates nothing, runs no Python code. */
bool cf_dies_unseen(PyTypeObject *type, const cf_own_code *own);

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_life_init(void);

#endif
