/* packed_tables.h - C code that frees or enlarges a table in packed memory. */
#ifndef CF_PACKED_TABLES_H
#define CF_PACKED_TABLES_H

/* From now on such a table is left alone, and copied where it should grow. Call it at every pack:
 * tracemalloc takes it down if it was started before and is stopped after. Needs the GIL; cannot fail. */
void cf_packed_tables_guard(void);

/* Like _PyMem_GetCurrentAllocatorName, which knows no name while the guard stands. */
const char *cf_allocator_name(void);

#endif
