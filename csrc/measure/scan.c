/* scan.c - all pages of this process against the witness's.
 *
 *   maps      [ heap ]  [   arena   ]      [ .data ]  [ stack ]
 *                       |           `---.
 *   entries             [ block | block ]            own pagemap, 32 KiB each
 *                        . . C . C C . .             . shared   C candidate
 *                            `-run-'
 *   witness                 [ . . . ]                read for runs only
 *                            v v v
 *                          verdicts (judge.c) -> counts of the record
 *
 * Nearly every page of a worker is shared, and one compare says so. What may
 * be a copy is looked up in the witness, in runs: an entry more is cheaper
 * than a system call more.
 *
 * The time goes to the kernel (pagemap.c); the scan adds 2 to 10 % to a bare
 * read of the same entries. Every page that the process has must be read: no
 * cheaper question singles out the pages that may have been copied.
 *
 * Start reading at cf_scan_run(), then scan_mapping(), scan_block().
 */
#define _GNU_SOURCE
#include "measure/scan.h"

#include "base/pageset.h"

#include <errno.h>
#include <sys/mman.h>

/* Candidates with fewer pages than this between them are judged in one run. */
#define RUN_GAP 32

/* All work memory: one mapping, left out of the scan. */
struct cf_scan_work {
    uint64_t mine[CF_PAGEMAP_BLOCK];
    uint64_t again[CF_PAGEMAP_BLOCK];
    uint64_t theirs[CF_PAGEMAP_BLOCK];
    char maps[CF_MAPS_BUFFER];
    char witness_maps[CF_MAPS_BUFFER];
};

/* Find the runs of candidates in a block and judge them. */
static int
scan_block(cf_scan *s, const cf_mapping *mapping, uintptr_t page, size_t count)
{
    uint64_t *mine = s->work->mine;
    bool by_pfn = s->judge.by_pfn;
    /* cf_page_is_candidate(), as one compare: nearly every entry of a clean
     * worker ends here, so this loop is the audit's own share of the time. */
    uint64_t alone = by_pfn || mapping->area == CF_AREA_FILE
                         ? 0
                         : CF_ENTRY_EXCLUSIVE;
    uint64_t wanted = CF_ENTRY_PRESENT | alone;
    uint64_t mask = wanted | CF_ENTRY_FILE;
    size_t i = 0;
    while (i < count) {
        if ((mine[i] & mask) != wanted && !(mine[i] & CF_ENTRY_SWAPPED)) {
            i++;
            continue;
        }
        if (!cf_page_is_candidate(mapping->area, mine[i], by_pfn)) {
            i++;  /* a guard page, or a file's page on the move */
            continue;
        }
        size_t first = i, last = i;
        for (i++; i < count && i - last <= RUN_GAP; i++) {
            if (cf_page_is_candidate(mapping->area, mine[i], by_pfn)) {
                last = i;
            }
        }
        i = last + 1;
        if (cf_judge_run(&s->judge, mapping, page + first, mine + first,
                         last - first + 1) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Is nothing at all mapped in the block? */
static bool
is_hole(const uint64_t *entries, size_t count)
{
    /* First and last decide nearly always; then look at all. */
    const uint64_t there = CF_ENTRY_PRESENT | CF_ENTRY_SWAPPED;
    uint64_t any = entries[0] | entries[count - 1];
    for (size_t i = 0; i < count && (any & there) == 0; i++) {
        any |= entries[i];
    }
    return (any & there) == 0;
}

/* Scan [START, END) of MAPPING. 0; -1: why is set. */
static int
scan_range(cf_scan *s, const cf_mapping *mapping, uintptr_t start,
           uintptr_t end)
{
    size_t size = s->judge.page;
    uintptr_t page = start / size, stop = end / size;
    while (page < stop) {
        size_t count = stop - page < CF_PAGEMAP_BLOCK ? stop - page
                                                      : CF_PAGEMAP_BLOCK;
        if (cf_judge_read(&s->judge, false, s->work->mine, page, count) < 0 ||
            scan_block(s, mapping, page, count) < 0) {
            return -1;
        }
        s->judge.record->scanned_bytes += count * size;
        page += count;
        if (page < stop && is_hole(s->work->mine, count)) {
            /* Reserved but empty: terabytes of it under a sanitizer. Jump to
             * the next page that is there. */
            cf_region next;
            int found = cf_judge_find(&s->judge, s->judge.pagemap,
                                      page * size, end,
                                      CF_FIND_PRESENT | CF_FIND_SWAPPED, 1,
                                      &next);
            if (found == 0) {
                break;
            }
            if (found > 0) {
                page = next.start / size;
            }
        }
    }
    return 0;
}

/* Scan a mapping but for the work memory, which the kernel may have merged
 * with its neighbours. 0; -1: why is set. */
static int
scan_mapping(cf_scan *s, const cf_mapping *mapping)
{
    uintptr_t hide = (uintptr_t)s->work;
    uintptr_t hide_end = hide + sizeof(struct cf_scan_work);
    if (mapping->area == CF_AREA_SKIP) {
        return 0;
    }
    hide_end = (hide_end + s->judge.page - 1) / s->judge.page * s->judge.page;
    if (hide_end <= mapping->start || mapping->end <= hide) {
        return scan_range(s, mapping, mapping->start, mapping->end);
    }
    if (mapping->start < hide &&
        scan_range(s, mapping, mapping->start, hide) < 0) {
        return -1;
    }
    if (hide_end < mapping->end) {
        return scan_range(s, mapping, hide_end, mapping->end);
    }
    return 0;
}

/* ---- entry points ----------------------------------------------------- */

int
cf_scan_open(cf_scan *s)
{
    s->judge.page = cf_page_size();
    s->judge.has_find = true;
    /* Not cf_mem_map(): its counters lie in a page that this process would
     * copy. */
    void *work = mmap(NULL, sizeof(struct cf_scan_work), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (work == MAP_FAILED) {
        s->judge.record->why |= CF_WHY_NO_MEMORY;
        return -1;
    }
    s->work = work;
    s->judge.theirs = s->work->theirs;
    s->judge.again = s->work->again;
    return 0;
}

char *
cf_scan_scratch(cf_scan *s, size_t *size)
{
    *size = sizeof(s->work->theirs);
    return (char *)s->work->theirs;
}

int
cf_scan_run(cf_scan *s)
{
    cf_maps maps;
    cf_mapping mapping;
    int got;
    cf_maps_begin(&maps, s->maps->fd, s->work->maps, CF_MAPS_BUFFER);
    cf_maps_begin(&s->judge.witness_maps, s->judge.witness->maps.fd,
                  s->work->witness_maps, CF_MAPS_BUFFER);
    while ((got = cf_maps_next(&maps, &mapping)) > 0) {
        if (scan_mapping(s, &mapping) < 0) {
            return -1;
        }
    }
    if (got < 0) {
        s->judge.record->why |= CF_WHY_NO_MAPS;
        s->judge.record->error = errno;
    }
    return got;
}

void
cf_scan_close(cf_scan *s)
{
    if (s->work != NULL) {
        munmap(s->work, sizeof(struct cf_scan_work));
        s->work = NULL;
    }
}
