/* pack.h - an equal, read-only copy of plain data in memory of its own. */
#ifndef CF_PACK_H
#define CF_PACK_H

#include "pack/store.h"

/* Once, at import. Returns 0, or -1 with an exception. */
int cf_pack_init(void);

/* The copy of ROOT, or NULL with an exception; then nothing is left behind. Not
 * READONLY: with ordinary lists, dicts and sets. *KEEPER becomes a list of what
 * packed memory refers to without counting it, which must never die, or None.
 * Needs the GIL; runs no Python code. */
PyObject *cf_pack(PyObject *root, bool readonly, cf_pack_outcome *outcome, PyObject **keeper);

/* Restore the fields of list and dict headers that C code has changed in shared
 * memory; returns how many headers were wrong (0 where they are not shared). */
size_t cf_pack_repair(void);

#endif
