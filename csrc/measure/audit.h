/* audit.h - a process measures which pages it has copied.
 *
 * No Python.h, no malloc: the only memory taken is one mapping, made when
 * the measuring begins, given back when it ends, and left out of the scan.
 */
#ifndef CF_AUDIT_H
#define CF_AUDIT_H

#include "measure/canary.h"
#include "measure/record.h"
#include "measure/witness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A worker's audit: what must be taken right after the fork. */
typedef struct {
    cf_witness *witness;  /* borrowed; this process's own copy of it */
    uint64_t process;     /* that began it: cf_process_id() */
    cf_canary canary;     /* NULL: none */
    cf_file pagemap;
    cf_file maps;
    cf_file ksm;
    bool has_rusage;
    long minor_faults;    /* at the start */
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

/* Measure now. Fills RECORD completely; cannot fail. FOUND: NULL, or where the
 * copied pages are noted; its addresses must lie outside of the pages that are
 * looked at, or were written before. */
void cf_audit_measure(cf_audit *audit, cf_record *record, cf_pages *found);

/* The same, for what happens from now on: the new pages are noted as well. */
void cf_audit_measure_before(cf_audit *audit, cf_record *record,
                             cf_pages *found);

/* What was copied or filled since: pages of BEFORE do not count, whatever
 * became of them. FOUND as above. */
void cf_audit_measure_since(cf_audit *audit, cf_record *record,
                            const cf_pages *before, cf_pages *found);

/* Close the files and give the canary back. */
void cf_audit_stop(cf_audit *audit);

#endif
