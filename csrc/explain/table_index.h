/* table_index.h - blocks that objects keep elsewhere, by address.
 *
 * A list's array, a dict's keys, the bytes of a bytearray. No Python.h.
 */
#ifndef CF_TABLE_INDEX_H
#define CF_TABLE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which block of an object an address lies in. */
typedef enum {
    CF_PART_BODY,        /* the object itself, what lies before its header included */
    CF_PART_ITEMS,       /* a list's array */
    CF_PART_KEYS,        /* a dict's table of keys and values */
    CF_PART_SET,         /* a set's table */
    CF_PART_VALUES,      /* attribute values of an instance */
    CF_PART_SHARED_KEYS, /* attribute names of a class */
    CF_PART_BUFFER,      /* bytes of a bytearray, elements of an array */
} cf_part;

typedef struct {
    uintptr_t start;
    uintptr_t end;
    void *owner; /* the object */
    cf_part part;
} cf_table;

typedef struct {
    cf_table *items;
    size_t n;
    size_t capacity;
    size_t last; /* position of the one found last */
} cf_tables;

/* Room for CAPACITY tables, address space only. Returns 0, or -1 (out of memory). */
int cf_tables_reserve(cf_tables *tables, size_t capacity);

/* Give everything back. */
void cf_tables_clear(cf_tables *tables);

/* Add one. False: there is no room left. */
static inline bool
cf_tables_add(cf_tables *tables, const cf_table *table)
{
    if (tables->n == tables->capacity) {
        return false;
    }
    tables->items[tables->n++] = *table;
    return true;
}

/* All are there: put them in the order of their starts. Returns 0, or -1 (out of memory). */
int cf_tables_sort(cf_tables *tables);

/* The table with the nearest start at or below ADDRESS, if that holds it; else NULL. Fastest for
 * addresses that rise. */
const cf_table *cf_tables_find(cf_tables *tables, uintptr_t address);

#endif
