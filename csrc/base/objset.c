/* objset.c - a set of object addresses, and one of pages.
 *
 *   address space   ....[ brk heap ]........................[ arenas  libraries ]....
 *   windows             [ window 0 ]                        [ window 1          ]
 *                            |                                   |
 *   bits                [1/64 of it]                        [1/64 of it         ]   per object
 *   pages               [1/4096]                            [1/4096             ]   per page
 *   units               [1/2 Mi]                            [1/2 Mi             ]   per 2 MiB
 *
 * Mappings that lie closer than GAP share a window; a process has two or three.
 * So a bit is found with one comparison and two shifts.
 *
 * Why bits and not a hash set or a list of pointers: they are 1/64 of the
 * heap, about one byte per object, where a pointer needs eight. (The other
 * way, a spare bit in every object's header, has to be undone on failure.)
 * Bits of what is not heap are reserved too, but never touched, and what is
 * not touched is not backed by memory.
 *
 * Reading what was never touched costs a page fault for each of its pages, and a
 * program may have reserved terabytes that hold no object. So who visits looks at
 * the units first.
 */
#include "base/objset.h"

#include "base/mem.h"
#include "base/pageset.h"

#include <string.h>

#define GAP ((uintptr_t)1 << 30)
#define UNIT ((uintptr_t)1 << CF_OBJSET_UNIT_SHIFT)
/* A window starts and ends on the boundary of a unit, and so of a word and of a
 * page of any size. */
#define ALIGN UNIT

static size_t
pages_size(const cf_objset *set, const cf_objset_window *window)
{
    return window->size >> set->page_shift;
}

static size_t
bits_size(const cf_objset_window *window)
{
    return window->size >> CF_OBJSET_SHIFT >> 3;
}

static size_t
units_size(const cf_objset_window *window)
{
    return window->size >> CF_OBJSET_UNIT_SHIFT;
}

int
cf_objset_reserve(cf_objset *set, const cf_range *ranges, size_t n)
{
    memset(set, 0, sizeof(*set));
    set->page_shift = (unsigned)__builtin_ctzl(cf_page_size());
    set->ranges = ranges;
    set->n_ranges = n;
    for (size_t i = 0; i < n; i++) {
        uintptr_t start = ranges[i].start & ~(ALIGN - 1);
        uintptr_t end = (ranges[i].end + ALIGN - 1) & ~(ALIGN - 1);
        cf_objset_window *w = &set->windows[set->n_windows];
        if (set->n_windows > 0
            && (start < w[-1].start + w[-1].size + GAP
                || set->n_windows == CF_OBJSET_WINDOWS)) {
            w[-1].size = end - w[-1].start;
            continue;
        }
        *w = (cf_objset_window){start, end - start, NULL, NULL, NULL};
        set->n_windows++;
    }
    for (size_t i = 0; i < set->n_windows; i++) {
        cf_objset_window *w = &set->windows[i];
        w->bits = cf_mem_reserve(bits_size(w));
        w->pages = cf_mem_reserve(pages_size(set, w));
        w->units = cf_mem_reserve(units_size(w));
        if (w->bits == NULL || w->pages == NULL || w->units == NULL) {
            cf_objset_clear(set);
            return -1;
        }
    }
    return 0;
}

void
cf_objset_clear(cf_objset *set)
{
    for (size_t i = 0; i < set->n_windows; i++) {
        cf_mem_unmap(set->windows[i].bits, bits_size(&set->windows[i]));
        cf_mem_unmap(set->windows[i].pages, pages_size(set, &set->windows[i]));
        cf_mem_unmap(set->windows[i].units, units_size(&set->windows[i]));
    }
    memset(set, 0, sizeof(*set));
}

void
cf_objset_forget_pages(cf_objset *set)
{
    for (size_t i = 0; i < set->n_windows; i++) {
        cf_mem_unmap(set->windows[i].pages, pages_size(set, &set->windows[i]));
        set->windows[i].pages = NULL;
    }
    set->last = (cf_objset_window){0};
}

bool
cf_objset_find_window(cf_objset *set, uintptr_t address)
{
    for (size_t i = 0; i < set->n_windows; i++) {
        if (address - set->windows[i].start < set->windows[i].size) {
            set->last = set->windows[i];
            return true;
        }
    }
    return false;
}

/* The next piece of the ranges that lies in one unit with a member or a marked page; its window
 * becomes the last one. POSITION begins as zeros. Only mapped ranges, by rising address. */
typedef struct {
    size_t range;
    uintptr_t at;
} position;

static bool
next_piece(cf_objset *set, position *p, cf_range *piece)
{
    for (; p->range < set->n_ranges; p->range++, p->at = 0) {
        const cf_range *range = &set->ranges[p->range];
        uintptr_t at = p->at == 0 ? range->start : p->at;
        if (at >= range->end || !cf_objset_find_window(set, at)) {
            continue;
        }
        const cf_objset_window *window = &set->last;
        size_t unit = (at - window->start) >> CF_OBJSET_UNIT_SHIFT;
        size_t end = ((range->end - 1 - window->start) >> CF_OBJSET_UNIT_SHIFT) + 1;
        const uint8_t *found = memchr(window->units + unit, 1, end - unit);
        if (found == NULL) {
            continue;
        }
        uintptr_t start = window->start + ((uintptr_t)(found - window->units) << CF_OBJSET_UNIT_SHIFT);
        piece->start = start > at ? start : at;
        piece->end = start + UNIT < range->end ? start + UNIT : range->end;
        p->at = piece->end;
        return true;
    }
    return false;
}

void
cf_objset_visit(cf_objset *set, void (*visit)(void *, void *), void *arg)
{
    position p = {0};
    cf_range piece;
    while (next_piece(set, &p, &piece)) {
        cf_objset_window window = set->last; /* VISIT may look for another */
        size_t first = (piece.start - window.start) >> CF_OBJSET_WORD_SHIFT;
        size_t last = (piece.end - 1 - window.start) >> CF_OBJSET_WORD_SHIFT;
        for (size_t w = first; w <= last; w++) {
            for (uint64_t rest = window.bits[w]; rest != 0; rest &= rest - 1) {
                size_t bit = (w << 6) + (size_t)__builtin_ctzll(rest);
                visit((void *)(window.start + (bit << CF_OBJSET_SHIFT)), arg);
            }
        }
    }
}

const cf_range *
cf_range_find(const cf_range *ranges, size_t n, uintptr_t address)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ranges[middle].end <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low == n || address < ranges[low].start ? NULL : &ranges[low];
}

/* The range that holds ADDRESS; its window becomes the last one. */
static const cf_range *
find_range(cf_objset *set, uintptr_t address)
{
    const cf_range *range = cf_range_find(set->ranges, set->n_ranges, address);
    return range == NULL || !cf_objset_find_window(set, address) ? NULL : range;
}

bool
cf_objset_range(cf_objset *set, uintptr_t address, cf_range *range)
{
    const cf_range *found = find_range(set, address);
    if (found != NULL) {
        *range = *found;
    }
    return found != NULL;
}

static uintptr_t
member_at(const cf_objset_window *window, size_t word, unsigned bit)
{
    return window->start + (((uintptr_t)word << 6) + bit) * (1u << CF_OBJSET_SHIFT);
}

uintptr_t
cf_objset_before(cf_objset *set, uintptr_t address)
{
    const cf_range *range = find_range(set, address);
    if (range == NULL) {
        return 0;
    }
    const cf_objset_window *window = &set->last;
    size_t bit = (address - window->start) >> CF_OBJSET_SHIFT;
    size_t word = bit >> 6;
    size_t first = (range->start - window->start) >> CF_OBJSET_WORD_SHIFT;
    uint64_t bits = window->bits[word] & (UINT64_MAX >> (63 - (bit & 63)));
    while (bits == 0 && word > first) {
        bits = window->bits[--word];
    }
    return bits == 0 ? 0 : member_at(window, word, 63u - (unsigned)__builtin_clzll(bits));
}

uintptr_t
cf_objset_after(cf_objset *set, uintptr_t address)
{
    const cf_range *range = find_range(set, address);
    if (range == NULL) {
        return 0;
    }
    const cf_objset_window *window = &set->last;
    size_t bit = ((address - window->start) >> CF_OBJSET_SHIFT) + 1;
    size_t word = bit >> 6;
    size_t last = (range->end - 1 - window->start) >> CF_OBJSET_WORD_SHIFT;
    if (word > last) {
        return 0;
    }
    uint64_t bits = window->bits[word] & (UINT64_MAX << (bit & 63));
    while (bits == 0 && word < last) {
        bits = window->bits[++word];
    }
    return bits == 0 ? 0 : member_at(window, word, (unsigned)__builtin_ctzll(bits));
}

void
cf_objset_visit_pages(cf_objset *set, void (*visit)(uintptr_t, void *), void *arg)
{
    uintptr_t page_size = (uintptr_t)1 << set->page_shift;
    position p = {0};
    cf_range piece;
    while (next_piece(set, &p, &piece)) {
        cf_objset_window window = set->last;
        for (uintptr_t page = piece.start; page < piece.end; page += page_size) {
            if (window.pages[(page - window.start) >> set->page_shift]) {
                visit(page, arg);
            }
        }
    }
}

size_t
cf_objset_used_bytes(cf_objset *set)
{
    /* The kernel backs pages that were written; a page of bits covers 64 of heap. */
    size_t used = 0;
    uintptr_t page_size = (uintptr_t)1 << set->page_shift;
    size_t words = page_size / sizeof(uint64_t);
    const uint64_t *looked_at = NULL; /* a large page has the bits of several pieces */
    position p = {0};
    cf_range piece;
    while (next_piece(set, &p, &piece)) {
        size_t first = (piece.start - set->last.start) >> CF_OBJSET_WORD_SHIFT;
        size_t last = (piece.end - 1 - set->last.start) >> CF_OBJSET_WORD_SHIFT;
        used += (piece.end - piece.start) >> set->page_shift;
        for (size_t page = first / words; page <= last / words; page++) {
            const uint64_t *bits = set->last.bits + page * words;
            uint64_t any = 0;
            for (size_t w = 0; w < words && bits != looked_at; w++) {
                any |= bits[w];
            }
            looked_at = bits;
            used += any != 0 ? page_size : 0;
        }
    }
    return used;
}
