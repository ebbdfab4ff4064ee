/* inherited.h - how many pages existed at the fork.
 *
 * No Python.h, no malloc.
 */
#ifndef CF_INHERITED_H
#define CF_INHERITED_H

#include "measure/witness.h"

#include <stdint.h>

/* Count the pages that the witness holds: memory that was written before its
 * fork, and so can be copied. Not counted: pages of files and memory that was
 * only read (before Linux 6.7 the latter is counted). For the parent: takes
 * work memory by cf_mem_map(). Returns 0 and *PAGES, or -1 with errno set
 * (ESRCH: the witness has ended). */
int cf_inherited_pages(const cf_witness *witness, int64_t *pages);

#endif
