/* judge.h - did this process copy this page? The verdict.
 *
 * No Python.h, no malloc; what needs memory is given it.
 */
#ifndef CF_JUDGE_H
#define CF_JUDGE_H

#include "proc/maps.h"
#include "measure/migration.h"
#include "proc/pagemap.h"
#include "measure/record.h"
#include "measure/witness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- one page --------------------------------------------------------- */

typedef enum {
    CF_PAGE_SHARED,   /* not there, or still the page of the fork */
    CF_PAGE_COPIED,   /* was there at the fork; this process has a copy */
    CF_PAGE_NEW,      /* was not there at the fork */
    CF_PAGE_UNKNOWN   /* swapped out, or moved: the bits that decide are gone */
} cf_verdict;

/* The verdict from the two pagemap entries of one page: of this process and
 * of the witness. BY_PFN compares page frames instead of bit 56. Does not
 * know about zero pages and about mappings that the witness lacks:
 * cf_judge_run() settles these two. Pure. */
cf_verdict cf_page_verdict(cf_area area, uint64_t mine, uint64_t witness,
                           bool by_pfn);

/* Can the witness's entry make anything but CF_PAGE_SHARED of this one? Most
 * pages need not be looked up there. */
static inline bool
cf_page_is_candidate(cf_area area, uint64_t mine, bool by_pfn)
{
    if (cf_entry_is_swapped(mine)) {
        return true;
    }
    return cf_entry_is_anonymous(mine) &&
           (by_pfn || (mine & CF_ENTRY_EXCLUSIVE) || area == CF_AREA_FILE);
}

/* ---- runs of pages ---------------------------------------------------- */

/* Who judges: the two processes' files, what was learned, and the counts.
 * Filled by scan.c. */
typedef struct {
    cf_record *record;        /* the figures, and why there are none */
    const cf_file *pagemap;   /* of this process */
    const cf_witness *witness;
    uint64_t *theirs;         /* CF_PAGEMAP_BLOCK entries of work space */
    uint64_t *again;          /* the same, for the second reading of our own */
    cf_maps witness_maps;     /* at its first mapping */
    cf_mapping witness_at;    /* its last mapping that was read */
    bool witness_at_valid;
    size_t page;              /* bytes */
    bool by_pfn;
    cf_patience patience;     /* with pages that the kernel moves */
    bool has_find;            /* cf_pagemap_find() works here */
    uint64_t zero_frame;      /* 0: not known */
    cf_pages before;          /* these do not count; grows shorter */
    cf_pages *list;           /* NULL, or where to note what is found */
    bool list_new;            /* the new pages too, not only the copied ones */
    uint64_t frozen_unknown;  /* unknown pages that hold frozen objects */
} cf_judge;

/* Judge and count COUNT pages of MAPPING from page number PAGE on, with the
 * own entries MINE; at most CF_PAGEMAP_BLOCK, in ascending order from call to
 * call. 0; -1: why is set in the record. */
int cf_judge_run(cf_judge *judge, const cf_mapping *mapping, uintptr_t page,
                 uint64_t *mine, size_t count);

/* Compare page frames from now on, if this process has the right to see them;
 * false if it has not. */
bool cf_judge_use_frames(cf_judge *judge);

/* cf_pagemap_read() of this process or OF_WITNESS. 0; -1: why and error are
 * set in the record. */
int cf_judge_read(cf_judge *judge, bool of_witness, uint64_t *entries,
                  uintptr_t page, size_t count);

/* cf_pagemap_find(), and never again once the kernel could not say it. */
int cf_judge_find(cf_judge *judge, const cf_file *file, uintptr_t start,
                  uintptr_t end, unsigned kinds, size_t pages,
                  cf_region *found);

#endif
