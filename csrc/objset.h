/* objset.h - a set of object addresses, one bit for every 16 bytes of heap.
 *
 * It is the walk's memory of what it has met. All memory is reserved before
 * the walk, so that adding cannot fail. No Python.h.
 */
#ifndef CF_OBJSET_H
#define CF_OBJSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CF_OBJSET_REGION_SHIFT 20
#define CF_OBJSET_REGION_SIZE ((uintptr_t)1 << CF_OBJSET_REGION_SHIFT)
#define CF_OBJSET_SLOT_SHIFT 4
#define CF_OBJSET_REGION_WORDS (CF_OBJSET_REGION_SIZE >> CF_OBJSET_SLOT_SHIFT >> 6)
#define CF_OBJSET_CACHE 64

typedef struct {
    uintptr_t number; /* see cf_objset_number */
    uint64_t *bits;
} cf_objset_region;

typedef struct {
    /* The regions met last, by the low bits of their number. */
    cf_objset_region cache[CF_OBJSET_CACHE];
    /* All regions in order of arrival, and a hash index into them. */
    cf_objset_region *regions;
    size_t n_regions;
    size_t capacity;
    uint32_t *index; /* 1 + position in regions; 0: free */
    size_t index_size;
    uint64_t *bits;
} cf_objset;

/* An all-zero set with room for objects in N_REGIONS regions of 1 MiB. Address
 * space only: what is not touched costs nothing. Returns 0, or -1 (out of
 * memory; the set is empty). */
int cf_objset_reserve(cf_objset *set, size_t n_regions);

/* Give everything back. */
void cf_objset_clear(cf_objset *set);

/* Bytes that were really used. */
size_t cf_objset_used_bytes(const cf_objset *set);

/* The region's number: objects 8 bytes behind a 16-byte boundary (static ones
 * of C libraries may be) have regions of their own. An object has at least 16
 * bytes, so that no two share a bit. */
static inline uintptr_t
cf_objset_number(uintptr_t address)
{
    return address >> CF_OBJSET_REGION_SHIFT << 1 | (address >> 3 & 1);
}

/* The bits of region NUMBER, or NULL: outside of what was reserved. Use
 * cf_objset_add. */
uint64_t *cf_objset_region_bits(cf_objset *set, uintptr_t number);

/* Add the object at OP. Returns true if it is new. An object outside of the
 * reserved regions is never new: it lies in no memory that the process had. */
static inline bool
cf_objset_add(cf_objset *set, const void *op)
{
    uintptr_t address = (uintptr_t)op;
    uintptr_t number = cf_objset_number(address);
    cf_objset_region *cached = &set->cache[number % CF_OBJSET_CACHE];
    uint64_t *bits = cached->bits;
    if (cached->number != number) {
        bits = cf_objset_region_bits(set, number);
        if (bits == NULL) {
            return false;
        }
    }
    size_t bit = (address & (CF_OBJSET_REGION_SIZE - 1)) >> CF_OBJSET_SLOT_SHIFT;
    uint64_t mask = (uint64_t)1 << (bit % 64);
    uint64_t word = bits[bit / 64];
    bits[bit / 64] = word | mask;
    return (word & mask) == 0;
}

/* Take the object at OP out again. */
void cf_objset_remove(cf_objset *set, const void *op);

/* Call VISIT(op, ARG) for every member, by rising address within a region. */
void cf_objset_visit(const cf_objset *set, void (*visit)(void *, void *), void *arg);

#endif
