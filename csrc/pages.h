/* pages.h - which pages did this process copy? The scan, and a worker's
 * record of it.
 *
 * No Python.h, no malloc: the only memory taken is one mapping, made when
 * the measuring begins, given back when it ends, and left out of the scan.
 */
#ifndef CF_PAGES_H
#define CF_PAGES_H

#include "maps.h"
#include "witness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- one page --------------------------------------------------------- */

typedef enum {
    CF_PAGE_SHARED,   /* not there, or still the page of the fork */
    CF_PAGE_COPIED,   /* was there at the fork; this process has a copy */
    CF_PAGE_NEW,      /* was not there at the fork */
    CF_PAGE_UNKNOWN   /* swapped out: the bits that decide are gone */
} cf_verdict;

/* The verdict from the two pagemap entries of one page: of this process and
 * of the witness. BY_PFN compares page frames instead of bit 56. Does not
 * know about zero pages and about mappings that the witness lacks: the scan
 * settles these two. Pure: writes nothing. */
cf_verdict cf_page_verdict(cf_area area, uint64_t mine, uint64_t witness,
                           bool by_pfn);

/* ---- the record ------------------------------------------------------- */

/* Why a figure is unknown: a set of bits. decode_record() has the words. */
enum {
    CF_WHY_NO_PAGEMAP = 1 << 0,      /* own pagemap; `error` says why */
    CF_WHY_NO_MAPS = 1 << 1,         /* own maps */
    CF_WHY_NO_WITNESS_FILE = 1 << 2, /* the witness's pagemap; `error` */
    CF_WHY_WITNESS_DIED = 1 << 3,
    CF_WHY_SWAP = 1 << 4,            /* `unknown_pages` says how many */
    CF_WHY_KSM = 1 << 5,
    CF_WHY_CHILD = 1 << 6,           /* `child` shares this memory */
    CF_WHY_CHILD_UNKNOWN = 1 << 7,   /* `child` cannot be looked at */
    CF_WHY_OTHER_PROCESS = 1 << 8,   /* measured by a child of the worker */
    CF_WHY_NO_MEMORY = 1 << 9,
    CF_WHY_FAILED = 1 << 10,         /* a read failed half-way; `error` */
    CF_WHY_NO_RUSAGE = 1 << 11       /* only the fault counts are unknown */
};

enum { CF_METHOD_NONE, CF_METHOD_BIT56, CF_METHOD_PFN };

#define CF_RECORD_MAGIC UINT32_C(0x57464331)  /* "1CFW" */

/* What a worker pipes up: fixed size, below PIPE_BUF, so that one write(2)
 * cannot be torn. Both ends are the same program; -1 is "unknown". */
typedef struct {
    uint32_t magic;
    uint32_t size;
    uint32_t method;
    uint32_t why;
    int32_t error;
    int32_t pid;
    int32_t child;
    int32_t reserved;
    int64_t copied;
    int64_t frozen_copied;
    int64_t fresh;
    int64_t minor_faults;
    int64_t major_faults;
    int64_t by_area[CF_AREA_COUNT];  /* of `copied` */
    uint64_t unknown_pages;
    uint64_t scanned_bytes;
    uint64_t scan_ns;
    uint64_t page_size;
} cf_record;

/* ---- measuring -------------------------------------------------------- */

/* A worker's audit: what must be taken right after the fork. */
typedef struct {
    const cf_witness *witness;  /* borrowed; this process's own copy of it */
    pid_t pid;
    cf_file pagemap;
    cf_file maps;
    cf_file ksm;
    bool has_rusage;
    long minor_faults;          /* at the start */
    long major_faults;
} cf_audit;

/* Begin, as early in the worker as possible: opens the worker's own files
 * while it still has the right to, becomes the reaper of its orphaned
 * descendants (they blind bit 56 and must be seen), and forbids transparent
 * huge pages: khugepaged copies shared pages when it collapses a range,
 * without any write. Cannot fail; what is missing is said in the record. */
void cf_audit_start(cf_audit *audit, cf_witness *witness);

/* Open the files only: for a process that looks at itself and stays as it
 * is. */
void cf_audit_look(cf_audit *audit, cf_witness *witness);

/* Measure now. Fills RECORD completely; cannot fail. */
void cf_audit_measure(cf_audit *audit, cf_record *record);

/* The same, and the addresses of the copied pages in ascending order, the
 * first ROOM of them, into ADDRESSES (which must lie outside of the pages
 * that are looked at, or were written before). Returns how many there are
 * in all. */
size_t cf_audit_list(cf_audit *audit, cf_record *record,
                     uintptr_t *addresses, size_t room);

/* Close the files. */
void cf_audit_stop(cf_audit *audit);

#endif
