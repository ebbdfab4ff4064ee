/* witness.h - who else holds the pages: the witness on purpose, the
 * worker's own descendants by accident, the kernel's merging by chance.
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_WITNESS_H
#define CF_WITNESS_H

#include "maps.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The paused child and the files through which it is looked at. The files
 * are opened by the parent, because the right to open them is asked at the
 * open only: a worker that has changed its uid since can still read them. */
typedef struct {
    pid_t pid;            /* 0: none */
    pid_t owner;          /* the process that forked it, and may end it */
    uint64_t start_time;  /* tells a recycled pid; 0: unknown */
    cf_file pagemap;
    cf_file maps;
    cf_file ksm;
} cf_witness;

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

/* ---- what blinds the "exclusive" bit ---------------------------------- */

typedef enum {
    CF_KIN_NONE,     /* no live descendant shares this process's pages */
    CF_KIN_SHARING,  /* one does: its pid is given */
    CF_KIN_UNKNOWN   /* it cannot be told */
} cf_kin;

/* Look for live descendants of this process that still have its memory.
 * Needs PR_SET_CHILD_SUBREAPER since before the first of them was forked:
 * else the orphans among them belong to init and are not seen. EXCEPT is the
 * witness: a child of the process that forked it, but what it holds are the
 * pages of the fork, never the copies made since. SCRATCH is SIZE bytes of
 * work space (at least 16 KiB). */
cf_kin cf_kin_look(char *scratch, size_t size, pid_t except, pid_t *who);

/* Open the file that says how many pages of PID ("self" or a number) the
 * kernel has merged with equal ones (KSM). */
void cf_ksm_open(cf_file *file, const char *pid);

/* How many of its pages are merged now; -1: cannot be told. */
int64_t cf_ksm_merged(const cf_file *file);

#endif
