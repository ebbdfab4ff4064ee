/* seal_malloc.h - leave no free chunk of malloc beside a frozen one. No Python.h. */
#ifndef CF_SEAL_MALLOC_H
#define CF_SEAL_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    size_t blocks;    /* chunks taken and kept */
    size_t bytes;     /* their size: address space, hardly any of it backed */
    const char *why;  /* why nothing, or not everything, was done; NULL: it was */
} cf_chunks_result;

/* Return free pages to the kernel, then take every free chunk of the main heap
 * out of use, so that a process that is forked now allocates on fresh pages.
 * The chunks are kept for ever. Only where malloc is glibc's own; otherwise
 * `why` says what it is. Cannot fail. */
void cf_chunks_seal(cf_chunks_result *result);

/* Is malloc surely glibc's own? Others may believe that pages which they gave back with
 * MADV_DONTNEED are zeros, and spare calloc the work. */
bool cf_chunks_malloc_is_known(void);

#endif
