/* ksm.h - has the kernel merged pages of a process with equal ones?
 *
 * No Python.h, no malloc, no locks.
 */
#ifndef CF_KSM_H
#define CF_KSM_H

#include "proc/procfile.h"

/* Open the file that says how many pages of PID ("self" or a number) the
 * kernel has merged with equal ones (KSM). */
void cf_ksm_open(cf_file *file, const char *pid);

/* How many of its pages are merged now; -1: cannot be told. */
int64_t cf_ksm_merged(const cf_file *file);

#endif
