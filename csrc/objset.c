/* objset.c - a set of object addresses, one bit for every 16 bytes of heap.
 *
 *   address   [ MiB number             | bit number in the region | b 000 ]
 *              63                    20 19                       4  3
 *
 *   region    number = MiB number * 2 + b   ->   8 KiB: one bit per 16 bytes of the MiB
 *
 * Why bits and not a hash set or a list of pointers: they are 1/128 of the
 * heap, about half a byte per object, where a pointer needs eight. (The other
 * way, a spare bit in every object's header, has to be undone on failure.)
 *
 * The bits of all regions are cut from one reserved mapping, in order of
 * arrival; pages of it that are never touched are never backed.
 */
#include "objset.h"

#include "mem.h"

#include <string.h>

#define REGION_BYTES (CF_OBJSET_REGION_WORDS * sizeof(uint64_t))
#define NO_REGION UINTPTR_MAX

static size_t
index_slot(const cf_objset *set, uintptr_t number)
{
    size_t mask = set->index_size - 1;
    size_t i = (size_t)(number * 0x9E3779B97F4A7C15u >> 24) & mask;
    while (set->index[i] != 0 && set->regions[set->index[i] - 1].number != number) {
        i = (i + 1) & mask;
    }
    return i;
}

int
cf_objset_reserve(cf_objset *set, size_t n_regions)
{
    memset(set, 0, sizeof(*set));
    for (int i = 0; i < CF_OBJSET_CACHE; i++) {
        set->cache[i].number = NO_REGION;
    }
    set->capacity = n_regions;
    set->index_size = 64;
    while (set->index_size < 2 * n_regions) {
        set->index_size *= 2;
    }
    set->regions = cf_mem_reserve(n_regions * sizeof(cf_objset_region));
    set->index = cf_mem_reserve(set->index_size * sizeof(uint32_t));
    set->bits = cf_mem_reserve(n_regions * REGION_BYTES);
    if (set->regions == NULL || set->index == NULL || set->bits == NULL) {
        cf_objset_clear(set);
        return -1;
    }
    return 0;
}

void
cf_objset_clear(cf_objset *set)
{
    cf_mem_unmap(set->regions, set->capacity * sizeof(cf_objset_region));
    cf_mem_unmap(set->index, set->index_size * sizeof(uint32_t));
    cf_mem_unmap(set->bits, set->capacity * REGION_BYTES);
    memset(set, 0, sizeof(*set));
}

size_t
cf_objset_used_bytes(const cf_objset *set)
{
    return set->n_regions * (REGION_BYTES + sizeof(cf_objset_region) + 2 * sizeof(uint32_t));
}

uint64_t *
cf_objset_region_bits(cf_objset *set, uintptr_t number)
{
    size_t slot = index_slot(set, number);
    if (set->index[slot] == 0) {
        if (set->n_regions == set->capacity) {
            return NULL;
        }
        set->regions[set->n_regions] = (cf_objset_region){
            number, set->bits + set->n_regions * CF_OBJSET_REGION_WORDS};
        set->n_regions++;
        set->index[slot] = (uint32_t)set->n_regions;
    }
    cf_objset_region *cached = &set->cache[number % CF_OBJSET_CACHE];
    *cached = set->regions[set->index[slot] - 1];
    return cached->bits;
}

void
cf_objset_remove(cf_objset *set, const void *op)
{
    uintptr_t address = (uintptr_t)op;
    uint64_t *bits = cf_objset_region_bits(set, cf_objset_number(address));
    size_t bit = (address & (CF_OBJSET_REGION_SIZE - 1)) >> CF_OBJSET_SLOT_SHIFT;
    if (bits != NULL) {
        bits[bit / 64] &= ~((uint64_t)1 << (bit % 64));
    }
}

void
cf_objset_visit(const cf_objset *set, void (*visit)(void *, void *), void *arg)
{
    for (size_t i = 0; i < set->n_regions; i++) {
        uintptr_t number = set->regions[i].number;
        uintptr_t start = (number >> 1 << CF_OBJSET_REGION_SHIFT) + (number & 1) * 8;
        const uint64_t *bits = set->regions[i].bits;
        for (size_t w = 0; w < CF_OBJSET_REGION_WORDS; w++) {
            for (uint64_t rest = bits[w]; rest != 0; rest &= rest - 1) {
                uintptr_t bit = 64 * w + (uintptr_t)__builtin_ctzll(rest);
                visit((void *)(start + (bit << CF_OBJSET_SLOT_SHIFT)), arg);
            }
        }
    }
}
