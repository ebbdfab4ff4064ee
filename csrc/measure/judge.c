/* judge.c - did this process copy this page? The verdict.
 *
 *   entry, this process   63 62 61 .. 58 .. 56 .. frame
 *   entry, witness        63 62 61 .. 58 .. 56 .. frame     (pagemap.c)
 *
 * An anonymous page that nobody else maps ("exclusive", bit 56 of its
 * pagemap entry) is, beside a witness (witness.c), either copied or new. The
 * witness's own entry tells which:
 *
 *   this process           witness            verdict
 *   absent, file           -                  shared
 *   anonymous, not excl.   -                  shared
 *   anonymous, exclusive   anonymous          COPIED
 *   anonymous, exclusive   its zero page      new: there was nothing to copy
 *   anonymous, exclusive   absent             new
 *   swapped                absent             new
 *   swapped, or exclusive  there, or swapped  unknown
 *
 * In a private mapping of a file the original is the file's page, which fork
 * need not have mapped into the witness. There an anonymous page over a file
 * page is a copy, exclusive or not, if the witness has that mapping at all.
 *
 * By PFN (root only, while a child of the worker blinds bit 56): a page is
 * copied if its frame differs from the witness's.
 *
 * Pages may move while we look, and then a shared one can look like one of a
 * single process (migration.c). So the own entries are read again behind the
 * witness's, and a page that is not at rest is read until it is.
 *
 * Limits, stated where a reader of the numbers can find them:
 *
 *   L1  Pagemap has no history. A page that the worker gave back (munmap,
 *       MADV_DONTNEED) and filled again at the same address counts as copied.
 *       One that it copied and then gave back is no copy any more, and does
 *       not count: the figure is what the worker has, not what it ever had.
 *
 *   L2  The witness holds the pages of its own fork, and the worker has those
 *       of a later one. A page X that the parent writes in between is another
 *       page, X', in the worker, and the witness does not hold that one:
 *
 *                    witness     parent       worker      parent
 *                    forked      writes X     forked      writes again
 *         parent     X           X'           X'          X''
 *         worker                              X'          X'  <-
 *         witness    X           X            X           X
 *
 *       <- nobody else has X' now. It counts as this worker's copy, although
 *       the worker never wrote it. (By PFN it counts even before the parent
 *       writes again.) A page that the parent first touched in between counts
 *       as new, not as copied, when the worker writes it. Nothing in pagemap
 *       tells better: the bit says how many map a page, not who left it, and
 *       a list of the pages X, made by the parent before each fork, would
 *       only say which verdicts are in doubt.
 *
 *       So: fork the witness right before the workers. And what helps is one
 *       more holder of X': a second witness, forked right behind the last
 *       worker and kept as long as the first. Nobody reads it. It has the X'
 *       of each worker unless the parent wrote the page once more before the
 *       loop of forks was over, so nothing that the parent does after the
 *       loop counts any more. Measured with four workers of a 3.12 parent
 *       that goes on writing: 0 to 5 wrong pages for each worker with one
 *       witness, 0 with two.
 *
 * What a worker did between two measurings is the set of pages found by the
 * second without the set found by the first, never the difference of the two
 * counts: pages of the first that were given back meanwhile would cancel as
 * many of the second.
 *
 *   first    A B C D . .        4
 *   second   . . . . E F        2      second - first: -2; without A..D: 2
 *
 * Start reading at cf_page_verdict(), then cf_judge_run().
 */
#define _GNU_SOURCE
#include "measure/judge.h"

#include "base/pageset.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- one page --------------------------------------------------------- */

cf_verdict
cf_page_verdict(cf_area area, uint64_t mine, uint64_t witness, bool by_pfn)
{
    bool over_file = area == CF_AREA_FILE && !cf_entry_is_anonymous(witness) &&
                     !cf_entry_is_swapped(witness);
    bool was_there = cf_entry_is_anonymous(witness) || over_file;

    if (cf_entry_is_swapped(mine)) {
        if (over_file) {
            return CF_PAGE_COPIED;
        }
        return cf_entry_is_anonymous(witness) || cf_entry_is_swapped(witness)
                   ? CF_PAGE_UNKNOWN
                   : CF_PAGE_NEW;
    }
    if (!cf_entry_is_anonymous(mine)) {
        return CF_PAGE_SHARED;
    }
    if (over_file) {
        return CF_PAGE_COPIED;
    }
    if (!by_pfn && !(mine & CF_ENTRY_EXCLUSIVE)) {
        return CF_PAGE_SHARED;
    }
    if (cf_entry_is_swapped(witness)) {
        /* Both may have had it swapped out, and only one brought it back. */
        return CF_PAGE_UNKNOWN;
    }
    if (by_pfn && was_there && ((mine ^ witness) & CF_ENTRY_FRAME) == 0) {
        return CF_PAGE_SHARED;
    }
    return was_there ? CF_PAGE_COPIED : CF_PAGE_NEW;
}

/* ---- reading entries -------------------------------------------------- */

int
cf_judge_read(cf_judge *j, bool of_witness, uint64_t *entries,
              uintptr_t page, size_t count)
{
    const cf_file *file = of_witness ? &j->witness->pagemap : j->pagemap;
    if (cf_pagemap_read(file, entries, page, count) == 0) {
        return 0;
    }
    j->record->why |= errno == 0 && of_witness ? CF_WHY_WITNESS_DIED
                                               : CF_WHY_FAILED;
    j->record->error = errno;
    return -1;
}

int
cf_judge_find(cf_judge *j, const cf_file *file, uintptr_t start,
              uintptr_t end, unsigned kinds, size_t pages, cf_region *found)
{
    int answer = -1;
    *found = (cf_region){0};
    if (j->has_find) {
        answer = cf_pagemap_find(file, start, end, kinds, pages, found);
        j->has_find = answer >= 0;
    }
    return answer;
}

/* ---- what the entries do not tell ------------------------------------- */

/* Does the witness map the same file at ADDRESS? Asked in ascending order:
 * its maps file is read along, once. 1, 0, or -1 (why and error set). */
static int
witness_maps_it(cf_judge *j, const cf_mapping *mapping, uintptr_t address)
{
    while (!j->witness_at_valid || j->witness_at.end <= address) {
        int got = cf_maps_next(&j->witness_maps, &j->witness_at);
        if (got < 0) {
            j->record->why |= CF_WHY_NO_WITNESS_FILE;
            j->record->error = errno;
            return -1;
        }
        if (got == 0) {
            j->witness_at_valid = true;
            j->witness_at = (cf_mapping){.start = UINTPTR_MAX,
                                         .end = UINTPTR_MAX};
            return 0;
        }
        j->witness_at_valid = true;
    }
    const cf_mapping *theirs = &j->witness_at;
    return theirs->start <= address && theirs->area == CF_AREA_FILE &&
           theirs->device == mapping->device &&
           theirs->inode == mapping->inode &&
           theirs->offset + (address - theirs->start) ==
               mapping->offset + (address - mapping->start);
}

/* ---- a run of pages --------------------------------------------------- */

/* Was the page found by the measuring before this one? Asked in ascending
 * order: what lies below ADDRESS is passed for good. */
static bool
is_known(cf_judge *j, uintptr_t address)
{
    cf_pages *before = &j->before;
    while (before->count > 0 && before->addresses[0] < address) {
        before->addresses++;
        before->count--;
    }
    return before->count > 0 && before->addresses[0] == address;
}

static void
list_page(cf_judge *j, uintptr_t address)
{
    cf_pages *list = j->list;
    if (list == NULL) {
        return;
    }
    if (list->count < list->room) {
        list->addresses[list->count] = address;
    }
    list->count++;
}

static void
count_page(cf_judge *j, cf_area area, uintptr_t address, cf_verdict verdict)
{
    cf_record *record = j->record;
    if (is_known(j, address)) {
        return;
    }
    switch (verdict) {
    case CF_PAGE_SHARED:
        break;
    case CF_PAGE_NEW:
        record->fresh++;
        if (j->list_new) {
            list_page(j, address);
        }
        break;
    case CF_PAGE_COPIED:
        record->copied++;
        record->by_area[area]++;
        if (cf_frozen_pages != NULL &&
            cf_pageset_contains(cf_frozen_pages, address)) {
            record->frozen_copied++;
        }
        list_page(j, address);
        break;
    case CF_PAGE_UNKNOWN:
        record->unknown_pages++;
        if (cf_frozen_pages != NULL &&
            cf_pageset_contains(cf_frozen_pages, address)) {
            j->frozen_unknown++;
        }
        break;
    }
}

/* The verdict on one page that was read three times: MINE, THEIRS, and AGAIN
 * mine. While the page moves, or its entries leave the verdict open, it is
 * read once more, as long as patience lasts. 0; -1: why is set. */
static int
settle(cf_judge *j, cf_area area, uintptr_t page, uint64_t *mine,
       uint64_t *theirs, uint64_t again, cf_verdict *verdict)
{
    for (long pause = 0;;) {
        *verdict = cf_entry_moved(*mine, again)
                       ? CF_PAGE_UNKNOWN
                       : cf_page_verdict(area, *mine, *theirs, j->by_pfn);
        if (*verdict != CF_PAGE_UNKNOWN ||
            !cf_patience_wait(&j->patience, &pause)) {
            return 0;
        }
        if (cf_judge_read(j, false, mine, page, 1) < 0 ||
            cf_judge_read(j, true, theirs, page, 1) < 0 ||
            cf_judge_read(j, false, &again, page, 1) < 0) {
            return -1;
        }
    }
}

/* Did the witness only read this page, which it has at ADDRESS with the entry
 * THEIRS? Then it is the zero page there: its first write takes a page, but
 * copies none. Asked in ascending order up to END; *ZERO, empty at first,
 * keeps the last answer. */
static bool
was_zero(cf_judge *j, uint64_t theirs, uintptr_t address, uintptr_t end,
         cf_region *zero)
{
    if (j->zero_frame != 0 && (theirs & CF_ENTRY_FRAME) == j->zero_frame) {
        return true;
    }
    if (zero->end <= address &&
        cf_judge_find(j, &j->witness->pagemap, address, end, CF_FIND_ZERO, 0,
                      zero) <= 0) {
        *zero = (cf_region){end, end};  /* none up to the end of the run */
    }
    return zero->start <= address && address < zero->end;
}

int
cf_judge_run(cf_judge *j, const cf_mapping *mapping, uintptr_t page,
             uint64_t *mine, size_t count)
{
    uint64_t *theirs = j->theirs, *again = j->again;
    uintptr_t end = (page + count) * j->page;
    cf_region zero = {0};

    if (cf_judge_read(j, true, theirs, page, count) < 0 ||
        cf_judge_read(j, false, again, page, count) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        uintptr_t address = (page + i) * j->page;
        if (!cf_page_is_candidate(mapping->area, mine[i], j->by_pfn)) {
            continue;
        }
        cf_verdict verdict;
        if (settle(j, mapping->area, page + i, &mine[i], &theirs[i], again[i],
                   &verdict) < 0) {
            return -1;
        }
        if (verdict == CF_PAGE_COPIED && mapping->area == CF_AREA_FILE) {
            int mapped = witness_maps_it(j, mapping, address);
            if (mapped < 0) {
                return -1;
            }
            verdict = mapped ? CF_PAGE_COPIED : CF_PAGE_NEW;
        }
        else if (verdict == CF_PAGE_COPIED &&
                 was_zero(j, theirs[i], address, end, &zero)) {
            verdict = CF_PAGE_NEW;
        }
        else if (verdict == CF_PAGE_NEW && j->zero_frame != 0 &&
                 (mine[i] & CF_ENTRY_FRAME) == j->zero_frame) {
            verdict = CF_PAGE_SHARED;  /* read, never written: no memory */
        }
        count_page(j, mapping->moved ? CF_AREA_ANON : mapping->area, address, verdict);
    }
    return 0;
}

/* ---- page frames ------------------------------------------------------ */

/* Learn the number of the frame that stands for memory never written. */
static void
learn_zero_frame(cf_judge *j)
{
    volatile char *page = mmap(NULL, j->page, PROT_READ,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return;
    }
    (void)page[0];
    uint64_t entry;
    if (cf_judge_read(j, false, &entry, (uintptr_t)page / j->page, 1) == 0) {
        j->zero_frame = entry & CF_ENTRY_FRAME;
    }
    munmap((void *)page, j->page);
}

/* Can PFNs be read through both files? Asked for a page that both have. */
static bool
frames_readable(cf_judge *j)
{
    uint64_t mine = 0, theirs = 0;
    /* The witness's own description: written before it was forked. */
    uintptr_t page = (uintptr_t)j->witness / j->page;
    return cf_judge_read(j, false, &mine, page, 1) == 0 &&
           cf_judge_read(j, true, &theirs, page, 1) == 0 &&
           (mine & CF_ENTRY_FRAME) != 0 && (theirs & CF_ENTRY_FRAME) != 0;
}

bool
cf_judge_use_frames(cf_judge *j)
{
    if (!frames_readable(j)) {
        return false;
    }
    j->by_pfn = true;
    learn_zero_frame(j);
    return true;
}
