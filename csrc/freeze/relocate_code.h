/* relocate_code.h - move code objects that write themselves onto pages of their own. */
#ifndef CF_RELOCATE_CODE_H
#define CF_RELOCATE_CODE_H

#include "cpython/compat.h"
#include "base/stack.h"

/* One relocation: memory that is reserved before it, and what it did. */
typedef struct {
    char *region;        /* where code goes; what is used stays for ever */
    uintptr_t *forward;  /* pairs: old code object, new one; an open hash table */
    size_t used;         /* bytes of the region */
    size_t moved;        /* code objects */
    size_t left;         /* hot, but watched by somebody, or without room */
} cf_relocation;

/* The opcode numbers of RESUME and of what it becomes when it has run (3.13 and
 * later). Without them nothing counts as hot. */
void cf_relocate_set_opcodes(int resume, int resume_check);

/* Note how the code of all functions looks now, so that what runs from here to
 * cf_relocate is known as hot. Runs no Python code. Returns how many code
 * objects were noted; 0 also when there is no memory for it. */
size_t cf_relocate_mark(void);

/* Give up what was noted; cf_relocate_clear does it too. */
void cf_relocate_forget(void);

/* Make room. Returns 0, or -1 (out of memory, no exception). */
int cf_relocate_reserve(cf_relocation *relocation);

/* Copy the hot ones among CODES, which are frozen, and let FUNCTIONS and the
 * constants of CODES refer to the copies. Cannot fail: what has no room stays. */
void cf_relocate(cf_relocation *relocation, const cf_stack *codes, const cf_stack *functions);

/* Give back what was reserved and not used. */
void cf_relocate_clear(cf_relocation *relocation);

#endif
