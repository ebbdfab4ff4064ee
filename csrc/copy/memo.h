/* memo.h - a map from addresses to words: what an object's copy is.
 *
 *   slots   [ key | value | stamp ][ key | value | stamp ] ...     a power of two of them
 *
 * A slot counts only if its stamp is the map's, so that emptying the map is
 * one addition: clones of small records, one after the other, do not pay for
 * the largest one. All memory is mmap'ed. No Python.h.
 */
#ifndef CF_MEMO_H
#define CF_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uintptr_t key;
    uintptr_t value;
    uint64_t stamp;
} cf_memo_slot;

typedef struct {
    cf_memo_slot *slots; /* NULL until the first addition */
    size_t mask;
    size_t used;
    uint64_t stamp;
} cf_memo;

/* Make room for one more entry. Returns 0, or -1 (out of memory, no exception;
 * the map is as before). */
int cf_memo_grow(cf_memo *memo);

/* Give the memory back. */
void cf_memo_clear(cf_memo *memo);

/* Forget all entries; memory above a small size is given back. */
void cf_memo_empty(cf_memo *memo);

static inline size_t
cf_memo_hash(const void *key)
{
    return (size_t)(((uintptr_t)key >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20);
}

/* The slot of KEY, or the free one where it belongs. Needs slots != NULL. */
static inline cf_memo_slot *
cf_memo_slot_of(const cf_memo *memo, const void *key)
{
    size_t i = cf_memo_hash(key) & memo->mask;
    while (memo->slots[i].stamp == memo->stamp && memo->slots[i].key != (uintptr_t)key) {
        i = (i + 1) & memo->mask;
    }
    return &memo->slots[i];
}

/* The word stored for KEY, or 0. */
static inline uintptr_t
cf_memo_get(const cf_memo *memo, const void *key)
{
    if (memo->used == 0) {
        return 0;
    }
    const cf_memo_slot *slot = cf_memo_slot_of(memo, key);
    return slot->stamp == memo->stamp ? slot->value : 0;
}

/* Store VALUE (not 0) for KEY. Returns 0, or -1 (out of memory, no exception). */
static inline int
cf_memo_set(cf_memo *memo, const void *key, uintptr_t value)
{
    if ((memo->slots == NULL || (memo->used + 1) * 2 > memo->mask) && cf_memo_grow(memo) < 0) {
        return -1;
    }
    cf_memo_slot *slot = cf_memo_slot_of(memo, key);
    memo->used += slot->stamp != memo->stamp;
    *slot = (cf_memo_slot){(uintptr_t)key, value, memo->stamp};
    return 0;
}

#endif
