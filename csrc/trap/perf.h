/* perf.h - page faults that arrive as signals, through perf events.
 *
 * No Python.h. Malloc only in cf_perf_open, which lists the threads.
 */
#ifndef CF_TRAP_PERF_H
#define CF_TRAP_PERF_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CF_PERF_MAX_THREADS 1024

typedef struct {
    int fds[CF_PERF_MAX_THREADS];
    uint64_t ids[CF_PERF_MAX_THREADS]; /* of the events: the target may close descriptors */
    size_t n;
} cf_perf;

/* Make an event, not yet counting, for every thread of this process; threads
 * that start later are included. Returns 0, or -1 with errno set: EACCES or
 * EPERM (not allowed), ENOSYS, ENOTSUP (a kernel before 5.18). */
int cf_perf_open(cf_perf *perf);

/* Start or stop the signals. */
void cf_perf_enable(cf_perf *perf, bool on);

/* How many faults were counted; UINT64_MAX: unknown. */
uint64_t cf_perf_count(const cf_perf *perf);

void cf_perf_close(cf_perf *perf);

/* Is this signal one of our events, and for which address? Async-signal-safe. */
bool cf_perf_is_ours(const siginfo_t *info, uintptr_t *address);

#endif
