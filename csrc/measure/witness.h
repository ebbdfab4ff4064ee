/* witness.h - a paused child that keeps every page of the fork alive.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_WITNESS_H
#define CF_WITNESS_H

#include "proc/procfile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The paused child and the files through which it is looked at. The files
 * are opened by the parent, because the right to open them is asked at the
 * open only: a worker that has changed its uid since can still read them. */
typedef struct {
    pid_t pid;            /* 0: none */
    uint64_t owner;       /* the process that forked it, and may end it */
    uint64_t start_time;  /* tells a recycled pid; 0: unknown */
    cf_file pagemap;
    cf_file maps;
    cf_file ksm;
} cf_witness;

/* The `error` of files that were not opened because /proc numbers the
 * processes of another PID namespace. */
#define CF_OTHER_PROC EXDEV

/* Fork the witness and open its files. Returns 0, or -1 with errno set (no
 * process could be made; nothing is left behind). A file that may not be
 * opened is no error here: its `error` says why, and the audit reports it. */
int cf_witness_start(cf_witness *witness);

/* Does it still live, and so still hold the pages? Any process may ask. */
bool cf_witness_alive(const cf_witness *witness);

/* Open the files again if somebody closed the descriptors. Uses PROC_PID
 * only if the pid still names the process that was forked. */
void cf_witness_reopen(cf_witness *witness);

/* End it, reap it and close the files; in any other process than the owner
 * only the files are closed. May be called twice. */
void cf_witness_stop(cf_witness *witness);

#endif
