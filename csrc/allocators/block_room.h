/* block_room.h - how far the block reaches in which something lies. No Python.h. */
#ifndef CF_BLOCK_ROOM_H
#define CF_BLOCK_ROOM_H

#include "base/objset.h"

/* Where the block that begins at START, or holds it, ends at the latest: a block of pymalloc, a
 * chunk of glibc's malloc, else the mapping. 0: START is in none of the N RANGES. Reads nothing
 * outside of them. */
uintptr_t cf_block_end(const cf_range *ranges, size_t n, uintptr_t start);

#endif
