/* packed_memory.c - where packed objects are.
 *
 *   pieces   [ headers: start, end | tables: start, end ] ...   in the order in which they
 *                                               were made; nothing is ever taken out
 *
 * A larger array takes the place of a full one, which stays: a thread without the GIL may
 * read it. A number of pieces is told after the piece itself.
 */
#include "objects/packed_memory.h"

#include "base/mem.h"

#include <string.h>

typedef struct {
    uintptr_t start, end; /* headers */
    uintptr_t tables, tables_end;
} piece;

/* Written by pack under the GIL. free() of any thread reads them without: what it is asked to free was
 * made known before that thread could come by it, bounds only widen, and outgrown arrays stay. */
static piece *pieces;
static size_t n_pieces;
static size_t room;
static uintptr_t first_table = UINTPTR_MAX, last_table; /* all lie between: free() asks often */
static uintptr_t first_header = UINTPTR_MAX, last_header;

int
cf_packed_reserve(void)
{
    if (n_pieces < room) {
        return 0;
    }
    size_t larger = room * 2 + 64;
    piece *grown = cf_mem_map(larger * sizeof(piece));
    if (grown == NULL) {
        return -1;
    }
    if (n_pieces > 0) {
        memcpy(grown, pieces, n_pieces * sizeof(piece));
    }
    __atomic_store_n(&pieces, grown, __ATOMIC_RELEASE);
    room = larger;
    return 0;
}

void
cf_packed_add(uintptr_t headers, uintptr_t headers_end, uintptr_t tables, uintptr_t tables_end)
{
    pieces[n_pieces] = (piece){headers, headers_end, tables, tables_end};
    __atomic_store_n(&n_pieces, n_pieces + 1, __ATOMIC_RELEASE);
    first_header = headers < first_header ? headers : first_header;
    last_header = headers_end > last_header ? headers_end : last_header;
    if (tables_end > tables) {
        first_table = tables < first_table ? tables : first_table;
        last_table = tables_end > last_table ? tables_end : last_table;
    }
}

bool
cf_packed_has_table(uintptr_t address)
{
    if (address < first_table || address >= last_table) {
        return false;
    }
    size_t n = __atomic_load_n(&n_pieces, __ATOMIC_ACQUIRE);
    const piece *at = __atomic_load_n(&pieces, __ATOMIC_ACQUIRE);
    for (size_t i = 0; i < n; i++) {
        if (address - at[i].tables < at[i].tables_end - at[i].tables) {
            return true;
        }
    }
    return false;
}

bool
cf_packed_tables(size_t i, uintptr_t *start, uintptr_t *end)
{
    if (i >= n_pieces) {
        return false;
    }
    *start = pieces[i].tables;
    *end = pieces[i].tables_end;
    return true;
}

bool
cf_packed_contains(uintptr_t address)
{
    if (address < first_header || address >= last_header) {
        return false;
    }
    for (size_t i = 0; i < n_pieces; i++) {
        if (address - pieces[i].start < pieces[i].end - pieces[i].start) {
            return true;
        }
    }
    return false;
}

size_t
cf_packed_bytes(void)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        bytes += pieces[i].end - pieces[i].start + pieces[i].tables_end - pieces[i].tables;
    }
    return bytes;
}
