/* mem.h - memory for bookkeeping, outside the Python heap and outside malloc.
 *
 * Pages come straight from the kernel and go back to it: a freeze must not
 * leave holes or fresh chunks in the heaps whose pages it wants to share.
 * No Python.h.
 */
#ifndef CF_MEM_H
#define CF_MEM_H

#include <stddef.h>

/* For a function that looks at words which are nobody's object: a chunk's header in front of a
 * block of malloc, whatever a word that may be a pointer points to. Its caller has made sure that
 * they are mapped; AddressSanitizer would call it an overflow. */
#define CF_READS_ANY_WORD __attribute__((no_sanitize("address")))

/* SIZE bytes of zeroed memory, or NULL. */
void *cf_mem_map(size_t size);

/* The same, but address space only: pages are backed when they are touched,
 * and do not count against the overcommit limit before (except in mode 2). */
void *cf_mem_reserve(size_t size);

/* Give a block of these back; NULL is allowed. */
void cf_mem_unmap(void *block, size_t size);

/* Bytes of address space that are mapped now. */
size_t cf_mem_mapped(void);

/* For tests: let the N-th request from now on fail, and all after it (N = 1:
 * the next one). Negative: none. */
void cf_mem_fail_at(long n);

#endif
