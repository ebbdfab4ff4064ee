/* pagemap.h - the kernel's eight bytes for each page of a process.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_PAGEMAP_H
#define CF_PAGEMAP_H

#include "proc/procfile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CF_ENTRY_PRESENT (UINT64_C(1) << 63)
#define CF_ENTRY_SWAPPED (UINT64_C(1) << 62)
#define CF_ENTRY_FILE (UINT64_C(1) << 61)
#define CF_ENTRY_GUARD (UINT64_C(1) << 58)
#define CF_ENTRY_EXCLUSIVE (UINT64_C(1) << 56)
#define CF_ENTRY_FRAME ((UINT64_C(1) << 55) - 1)

/* Entries per read, for those who read a lot: 32 KiB of them, 16 MiB of
 * 4 KiB pages. Larger reads are not faster, and cost a fault for each page of
 * the buffer that was never touched before. */
#define CF_PAGEMAP_BLOCK ((size_t)4 * 1024)

/* A page of memory that is no file's (or the zero page: see below). */
static inline bool
cf_entry_is_anonymous(uint64_t entry)
{
    return (entry & (CF_ENTRY_PRESENT | CF_ENTRY_FILE)) == CF_ENTRY_PRESENT;
}

static inline bool
cf_entry_is_swapped(uint64_t entry)
{
    /* A guard page (MADV_GUARD_INSTALL, thread stacks) is a mark in the
     * place of a swap entry, with nothing behind it; a file's page is never
     * swapped out from a private mapping, but may be on the move. */
    return (entry & (CF_ENTRY_PRESENT | CF_ENTRY_SWAPPED | CF_ENTRY_GUARD |
                     CF_ENTRY_FILE)) == CF_ENTRY_SWAPPED;
}

/* Read COUNT entries of FILE (a pagemap) from page number PAGE on: 0; -1 with
 * errno set, to 0 if the memory behind the file is gone (it reads as
 * empty). */
int cf_pagemap_read(const cf_file *file, uint64_t *entries, uintptr_t page,
                    size_t count);

/* What cf_pagemap_find() can look for. */
enum {
    CF_FIND_PRESENT = 1 << 3,
    CF_FIND_SWAPPED = 1 << 4,
    CF_FIND_ZERO = 1 << 5  /* the page that stands for memory only read */
};

typedef struct {
    uintptr_t start;
    uintptr_t end;
} cf_region;

/* The first region in [START, END) of FILE that is any of KINDS, of which the
 * first PAGES are enough (0: all of it): 1 and *FOUND; 0 none (*FOUND is
 * empty); -1 the kernel cannot say (before Linux 6.7). */
int cf_pagemap_find(const cf_file *file, uintptr_t start, uintptr_t end,
                    unsigned kinds, size_t pages, cf_region *found);

#endif
