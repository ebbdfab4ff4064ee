/* pages.c - which pages did this process copy?
 *
 * /proc/PID/pagemap has eight bytes for each page of a process:
 *
 *   bit 63 present   62 swapped   61 file page   58 guard   56 exclusive
 *   bits 0-54: the page frame number (PFN), 0 for readers without rights
 *
 * The scan reads this process's entries in blocks and keeps those of
 * anonymous pages that nobody else maps. Beside a witness (witness.c) such a
 * page is either copied or new, and the witness's own entry tells which:
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
 * copied if its frame differs from the witness's. Frames move while we look
 * (compaction), for all sharers at once, so the own entries are read again
 * behind the witness's and must not have changed.
 *
 * Limits, stated where a reader of the numbers can find them:
 *   - a page that the worker gave back (munmap, MADV_DONTNEED) and filled
 *     again at the same address counts as copied: pagemap has no history;
 *   - a page that the parent wrote between the fork of the witness and that
 *     of the worker is not the witness's page any more. Fork the witness
 *     right before the workers.
 *
 * Cost: the kernel's work for an entry is some 10 ns; ours is a compare. A
 * block of entries should stay in the second-level cache.
 *
 * Start reading at cf_audit_list(), then scan_mapping().
 */
#define _GNU_SOURCE
#include "pages.h"
#include "pageset.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PRESENT (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define FILE_PAGE (UINT64_C(1) << 61)
#define GUARD (UINT64_C(1) << 58)
#define EXCLUSIVE (UINT64_C(1) << 56)
#define FRAME ((UINT64_C(1) << 55) - 1)

/* PAGEMAP_SCAN (Linux 6.7): the headers of older systems lack it. Used for
 * two questions that pagemap cannot answer; without it the answers are "no
 * zero pages" and "read the hole". */
struct scan_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};
struct scan_arg {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_IS_PRESENT (UINT64_C(1) << 3)
#define SCAN_IS_SWAPPED (UINT64_C(1) << 4)
#define SCAN_IS_PFNZERO (UINT64_C(1) << 5)

/* Entries per read: 128 KiB of them, 64 MiB of 4 KiB pages. */
#define BLOCK ((size_t)16 * 1024)

/* Candidates with fewer pages than this between them are asked about in one
 * read: an entry more is cheaper than a system call more. */
#define RUN_GAP 32

/* All work memory: one mapping, left out of the scan. */
typedef struct {
    uint64_t mine[BLOCK];
    uint64_t again[BLOCK];
    uint64_t witness[BLOCK];
    char maps[CF_MAPS_BUFFER];
    char witness_maps[CF_MAPS_BUFFER];
} workspace;

typedef struct {
    cf_audit *audit;
    cf_record *record;
    workspace *work;
    size_t page;
    bool by_pfn;
    bool has_scan;             /* PAGEMAP_SCAN works here */
    uint64_t zero_frame;       /* 0: not known */
    cf_maps witness_maps;
    cf_mapping witness_at;     /* its last mapping that was read */
    bool witness_at_valid;
    uint64_t frozen_unknown;
    uintptr_t *addresses;
    size_t room;
    size_t listed;
} scan;

/* ---- one page --------------------------------------------------------- */

static inline bool
is_anonymous(uint64_t entry)
{
    return (entry & (PRESENT | FILE_PAGE)) == PRESENT;
}

static inline bool
is_swapped(uint64_t entry)
{
    /* A guard page (MADV_GUARD_INSTALL, thread stacks) is a mark in the
     * place of a swap entry, with nothing behind it. */
    return (entry & (PRESENT | SWAPPED | GUARD)) == SWAPPED;
}

cf_verdict
cf_page_verdict(cf_area area, uint64_t mine, uint64_t witness, bool by_pfn)
{
    bool over_file = area == CF_AREA_FILE && !is_anonymous(witness) &&
                     !is_swapped(witness);
    bool was_there = is_anonymous(witness) || over_file;

    if (is_swapped(mine)) {
        if (over_file) {
            return CF_PAGE_COPIED;
        }
        return is_anonymous(witness) || is_swapped(witness) ? CF_PAGE_UNKNOWN
                                                            : CF_PAGE_NEW;
    }
    if (!is_anonymous(mine)) {
        return CF_PAGE_SHARED;
    }
    if (over_file) {
        return CF_PAGE_COPIED;
    }
    if (!by_pfn && !(mine & EXCLUSIVE)) {
        return CF_PAGE_SHARED;
    }
    if (is_swapped(witness)) {
        /* Both may have had it swapped out, and only one brought it back. */
        return CF_PAGE_UNKNOWN;
    }
    if (by_pfn && was_there && ((mine ^ witness) & FRAME) == 0) {
        return CF_PAGE_SHARED;
    }
    return was_there ? CF_PAGE_COPIED : CF_PAGE_NEW;
}

/* Must the witness be asked about this page? */
static inline bool
is_candidate(const scan *s, cf_area area, uint64_t entry)
{
    if (is_swapped(entry)) {
        return true;
    }
    return is_anonymous(entry) &&
           (s->by_pfn || (entry & EXCLUSIVE) || area == CF_AREA_FILE);
}

/* ---- reading entries -------------------------------------------------- */

/* Read COUNT entries from page number PAGE on. 0; -1: why and error set. */
static int
read_entries(scan *s, const cf_file *file, bool of_witness, uint64_t *entries,
             uintptr_t page, size_t count)
{
    size_t wanted = count * sizeof(uint64_t), done = 0;
    while (done < wanted) {
        ssize_t got = pread(file->fd, (char *)entries + done, wanted - done,
                            (off_t)(page * sizeof(uint64_t) + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            /* The memory behind the file is gone: read as empty. */
            s->record->why |= got == 0 && of_witness ? CF_WHY_WITNESS_DIED
                                                     : CF_WHY_FAILED;
            s->record->error = got == 0 ? 0 : errno;
            return -1;
        }
        done += (size_t)got;
    }
    return 0;
}

/* The first region in [START, END) of FILE with any of CATEGORIES, of which
 * the first PAGES are enough (0: all): 1 and *FOUND, 0 none, -1 the kernel
 * cannot say. */
static int
find_region(scan *s, const cf_file *file, uintptr_t start, uintptr_t end,
            uint64_t categories, uint64_t pages, struct scan_region *found)
{
    if (!s->has_scan) {
        return -1;
    }
    struct scan_arg arg = {
        .size = sizeof(arg), .start = start, .end = end,
        .vec = (uint64_t)(uintptr_t)found, .vec_len = 1,
        .max_pages = pages,
        .category_anyof_mask = categories, .return_mask = categories,
    };
    int count = ioctl(file->fd, SCAN_IOCTL, &arg);
    if (count < 0) {
        s->has_scan = false;
        return -1;
    }
    return count > 0;
}

/* ---- what the two entries do not tell --------------------------------- */

/* Does the witness map the same file at ADDRESS? Asked in ascending order:
 * its maps file is read along, once. 1, 0, or -1 (why and error set). */
static int
witness_maps_it(scan *s, const cf_mapping *mapping, uintptr_t address)
{
    while (!s->witness_at_valid || s->witness_at.end <= address) {
        int got = cf_maps_next(&s->witness_maps, &s->witness_at);
        if (got < 0) {
            s->record->why |= CF_WHY_NO_WITNESS_FILE;
            s->record->error = errno;
            return -1;
        }
        if (got == 0) {
            s->witness_at_valid = true;
            s->witness_at = (cf_mapping){.start = UINTPTR_MAX,
                                         .end = UINTPTR_MAX};
            return 0;
        }
        s->witness_at_valid = true;
    }
    const cf_mapping *theirs = &s->witness_at;
    return theirs->start <= address && theirs->area == CF_AREA_FILE &&
           theirs->device == mapping->device &&
           theirs->inode == mapping->inode &&
           theirs->offset + (address - theirs->start) ==
               mapping->offset + (address - mapping->start);
}

/* Learn the number of the frame that stands for memory never written. */
static void
learn_zero_frame(scan *s)
{
    volatile char *page = mmap(NULL, s->page, PROT_READ,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return;
    }
    (void)page[0];
    uint64_t entry;
    if (read_entries(s, &s->audit->pagemap, false, &entry,
                     (uintptr_t)page / s->page, 1) == 0) {
        s->zero_frame = entry & FRAME;
    }
    munmap((void *)page, s->page);
}

/* Can PFNs be read through both files? Asked for a page that both have. */
static bool
frames_readable(scan *s)
{
    uint64_t mine = 0, theirs = 0;
    /* The witness's own description: written before it was forked. */
    uintptr_t page = (uintptr_t)s->audit->witness / s->page;
    return read_entries(s, &s->audit->pagemap, false, &mine, page, 1) == 0 &&
           read_entries(s, &s->audit->witness->pagemap, true, &theirs, page,
                        1) == 0 &&
           (mine & FRAME) != 0 && (theirs & FRAME) != 0;
}

/* ---- the scan --------------------------------------------------------- */

static void
count_page(scan *s, cf_area area, uintptr_t address, cf_verdict verdict)
{
    cf_record *record = s->record;
    switch (verdict) {
    case CF_PAGE_SHARED:
        break;
    case CF_PAGE_NEW:
        record->fresh++;
        break;
    case CF_PAGE_COPIED:
        record->copied++;
        record->by_area[area]++;
        if (cf_frozen_pages != NULL &&
            cf_pageset_contains(cf_frozen_pages, address)) {
            record->frozen_copied++;
        }
        if (s->listed < s->room) {
            s->addresses[s->listed] = address;
        }
        s->listed++;
        break;
    case CF_PAGE_UNKNOWN:
        record->unknown_pages++;
        if (cf_frozen_pages != NULL &&
            cf_pageset_contains(cf_frozen_pages, address)) {
            s->frozen_unknown++;
        }
        break;
    }
}

/* Read the witness's entries of the run, and by PFN the own ones again until
 * no frame moved in between. 0; -1: why is set. */
static int
read_run(scan *s, uintptr_t page, uint64_t *mine, uint64_t *theirs,
         size_t count)
{
    enum { ATTEMPTS = 5 };
    for (int attempt = 0;; attempt++) {
        bool moved = false;
        if (read_entries(s, &s->audit->witness->pagemap, true, theirs, page,
                         count) < 0) {
            return -1;
        }
        if (!s->by_pfn) {
            return 0;
        }
        uint64_t *again = s->work->again;
        if (read_entries(s, &s->audit->pagemap, false, again, page, count) <
            0) {
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            moved |= ((mine[i] ^ again[i]) & (FRAME | PRESENT)) != 0;
            mine[i] = again[i];
        }
        if (!moved) {
            return 0;
        }
        if (attempt == ATTEMPTS) {
            s->record->why |= CF_WHY_FAILED;
            s->record->error = EAGAIN;
            return -1;
        }
    }
}

/* A page under migration looks swapped for some microseconds: look again
 * before it counts as unknown. 0; -1: why is set. */
static int
settle_migration(scan *s, uintptr_t page, uint64_t *mine, uint64_t *theirs)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        if (!is_swapped(*mine) && !is_swapped(*theirs)) {
            break;
        }
        struct timespec pause = {.tv_nsec = 20 * 1000};
        nanosleep(&pause, NULL);
        if (read_entries(s, &s->audit->pagemap, false, mine, page, 1) < 0 ||
            read_entries(s, &s->audit->witness->pagemap, true, theirs, page,
                         1) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Judge COUNT pages from PAGE on, of which the first and last are
 * candidates. MINE holds their entries. 0; -1: why is set. */
static int
judge_run(scan *s, const cf_mapping *mapping, uintptr_t page, uint64_t *mine,
          size_t count)
{
    uint64_t *theirs = s->work->witness;
    uintptr_t end = (page + count) * s->page;
    struct scan_region zero = {0};
    bool zero_asked = false;

    if (read_run(s, page, mine, theirs, count) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        uintptr_t address = (page + i) * s->page;
        if (!is_candidate(s, mapping->area, mine[i])) {
            continue;
        }
        if ((is_swapped(mine[i]) || is_swapped(theirs[i])) &&
            s->record->unknown_pages < 64) {
            if (settle_migration(s, page + i, &mine[i], &theirs[i]) < 0) {
                return -1;
            }
        }
        cf_verdict verdict = cf_page_verdict(mapping->area, mine[i],
                                             theirs[i], s->by_pfn);
        if (verdict == CF_PAGE_COPIED && mapping->area == CF_AREA_FILE) {
            int mapped = witness_maps_it(s, mapping, address);
            if (mapped < 0) {
                return -1;
            }
            verdict = mapped ? CF_PAGE_COPIED : CF_PAGE_NEW;
        }
        else if (verdict == CF_PAGE_COPIED) {
            /* Memory that was only read before the fork is the zero page:
             * its first write takes a page, but copies none. */
            if (s->zero_frame != 0 && (theirs[i] & FRAME) == s->zero_frame) {
                verdict = CF_PAGE_NEW;
            }
            while (!zero_asked || (zero.end != 0 && zero.end <= address)) {
                zero_asked = true;
                zero = (struct scan_region){0};
                if (find_region(s, &s->audit->witness->pagemap, address, end,
                                SCAN_IS_PFNZERO, 0, &zero) <= 0) {
                    zero = (struct scan_region){0};
                    break;
                }
            }
            if (zero.start <= address && address < zero.end) {
                verdict = CF_PAGE_NEW;
            }
        }
        else if (verdict == CF_PAGE_NEW && s->zero_frame != 0 &&
                 (mine[i] & FRAME) == s->zero_frame) {
            verdict = CF_PAGE_SHARED;  /* read, never written: no memory */
        }
        count_page(s, mapping->area, address, verdict);
    }
    return 0;
}

/* Find the runs of candidates in a block and judge them. */
static int
scan_block(scan *s, const cf_mapping *mapping, uintptr_t page, size_t count)
{
    uint64_t *mine = s->work->mine;
    /* is_candidate(), as one compare: nearly every entry of a clean worker
     * ends here, so this loop is the audit's own share of the time. */
    uint64_t all = s->by_pfn || mapping->area == CF_AREA_FILE ? 0 : EXCLUSIVE;
    uint64_t mask = PRESENT | FILE_PAGE | all, wanted = PRESENT | all;
    size_t i = 0;
    while (i < count) {
        if ((mine[i] & mask) != wanted && !(mine[i] & SWAPPED)) {
            i++;
            continue;
        }
        if (!is_candidate(s, mapping->area, mine[i])) {
            i++;  /* a guard page */
            continue;
        }
        size_t first = i, last = i;
        for (i++; i < count && i - last <= RUN_GAP; i++) {
            if (is_candidate(s, mapping->area, mine[i])) {
                last = i;
            }
        }
        i = last + 1;
        if (judge_run(s, mapping, page + first, mine + first,
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
    uint64_t any = entries[0] | entries[count - 1];
    for (size_t i = 0; i < count && (any & (PRESENT | SWAPPED)) == 0; i++) {
        any |= entries[i];
    }
    return (any & (PRESENT | SWAPPED)) == 0;
}

/* Scan [START, END) of MAPPING. 0; -1: why is set. */
static int
scan_range(scan *s, const cf_mapping *mapping, uintptr_t start, uintptr_t end)
{
    uintptr_t page = start / s->page, stop = end / s->page;
    while (page < stop) {
        size_t count = stop - page < BLOCK ? stop - page : BLOCK;
        if (read_entries(s, &s->audit->pagemap, false, s->work->mine, page,
                         count) < 0 ||
            scan_block(s, mapping, page, count) < 0) {
            return -1;
        }
        s->record->scanned_bytes += count * s->page;
        page += count;
        if (page < stop && is_hole(s->work->mine, count)) {
            /* Reserved but empty: terabytes of it under a sanitizer. Jump to
             * the next page that is there. */
            struct scan_region next;
            int found = find_region(s, &s->audit->pagemap, page * s->page, end,
                                    SCAN_IS_PRESENT | SCAN_IS_SWAPPED, 1,
                                    &next);
            if (found == 0) {
                break;
            }
            if (found > 0) {
                page = next.start / s->page;
            }
        }
    }
    return 0;
}

/* Scan a mapping but for the work memory, which the kernel may have merged
 * with its neighbours. 0; -1: why is set. */
static int
scan_mapping(scan *s, const cf_mapping *mapping)
{
    uintptr_t hide = (uintptr_t)s->work, hide_end = hide + sizeof(workspace);
    if (mapping->area == CF_AREA_SKIP) {
        return 0;
    }
    hide_end = (hide_end + s->page - 1) / s->page * s->page;
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

static int
scan_everything(scan *s)
{
    cf_maps maps;
    cf_mapping mapping;
    int got;
    cf_maps_begin(&maps, s->audit->maps.fd, s->work->maps, CF_MAPS_BUFFER);
    cf_maps_begin(&s->witness_maps, s->audit->witness->maps.fd,
                  s->work->witness_maps, CF_MAPS_BUFFER);
    while ((got = cf_maps_next(&maps, &mapping)) > 0) {
        if (scan_mapping(s, &mapping) < 0) {
            return -1;
        }
    }
    if (got < 0) {
        s->record->why |= CF_WHY_NO_MAPS;
        s->record->error = errno;
    }
    return got;
}

/* ---- conditions ------------------------------------------------------- */

static void
open_own_files(cf_audit *audit)
{
    cf_file_open(&audit->pagemap, "/proc/self/pagemap");
    cf_file_open(&audit->maps, "/proc/self/maps");
    cf_ksm_open(&audit->ksm, "self");
}

/* Are all files there? The application may have closed them. */
static void
check_files(cf_audit *audit, cf_record *record)
{
    if (!cf_file_intact(&audit->pagemap) || !cf_file_intact(&audit->maps)) {
        cf_audit_stop(audit);
        open_own_files(audit);
    }
    /* The struct is this process's own copy; only its files are renewed. */
    cf_witness_reopen((cf_witness *)audit->witness);
    if (audit->pagemap.fd < 0) {
        record->why |= CF_WHY_NO_PAGEMAP;
        record->error = audit->pagemap.error;
    }
    if (audit->maps.fd < 0) {
        record->why |= CF_WHY_NO_MAPS;
        record->error = audit->maps.error;
    }
    if (!cf_file_intact(&audit->witness->pagemap) ||
        !cf_file_intact(&audit->witness->maps)) {
        const cf_file *file = cf_file_intact(&audit->witness->pagemap)
                                  ? &audit->witness->maps
                                  : &audit->witness->pagemap;
        bool dead = audit->witness->pid == 0 || file->error == ENOENT ||
                    file->error == ESRCH ||
                    (file->error == 0 && !cf_witness_alive(audit->witness));
        record->why |= dead ? CF_WHY_WITNESS_DIED : CF_WHY_NO_WITNESS_FILE;
        record->error = file->error;
    }
}

/* Choose the method, or find out why there is none. Asked again behind the
 * scan, since threads of the worker may fork meanwhile; then it is too late
 * to change the method. */
static void
check_blinding(scan *s, bool before)
{
    cf_record *record = s->record;
    pid_t who = 0;
    cf_kin kin = cf_kin_look((char *)s->work->witness,
                             sizeof(s->work->witness),
                             s->audit->witness->pid, &who);
    if (kin != CF_KIN_NONE && !s->by_pfn) {
        if (before && frames_readable(s)) {
            s->by_pfn = true;
            learn_zero_frame(s);
        }
        else {
            record->child = who;
            record->why |= kin == CF_KIN_SHARING ? CF_WHY_CHILD
                                                 : CF_WHY_CHILD_UNKNOWN;
        }
    }
    if (cf_ksm_merged(&s->audit->ksm) != 0 ||
        cf_ksm_merged(&s->audit->witness->ksm) != 0) {
        record->why |= CF_WHY_KSM;
    }
}

static void
count_faults(const cf_audit *audit, cf_record *record)
{
    struct rusage usage;
    if (!audit->has_rusage || audit->pid != getpid() ||
        getrusage(RUSAGE_SELF, &usage) < 0) {
        record->why |= CF_WHY_NO_RUSAGE;
        return;
    }
    record->minor_faults = usage.ru_minflt - audit->minor_faults;
    record->major_faults = usage.ru_majflt - audit->major_faults;
}

static uint64_t
now_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
           (uint64_t)now.tv_nsec;
}

/* Is there a reason that leaves no page figure standing? */
static bool
is_hopeless(const cf_record *record)
{
    return (record->why & ~(uint32_t)CF_WHY_NO_RUSAGE) != 0;
}

/* What is not certain is unknown: no figure leaves here that a reader could
 * take for a measurement. */
static void
withdraw(scan *s)
{
    cf_record *record = s->record;
    if (record->unknown_pages != 0) {
        record->why |= CF_WHY_SWAP;
    }
    uint32_t why = record->why & ~(uint32_t)CF_WHY_NO_RUSAGE;
    if (why == 0) {
        record->method = s->by_pfn ? CF_METHOD_PFN : CF_METHOD_BIT56;
        return;
    }
    record->copied = record->fresh = -1;
    for (int i = 0; i < CF_AREA_COUNT; i++) {
        record->by_area[i] = -1;
    }
    /* Swapped pages that hold nothing frozen leave the frozen count exact. */
    if (why != CF_WHY_SWAP || s->frozen_unknown != 0) {
        record->frozen_copied = -1;
    }
    else {
        record->method = s->by_pfn ? CF_METHOD_PFN : CF_METHOD_BIT56;
    }
}

/* ---- entry points ----------------------------------------------------- */

void
cf_audit_look(cf_audit *audit, cf_witness *witness)
{
    *audit = (cf_audit){.witness = witness, .pid = getpid()};
    open_own_files(audit);
}

void
cf_audit_start(cf_audit *audit, cf_witness *witness)
{
    struct rusage usage;
    cf_audit_look(audit, witness);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        audit->has_rusage = true;
        audit->minor_faults = usage.ru_minflt;
        audit->major_faults = usage.ru_majflt;
    }
}

void
cf_audit_stop(cf_audit *audit)
{
    cf_file_close(&audit->pagemap);
    cf_file_close(&audit->maps);
    cf_file_close(&audit->ksm);
}

size_t
cf_audit_list(cf_audit *audit, cf_record *record, uintptr_t *addresses,
              size_t room)
{
    *record = (cf_record){
        .magic = CF_RECORD_MAGIC, .size = sizeof(*record), .pid = getpid(),
        .minor_faults = -1, .major_faults = -1, .page_size = cf_page_size(),
    };
    scan s = {.audit = audit, .record = record, .page = cf_page_size(),
              .has_scan = true, .addresses = addresses, .room = room};

    /* First: the faults of the measuring are not the worker's. */
    count_faults(audit, record);
    uint64_t start = now_ns();
    if (audit->pid != getpid()) {
        record->why |= CF_WHY_OTHER_PROCESS;
    }
    void *work = mmap(NULL, sizeof(workspace), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (work == MAP_FAILED) {
        record->why |= CF_WHY_NO_MEMORY;
        goto done;
    }
    s.work = work;
    if (!(record->why & CF_WHY_OTHER_PROCESS)) {
        check_files(audit, record);
    }
    if (is_hopeless(record)) {
        goto done;
    }
    check_blinding(&s, true);
    if (is_hopeless(record) || scan_everything(&s) < 0) {
        goto done;
    }
    check_blinding(&s, false);
    if (!cf_witness_alive(audit->witness)) {
        record->why |= CF_WHY_WITNESS_DIED;
    }

done:
    withdraw(&s);
    if (work != MAP_FAILED) {
        munmap(work, sizeof(workspace));
    }
    record->scan_ns = now_ns() - start;
    return s.listed;
}

void
cf_audit_measure(cf_audit *audit, cf_record *record)
{
    cf_audit_list(audit, record, NULL, 0);
}
