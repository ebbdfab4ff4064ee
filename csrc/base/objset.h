/* objset.h - a set of object addresses, and one of pages.
 *
 * The walk's memory of what it has met. All memory is reserved before the
 * walk, so that adding cannot fail. No Python.h.
 */
#ifndef CF_OBJSET_H
#define CF_OBJSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of address space, [start, end). */
typedef struct {
    uintptr_t start;
    uintptr_t end;
} cf_range;

/* The one of the N RANGES (ascending) that holds ADDRESS, or NULL. */
const cf_range *cf_range_find(const cf_range *ranges, size_t n, uintptr_t address);

#define CF_OBJSET_WINDOWS 16
#define CF_OBJSET_SHIFT 3 /* objects lie on 8-byte boundaries */
#define CF_OBJSET_WORD_SHIFT (CF_OBJSET_SHIFT + 6)
#define CF_OBJSET_UNIT_SHIFT 21 /* 2 MiB */

typedef struct {
    uintptr_t start;
    uintptr_t size;
    uint64_t *bits; /* bit i: the object at start + 8 * i */
    uint8_t *pages; /* byte i: the page at start + i * page size */
    uint8_t *units; /* byte i: is there a bit or a page of the unit at start + i * its size? */
} cf_objset_window;

typedef struct {
    cf_objset_window last; /* a copy of the window used last */
    cf_objset_window windows[CF_OBJSET_WINDOWS];
    size_t n_windows;
    const cf_range *ranges; /* the caller's, ascending */
    size_t n_ranges;
    unsigned page_shift;
} cf_objset;

/* An empty set for objects in RANGES (ascending; they must outlive the set).
 * Address space only: what is not touched costs nothing. Returns 0, or -1 (out
 * of memory; the set is empty). */
int cf_objset_reserve(cf_objset *set, const cf_range *ranges, size_t n);

/* Give everything back. */
void cf_objset_clear(cf_objset *set);

/* Give back what remembers pages: of what follows, only marking and visiting pages needs it. */
void cf_objset_forget_pages(cf_objset *set);

/* Make the window that holds ADDRESS the last one. False: there is none. */
bool cf_objset_find_window(cf_objset *set, uintptr_t address);

/* Add the object at OP. Returns true if it is new. An object outside of the
 * ranges is never new: it lies in no memory that the process can write. */
static inline bool
cf_objset_add(cf_objset *set, const void *op)
{
    uintptr_t offset = (uintptr_t)op - set->last.start;
    if (__builtin_expect(offset >= set->last.size, 0)) {
        if (!cf_objset_find_window(set, (uintptr_t)op)) {
            return false;
        }
        offset = (uintptr_t)op - set->last.start;
    }
    uint64_t *word = set->last.bits + (offset >> CF_OBJSET_WORD_SHIFT);
    uint64_t mask = (uint64_t)1 << (offset >> CF_OBJSET_SHIFT & 63);
    uint64_t old = *word;
    if (old & mask) {
        return false;
    }
    *word = old | mask;
    set->last.units[offset >> CF_OBJSET_UNIT_SHIFT] = 1;
    return true;
}

/* Take the object at OP out again. */
static inline void
cf_objset_remove(cf_objset *set, const void *op)
{
    if (cf_objset_find_window(set, (uintptr_t)op)) {
        uintptr_t offset = (uintptr_t)op - set->last.start;
        set->last.bits[offset >> CF_OBJSET_WORD_SHIFT] &= ~((uint64_t)1 << (offset >> CF_OBJSET_SHIFT & 63));
    }
}

/* The nearest member at or below ADDRESS, and the nearest above it, within the
 * range that holds ADDRESS; 0: there is none. */
uintptr_t cf_objset_before(cf_objset *set, uintptr_t address);
uintptr_t cf_objset_after(cf_objset *set, uintptr_t address);

/* That range. False: ADDRESS is in none. */
bool cf_objset_range(cf_objset *set, uintptr_t address, cf_range *range);

/* Remember the page that holds ADDRESS. */
static inline void
cf_objset_mark_page(cf_objset *set, uintptr_t address)
{
    uintptr_t offset = address - set->last.start;
    if (__builtin_expect(offset >= set->last.size, 0)) {
        if (!cf_objset_find_window(set, address)) {
            return;
        }
        offset = address - set->last.start;
    }
    set->last.pages[offset >> set->page_shift] = 1;
    set->last.units[offset >> CF_OBJSET_UNIT_SHIFT] = 1;
}

/* Call VISIT(op, ARG) for every member, by rising address. */
void cf_objset_visit(cf_objset *set, void (*visit)(void *, void *), void *arg);

/* Call VISIT(page, ARG) for the address of every marked page. */
void cf_objset_visit_pages(cf_objset *set, void (*visit)(uintptr_t, void *), void *arg);

/* Bytes of memory that the set really takes, to a page. */
size_t cf_objset_used_bytes(cf_objset *set);

#endif
