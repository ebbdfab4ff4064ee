/* running_code.h - references and code that were alive when the heap was frozen. */
#ifndef CF_RUNNING_CODE_H
#define CF_RUNNING_CODE_H

#include "cpython/compat.h"
#include "base/stack.h"

/* 3.14 and later: tag the references that frames hold to frozen objects (of all threads, generators
 * and greenlets: live_frames.h), so that using them in a worker does not count. Returns how many
 * were tagged. Does nothing on older versions. Cannot fail. */
size_t cf_live_tag_references(void);

/* I5: how many of them are left; 0 after that. */
size_t cf_live_counted_references(void);

/* Make room for functions to be remembered. Returns 0, or -1 (out of memory). */
int cf_live_reserve(void);

/* 3.14: remember FUNCTION, which is immortal and about to be untracked, so that
 * later freezes find its code. False: there is no room; leave it tracked. */
bool cf_live_remember(PyObject *function);

/* What LOAD_CONST_MORTAL is called in this interpreter, by opcode number. */
typedef struct {
    bool known;
    uint8_t load_const;
    uint8_t load_const_mortal;
    uint8_t load_const_immortal;
    uint8_t extended_arg;
    uint8_t base[256];   /* what a specialized opcode stands for; itself otherwise */
    uint8_t caches[256]; /* code units of inline cache behind a base opcode */
    bool opaque[256];    /* stands for an opcode that is kept elsewhere (tracing, JIT) */
} cf_opcodes;

extern cf_opcodes cf_opcode;

/* 3.14: let code that ran before the freeze load its now immortal constants
 * without counting them. CODES are the code objects of the walk; functions
 * that the collector tracks and all live frames are looked at too.
 * Returns how many instructions were rewritten; *UNREADABLE counts code objects
 * that are being traced. Cannot fail. */
size_t cf_live_patch_constants(const cf_stack *codes, size_t *unreadable);

#endif
