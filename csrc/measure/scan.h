/* scan.h - all pages of this process against the witness's.
 *
 * No Python.h, no malloc: the only memory taken is one mapping, made when the
 * scan is opened, given back when it is closed, and left out of the result.
 */
#ifndef CF_SCAN_H
#define CF_SCAN_H

#include "measure/judge.h"

#include <stddef.h>

struct cf_scan_work;

/* A scan. The caller fills in judge.record, judge.pagemap, judge.witness,
 * maps, and if it wants them judge.before and judge.list. */
typedef struct {
    cf_judge judge;
    const cf_file *maps;        /* of this process */
    struct cf_scan_work *work;  /* all work memory */
} cf_scan;

/* Take the work memory. 0; -1: why is set in the record. */
int cf_scan_open(cf_scan *scan);

/* Work memory that is free before cf_scan_run(), and after it. */
char *cf_scan_scratch(cf_scan *scan, size_t *size);

/* Scan every private mapping, once, and fill the record's counts. 0; -1: why
 * is set in the record, and the counts are worth nothing. */
int cf_scan_run(cf_scan *scan);

/* Give the work memory back. May be called if cf_scan_open() failed. */
void cf_scan_close(cf_scan *scan);

#endif
