/* table_index.c - blocks that objects keep elsewhere, by address.
 *
 *   items    [ start, end, owner, part ][ start, end, owner, part ] ...
 *
 *   sorting  start = 00 00 7f 3a 91 c0 45 e0     a pass for each byte, the lowest first:
 *                                  ...<- 2 <- 1    items -> scratch -> items -> ...
 *
 * A heap of small lists has a table for each, millions, so they are dealt by
 * bytes: passes over memory, no comparisons, and scratch that does not come
 * from malloc as qsort's does. A byte that all starts share needs no pass, which
 * are three of eight at least.
 */
#include "explain/table_index.h"

#include "base/mem.h"

#include <string.h>

#define BYTES sizeof(uintptr_t)

int
cf_tables_reserve(cf_tables *tables, size_t capacity)
{
    *tables = (cf_tables){.items = cf_mem_reserve(capacity * sizeof(cf_table)),
                          .capacity = capacity};
    return tables->items == NULL ? -1 : 0;
}

void
cf_tables_clear(cf_tables *tables)
{
    cf_mem_unmap(tables->items, tables->capacity * sizeof(cf_table));
    *tables = (cf_tables){0};
}

static unsigned
byte_of(const cf_table *table, size_t byte)
{
    return table->start >> (8 * byte) & 0xFF;
}

/* PLACES has how many tables have which value of BYTE; afterwards, where those behind it begin. */
static void
deal(cf_table *to, const cf_table *from, size_t n, size_t byte, size_t places[256])
{
    size_t next = 0;
    for (size_t value = 0; value < 256; value++) {
        size_t count = places[value];
        places[value] = next;
        next += count;
    }
    for (size_t i = 0; i < n; i++) {
        to[places[byte_of(&from[i], byte)]++] = from[i];
    }
}

int
cf_tables_sort(cf_tables *tables)
{
    size_t counts[BYTES][256] = {0};
    size_t n = tables->n;
    size_t size = n * sizeof(cf_table);
    for (size_t i = 0; i < n; i++) {
        for (size_t byte = 0; byte < BYTES; byte++) {
            counts[byte][byte_of(&tables->items[i], byte)]++;
        }
    }
    if (n < 2) {
        return 0;
    }
    cf_table *scratch = cf_mem_reserve(size);
    if (scratch == NULL) {
        return -1;
    }
    cf_table *from = tables->items, *to = scratch;
    for (size_t byte = 0; byte < BYTES; byte++) {
        if (counts[byte][byte_of(&from[0], byte)] == n) {
            continue;
        }
        deal(to, from, n, byte, counts[byte]);
        cf_table *dealt = to;
        to = from;
        from = dealt;
    }
    if (from != tables->items) {
        memcpy(tables->items, from, size);
    }
    cf_mem_unmap(scratch, size);
    return 0;
}

const cf_table *
cf_tables_find(cf_tables *tables, uintptr_t address)
{
    for (size_t i = tables->last; i < tables->n && i < tables->last + 2; i++) {
        const cf_table *table = &tables->items[i];
        if (address - table->start < table->end - table->start) {
            tables->last = i;
            return table;
        }
    }
    size_t low = 0, high = tables->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tables->items[middle].start <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == 0 || address >= tables->items[low - 1].end) {
        return NULL;
    }
    tables->last = low - 1;
    return &tables->items[low - 1];
}
