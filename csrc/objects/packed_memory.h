/* packed_memory.h - where packed objects are.
 *
 *   pieces   [ headers: start, end | tables: start, end ] ...   one for each pack()
 *
 * No Python.h; written under the GIL by pack.c, read by everybody, also without the GIL.
 */
#ifndef CF_PACKED_MEMORY_H
#define CF_PACKED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Make room for one more piece. Returns 0, or -1 (out of memory). */
int cf_packed_reserve(void);

/* Remember a piece. Cannot fail after cf_packed_reserve(). */
void cf_packed_add(uintptr_t headers, uintptr_t headers_end, uintptr_t tables,
                   uintptr_t tables_end);

/* The tables of piece I. False: there is none. */
bool cf_packed_tables(size_t i, uintptr_t *start, uintptr_t *end);

/* Do tables lie at ADDRESS? Needs no GIL. */
bool cf_packed_has_table(uintptr_t address);

/* Does packed memory hold an object at ADDRESS? */
bool cf_packed_contains(uintptr_t address);

/* Bytes of all pieces. */
size_t cf_packed_bytes(void);

#endif
