/* audit.h - a process measures which pages it has copied.
 *
 * No Python.h, no malloc: the only memory taken is one mapping, made when
 * the measuring begins, given back when it ends, and left out of the scan.
 */
#ifndef CF_AUDIT_H
#define CF_AUDIT_H

#include "measure/record.h"
#include "measure/witness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A worker's audit: what must be taken right after the fork. */
typedef struct {
    cf_witness *witness;  /* borrowed; this process's own copy of it */
    pid_t pid;
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
