/* identity.h - which process is this, and which processes does /proc number?
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_IDENTITY_H
#define CF_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

/* A number of this process that no ancestor and no descendant of it has; never
 * 0. A pid does not tell them apart: a child that clone() made process 1 of a
 * PID namespace of its own has the pid of a parent that is process 1 of the
 * namespace above, as in a container. Asked for the first time in a process
 * it writes one page, which is no copy of the parent's. May be asked in a
 * signal's handler if the process, or one before it, has asked already. */
uint64_t cf_process_id(void);

/* Is /proc/PID the process PID as this process counts them? Not where /proc
 * was mounted in another PID namespace: /proc/7 is some stranger there. */
bool cf_proc_is_ours(void);

#endif
