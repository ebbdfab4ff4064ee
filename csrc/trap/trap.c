/* trap.c - who writes a watched page first?
 *
 *                      perf                          protected pages
 *   prepare            events, off                   -
 *                      handlers for SIGTRAP and SIGSEGV, both ways
 *   arm                events on                     ranges read-only
 *   store              page is copied, SIGTRAP       SIGSEGV
 *   handler            note the write                note the write, open the page
 *   store              done again                    done again
 *   disarm             events off, pages open, handlers as they were (but see T9)
 *
 * The handlers are handlers.c. What must hold; docs/internals/trapping.md has the reasons:
 *  T1  The handler calls nothing that allocates or locks, and changes no errno.
 *  T2  One thread at a time notes a write. All signals but the synchronous ones
 *      are blocked meanwhile, so the thread that holds the lock is not
 *      interrupted by code that faults and waits for the same lock.
 *  T3  A read that faults while a stack is noted ends the noting, not the
 *      process: the nested SIGSEGV jumps back.
 *  T4  A fault that is not ours goes to the handler that was there before, with
 *      nothing changed but the thread's place in this function.
 *  T5  A forked child is disarmed before it runs; one that was made past the C
 *      library opens pages and notes nothing.
 *  T6  What could not be noted is counted.
 *  T8  Handlers look at the pages only while those are known, and the next trap waits
 *      for them before it forgets the pages.
 *  T9  A signal of ours that a thread has still to take finds our handler.
 *
 * The pages found last stay known after the end: a thread may have faulted just
 * before its page was opened, and its signal arrives afterwards.
 */
#define _GNU_SOURCE
#include "trap/trap.h"

#include "proc/procfile.h"
#include "trap/handlers.h"
#include "trap/protect.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void
uninstall_all(void)
{
    /* T9: until a thread is back in user mode, nothing shows that the kernel owes it a SIGTRAP. So
     * ours stays where there are other threads, and passes on what is not ours. */
    if (cf_trap.backend == CF_TRAP_PERF && cf_is_only_thread()) {
        cf_signal_uninstall(SIGTRAP, cf_trap_on_trap, &cf_trap.old_trap);
    }
    cf_signal_uninstall(SIGSEGV, cf_trap_on_segv, &cf_trap.old_segv);
}

/* T5: in a child that fork() made, before it runs. */
static void
disarm_child(void)
{
    cf_trap_forget_threads();
    if (!cf_trap.prepared) {
        return;
    }
    atomic_store(&cf_trap.armed, false);
    if (cf_trap.backend == CF_TRAP_PROTECT) {
        cf_protect_stop(&cf_trap.watch);
    }
    cf_perf_close(&cf_trap.perf);
    uninstall_all();
    cf_trap.prepared = false;
    cf_trap.buffer = NULL;
}

int
cf_trap_init(void)
{
    int error = pthread_atfork(NULL, NULL, disarm_child);
    errno = error;
    return error == 0 ? 0 : -1;
}

/* Perf if it is allowed and not unwanted; in the buffer, why not. */
static int
choose(cf_trap_buffer *buffer, const cf_trap_request *request)
{
    cf_trap.backend = CF_TRAP_PROTECT;
    buffer->why = CF_TRAP_ASKED;
    if (request->backend == CF_TRAP_PROTECT) {
        return 0;
    }
    if (cf_perf_open(&cf_trap.perf) == 0) {
        cf_trap.backend = CF_TRAP_PERF;
        buffer->why = CF_TRAP_USES_PERF;
        return 0;
    }
    buffer->why = CF_TRAP_FORBIDDEN;
    buffer->error = errno;
    if (request->backend == CF_TRAP_PERF) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return 0;
}

/* Does a fault make a signal here? A sandbox may accept the event and do
 * nothing. */
static bool
signals_arrive(void)
{
    size_t size = cf_page_size();
    uint64_t before = atomic_load(&cf_trap.signals);
    char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    cf_signals_let_through(&cf_trap.let_through);
    cf_perf_enable(&cf_trap.perf, true);
    *(volatile char *)fresh = 1;
    cf_perf_enable(&cf_trap.perf, false);
    cf_signals_block_again(&cf_trap.let_through);
    munmap(fresh, size);
    return atomic_load(&cf_trap.signals) > before;
}

/* Look for the pages of SCOPE. */
static int
find_pages(cf_watch_scope scope, const cf_trap_request *request)
{
    size_t most = cf_trap.backend == CF_TRAP_PERF ? SIZE_MAX : cf_protect_most_ranges();
    /* With large pages, cowfreeze's own types may share one with it (3.10-3.12 freeze those). */
    const cf_watch_span state = {(uintptr_t)&cf_trap, (uintptr_t)(&cf_trap + 1)};
    if (cf_watch_build(&cf_trap.watch, scope, request->frozen, &state, most) < 0) {
        return -1;
    }
    if (cf_trap.watch.n == 0) {
        errno = ENODATA;
        return -1;
    }
    if (cf_trap.backend == CF_TRAP_PERF) {
        cf_watch_map_in(&cf_trap.watch);
    }
    atomic_store(&cf_trap.known, true);
    return 0;
}

int
cf_trap_prepare(cf_trap_buffer *buffer, const cf_trap_request *request)
{
    if (cf_trap.prepared) {
        errno = EBUSY;
        return -1;
    }
    cf_trap_forget_pages(); /* of the trap before */
    cf_trap_buffer_reset(buffer);
    cf_trap.owner = getpid();
    cf_trap.buffer = buffer;
    atomic_store(&cf_trap.signals, 0);
    cf_trap.times = 0;
    if (choose(buffer, request) < 0 || cf_signal_install(SIGSEGV, cf_trap_on_segv, &cf_trap.old_segv) < 0) {
        goto failed;
    }
    if (cf_trap.backend == CF_TRAP_PERF) {
        cf_signal_install(SIGTRAP, cf_trap_on_trap, &cf_trap.old_trap);
        if (!signals_arrive()) {
            uninstall_all();
            cf_perf_close(&cf_trap.perf);
            buffer->why = CF_TRAP_SILENT;
            if (request->backend == CF_TRAP_PERF) {
                errno = EOPNOTSUPP;
                goto failed;
            }
            cf_trap.backend = CF_TRAP_PROTECT;
            cf_signal_install(SIGSEGV, cf_trap_on_segv, &cf_trap.old_segv);
        }
    }
    /* To protect everything would break each system call that stores. */
    if (find_pages(cf_trap.backend == CF_TRAP_PERF ? request->scope : CF_WATCH_FROZEN, request) < 0) {
        int error = errno;
        uninstall_all();
        errno = error;
        goto failed;
    }
    buffer->backend = cf_trap.backend;
    buffer->pid = cf_trap.owner;
    buffer->watched = cf_trap.watch.pages - cf_trap.watch.joined;
    buffer->exclusive = cf_trap.watch.exclusive_known ? cf_trap.watch.exclusive : UINT64_MAX;
    buffer->ranges = cf_trap.watch.n;
    buffer->joined = cf_trap.watch.joined;
    cf_trap.prepared = true;
    return 0;

failed:
    {
        int error = errno;
        cf_perf_close(&cf_trap.perf);
        cf_trap.buffer = NULL;
        buffer->state = CF_TRAP_FAILED;
        buffer->failure = error;
        errno = error;
    }
    return -1;
}

int
cf_trap_arm(void)
{
    if (!cf_trap.prepared || cf_trap.owner != getpid()) {
        errno = EINVAL;
        return -1;
    }
    cf_trap.buffer->state = CF_TRAP_RAN;
    atomic_store(&cf_trap.armed, true);
    cf_signals_let_through(&cf_trap.let_through);
    if (cf_trap.backend == CF_TRAP_PERF) {
        cf_perf_enable(&cf_trap.perf, true);
        return 0;
    }
    if (cf_protect_start(&cf_trap.watch) < 0) {
        int error = errno;
        cf_trap_buffer *buffer = cf_trap.buffer;
        cf_trap_disarm();
        buffer->state = CF_TRAP_FAILED;
        buffer->failure = error;
        errno = error;
        return -1;
    }
    return 0;
}

void
cf_trap_disarm(void)
{
    if (!cf_trap.prepared || cf_trap.owner != getpid()) {
        return;
    }
    int error = errno;
    if (cf_trap.backend == CF_TRAP_PERF) {
        cf_perf_enable(&cf_trap.perf, false);
    }
    else {
        cf_protect_stop(&cf_trap.watch);
    }
    cf_signals_block_again(&cf_trap.let_through);
    cf_trap_lock();
    atomic_store(&cf_trap.armed, false);
    cf_trap_unlock();
    cf_signals_settle(); /* T9 */
    if (cf_trap.backend == CF_TRAP_PERF) {
        uint64_t faults = cf_perf_count(&cf_trap.perf), signals = atomic_load(&cf_trap.signals);
        cf_trap.buffer->signals = signals;
        cf_trap.buffer->unseen = faults == UINT64_MAX ? UINT64_MAX
                              : faults > signals   ? faults - signals
                                                   : 0;
    }
    cf_perf_close(&cf_trap.perf);
    uninstall_all();
    cf_trap.prepared = false;
    cf_trap.buffer = NULL;
    errno = error;
}

bool
cf_trap_is_armed(void)
{
    return atomic_load(&cf_trap.armed) && cf_trap.owner == getpid();
}
