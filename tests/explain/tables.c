/* tables.c - csrc/explain/table_index.c against qsort() and a search of all, without Python. */
#include "explain/table_index.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 4000 };

static int
by_start(const void *a, const void *b)
{
    uintptr_t x = ((const cf_table *)a)->start;
    uintptr_t y = ((const cf_table *)b)->start;
    return (x > y) - (x < y);
}

static uint64_t
random_number(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static const cf_table *
search_all(const cf_table *tables, size_t n, uintptr_t address)
{
    for (size_t i = 0; i < n; i++) {
        if (tables[i].start <= address && address < tables[i].end) {
            return &tables[i];
        }
    }
    return NULL;
}

/* N tables that do not overlap, from BASE on and from far above it, in any order. */
static void
check(size_t n, uintptr_t base, uintptr_t far_base)
{
    static cf_table expected[MOST];
    cf_tables tables;
    uintptr_t at = base;
    for (size_t i = 0; i < n; i++) {
        if (i == n / 2) {
            at = far_base;
        }
        at += random_number() % 3 * 8;
        uintptr_t size = 1 + random_number() % 300;
        expected[i] = (cf_table){at, at + size, &expected[i], CF_PART_KEYS};
        at += size;
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = random_number() % i;
        cf_table other = expected[j];
        expected[j] = expected[i - 1];
        expected[i - 1] = other;
    }
    assert(cf_tables_reserve(&tables, n) == 0);
    for (size_t i = 0; i < n; i++) {
        assert(cf_tables_add(&tables, &expected[i]));
    }
    assert(!cf_tables_add(&tables, &expected[0]));
    if (n > 1) {
        cf_mem_fail_at(1);
        assert(cf_tables_sort(&tables) == -1);
        cf_mem_fail_at(-1);
    }
    assert(cf_tables_sort(&tables) == 0);
    qsort(expected, n, sizeof(cf_table), by_start);
    for (size_t i = 0; i < n; i++) {
        assert(tables.items[i].start == expected[i].start && tables.items[i].owner == expected[i].owner);
    }
    /* By rising address, and anywhere. */
    for (size_t i = 0; i < 2 * n; i++) {
        const cf_table *near = &expected[i < n ? i : random_number() % n];
        for (uintptr_t address = near->start - 1; address <= near->end; address += near->end - near->start) {
            const cf_table *found = cf_tables_find(&tables, address);
            const cf_table *right = search_all(expected, n, address);
            assert((found == NULL) == (right == NULL));
            assert(found == NULL || found->owner == right->owner);
        }
    }
    cf_tables_clear(&tables);
    assert(cf_mem_mapped() == 0);
}

int
main(void)
{
    check(1, 0x7f0012345678, 0x7f0012345678);
    check(2, 0x1000, 0xfffffffff0000000);
    check(MOST, 0x55d000001238, 0x7f3a91c04000);
    check(MOST, 0x7f3a00000000, 0x7f3a00ffff00); /* bytes that all starts share */
    puts("ok");
    return 0;
}
