/* packed_memory.c - where packed objects are.
 *
 *   pieces   [ headers: start, end | tables: start, end ] ...   in the order in which they
 *                                               were made; nothing is ever taken out
 */
#include "objects/packed_memory.h"

#include "base/mem.h"

#include <string.h>

typedef struct {
    uintptr_t start, end; /* headers */
    uintptr_t tables, tables_end;
} piece;

static piece *pieces;
static size_t n_pieces;
static size_t room;

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
    cf_mem_unmap(pieces, room * sizeof(piece));
    pieces = grown;
    room = larger;
    return 0;
}

void
cf_packed_add(uintptr_t headers, uintptr_t headers_end, uintptr_t tables, uintptr_t tables_end)
{
    pieces[n_pieces++] = (piece){headers, headers_end, tables, tables_end};
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
