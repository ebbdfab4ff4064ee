/* layouts.h - how pymalloc and glibc's malloc cut their memory, the same from CPython 3.10 to 3.15 on
 * 64 bits. No Python.h.
 *
 *   pool    [ header | block | block | ... ]                   aligned to its size
 *   chunk   [ size of the one before | size, flags | data ...  data from 16 on
 */
#ifndef CF_LAYOUTS_H
#define CF_LAYOUTS_H

#include <stdint.h>

#define CF_ALIGNMENT 16 /* of blocks, and of chunks */

/* Objects/obmalloc.c */
#define CF_POOL_SIZE ((uintptr_t)16 << 10)
#define CF_POOL_HEADER_SIZE 48
#define CF_LARGEST_BLOCK 512

/* malloc.c */
#define CF_SMALLEST_CHUNK 32
#define CF_CHUNK_FLAGS 7u

#endif
