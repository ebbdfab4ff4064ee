/* memo.c - a map from addresses to words: growing and emptying it.
 *
 *   [ key | value | stamp ]   counts if its stamp is the map's; linear probing,
 *                             never more than half full, nothing is deleted
 */
#include "copy/memo.h"

#include "base/mem.h"

#define SMALLEST 1024
#define KEPT (64 * 1024) /* slots that cf_memo_empty() leaves in place */

static size_t
size_of(size_t slots)
{
    return slots * sizeof(cf_memo_slot);
}

int
cf_memo_grow(cf_memo *memo)
{
    size_t slots = memo->slots == NULL ? SMALLEST : (memo->mask + 1) * 2;
    cf_memo larger = {.slots = cf_mem_map(size_of(slots)), .mask = slots - 1, .stamp = 1};
    if (larger.slots == NULL) {
        return -1;
    }
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        const cf_memo_slot *old = &memo->slots[i];
        if (old->stamp == memo->stamp) {
            cf_memo_slot *slot = cf_memo_slot_of(&larger, (const void *)old->key);
            *slot = (cf_memo_slot){old->key, old->value, larger.stamp};
            larger.used++;
        }
    }
    cf_memo_clear(memo);
    *memo = larger;
    return 0;
}

void
cf_memo_clear(cf_memo *memo)
{
    if (memo->slots != NULL) {
        cf_mem_unmap(memo->slots, size_of(memo->mask + 1));
    }
    *memo = (cf_memo){0};
}

void
cf_memo_empty(cf_memo *memo)
{
    if (memo->slots != NULL && memo->mask >= KEPT) {
        cf_memo_clear(memo);
        return;
    }
    memo->used = 0;
    memo->stamp++;
}
