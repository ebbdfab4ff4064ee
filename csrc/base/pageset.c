/* pageset.c - a set of OS pages.
 *
 * An open-addressing table of 1 MiB regions; a region is one bit per page:
 *
 *   slots   [ number | 256 bits ][ 0 ][ number | 256 bits ] ...   power of two, <= 1/2 full
 *             |         `- bit i: page i of the region (4 KiB pages; fewer bits are used
 *             |            with 16 or 64 KiB pages)
 *             `- address >> 20, plus 1 so that 0 means "free"
 *
 * 40 bytes for each MiB that holds a member, so a 10 GB heap costs 400 KB.
 */
#include "base/pageset.h"

#include "base/mem.h"

#include <string.h>
#include <unistd.h>

#define REGION_SHIFT 20
#define REGION_SIZE ((uintptr_t)1 << REGION_SHIFT)
#define REGION_WORDS 4
#define FIRST_SLOTS 256

typedef struct {
    uintptr_t number;
    uint64_t bits[REGION_WORDS];
} slot;

struct cf_pageset {
    slot *slots;
    size_t n_slots;
    size_t used;
    unsigned page_shift;
};

cf_pageset *cf_frozen_pages = NULL;

size_t
cf_page_size(void)
{
    static size_t size = 0;
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return size;
}

cf_pageset *
cf_pageset_new(void)
{
    cf_pageset *set = cf_mem_map(sizeof(cf_pageset));
    if (set == NULL) {
        return NULL;
    }
    set->page_shift = (unsigned)__builtin_ctzl(cf_page_size());
    return set;
}

void
cf_pageset_free(cf_pageset *set)
{
    if (set != NULL) {
        cf_mem_unmap(set->slots, set->n_slots * sizeof(slot));
        cf_mem_unmap(set, sizeof(cf_pageset));
    }
}

/* The slot of region NUMBER, or the free slot where it belongs. */
static slot *
find_slot(slot *slots, size_t n_slots, uintptr_t number)
{
    size_t mask = n_slots - 1;
    size_t i = (size_t)(number * 0x9E3779B97F4A7C15u >> 20) & mask;
    while (slots[i].number != 0 && slots[i].number != number) {
        i = (i + 1) & mask;
    }
    return &slots[i];
}

static int
grow(cf_pageset *set, size_t wanted)
{
    size_t n_slots = set->n_slots ? set->n_slots : FIRST_SLOTS;
    while (n_slots < 2 * wanted) {
        n_slots *= 2;
    }
    if (n_slots == set->n_slots) {
        return 0;
    }
    slot *slots = cf_mem_reserve(n_slots * sizeof(slot));
    if (slots == NULL) {
        return -1;
    }
    for (size_t i = 0; i < set->n_slots; i++) {
        if (set->slots[i].number != 0) {
            *find_slot(slots, n_slots, set->slots[i].number) = set->slots[i];
        }
    }
    cf_mem_unmap(set->slots, set->n_slots * sizeof(slot));
    set->slots = slots;
    set->n_slots = n_slots;
    return 0;
}

/* Number of the region that holds ADDRESS, as slots store it. */
static uintptr_t
region_number(uintptr_t address)
{
    return (address >> REGION_SHIFT) + 1;
}

static int
add_region(cf_pageset *set, uintptr_t number)
{
    if (set->n_slots > 0 && find_slot(set->slots, set->n_slots, number)->number) {
        return 0;
    }
    if (grow(set, set->used + 1) < 0) {
        return -1;
    }
    find_slot(set->slots, set->n_slots, number)->number = number;
    set->used++;
    return 0;
}

int
cf_pageset_reserve_regions(cf_pageset *set, size_t n)
{
    return grow(set, set->used + n);
}

int
cf_pageset_add(cf_pageset *set, uintptr_t start, uintptr_t end)
{
    uintptr_t page_size = (uintptr_t)1 << set->page_shift;
    for (uintptr_t page = start & ~(page_size - 1); page < end; page += page_size) {
        if (add_region(set, region_number(page)) < 0) {
            return -1;
        }
        slot *s = find_slot(set->slots, set->n_slots, region_number(page));
        size_t bit = (page & (REGION_SIZE - 1)) >> set->page_shift;
        s->bits[bit / 64] |= (uint64_t)1 << (bit % 64);
    }
    return 0;
}

void
cf_pageset_merge(cf_pageset *set, const cf_pageset *other)
{
    for (size_t i = 0; i < other->n_slots; i++) {
        if (other->slots[i].number == 0) {
            continue;
        }
        if (add_region(set, other->slots[i].number) < 0) {
            return; /* not after cf_pageset_reserve_regions */
        }
        slot *s = find_slot(set->slots, set->n_slots, other->slots[i].number);
        for (int w = 0; w < REGION_WORDS; w++) {
            s->bits[w] |= other->slots[i].bits[w];
        }
    }
}

size_t
cf_pageset_used_bytes(const cf_pageset *set)
{
    return set->used * sizeof(slot);
}

bool
cf_pageset_contains(const cf_pageset *set, uintptr_t address)
{
    if (set == NULL || set->n_slots == 0) {
        return false;
    }
    const slot *s = find_slot(set->slots, set->n_slots, region_number(address));
    size_t bit = (address & (REGION_SIZE - 1)) >> set->page_shift;
    return s->number != 0 && (s->bits[bit / 64] >> (bit % 64) & 1);
}

size_t
cf_pageset_count(const cf_pageset *set)
{
    size_t count = 0;
    if (set == NULL) {
        return 0;
    }
    for (size_t i = 0; i < set->n_slots; i++) {
        for (int w = 0; w < REGION_WORDS; w++) {
            count += (size_t)__builtin_popcountll(set->slots[i].bits[w]);
        }
    }
    return count;
}

int
cf_pageset_ranges(const cf_pageset *set, int (*visit)(uintptr_t, uintptr_t, void *),
                  void *arg)
{
    for (size_t i = 0; set != NULL && i < set->n_slots; i++) {
        if (set->slots[i].number != 0) {
            uintptr_t start = (set->slots[i].number - 1) << REGION_SHIFT;
            int status = visit(start, start + REGION_SIZE, arg);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}
