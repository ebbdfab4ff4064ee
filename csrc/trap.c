/* trap.c - who writes a watched page first?
 *
 *                      perf                          protected pages
 *   prepare            events, off                   -
 *                      handlers for SIGTRAP and SIGSEGV, both ways
 *   arm                events on                     ranges read-only
 *   store              page is copied, SIGTRAP       SIGSEGV
 *   handler            note the write                note the write, open the page
 *   store              done again                    done again
 *   disarm             events off, pages open, handlers as they were
 *
 * What must hold; docs/internals/trapping.md has the reasons:
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
 *
 * The pages found last stay known after the end: a thread may have faulted just
 * before its page was opened, and its signal arrives afterwards.
 */
#define _GNU_SOURCE
#include "trap.h"

#include "trap_frames.h"
#include "trap_perf.h"
#include "trap_protect.h"
#include "trap_signals.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SAME_FAULTS 1000   /* in a row, at an open page: it is not us who protect it */
#define SETTLE_NS 2000000  /* for signals that are on their way when a trap ends */

typedef struct {
    bool prepared;
    atomic_bool armed;
    pid_t owner;
    cf_trap_backend backend;
    cf_trap_buffer *buffer;
    cf_watch watch;
    cf_perf perf;
    struct sigaction old_segv;
    struct sigaction old_trap;
    cf_let_through let_through;
    atomic_uint_fast64_t signals;
    atomic_flag lock;
    /* Under the lock: */
    volatile pid_t noting;     /* the thread that reads what may fault; 0: none */
    sigjmp_buf escape;
    uintptr_t again;           /* the fault seen last at a page that is open */
    unsigned times;
} trap_state;

static trap_state trap = {.lock = ATOMIC_FLAG_INIT};

static pid_t
this_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void
lock(void)
{
    for (unsigned n = 0; atomic_flag_test_and_set_explicit(&trap.lock, memory_order_acquire);
         n++) {
        if (n % 128 == 127) {
            sched_yield();
        }
    }
}

static void
unlock(void)
{
    atomic_flag_clear_explicit(&trap.lock, memory_order_release);
}

/* -- noting -------------------------------------------------------------- */

/* Under the lock. */
static void
note(uintptr_t address)
{
    cf_trap_buffer *buffer = trap.buffer;
    if (buffer->n == buffer->room) {
        buffer->lost++; /* T6 */
        return;
    }
    cf_trap_write *write = &buffer->writes[buffer->n];
    write->address = address & ~(uintptr_t)7;
    write->thread = this_thread();
    write->n_frames = 0;
    write->stack_end = CF_STACK_UNREADABLE;
    trap.noting = write->thread;
    if (sigsetjmp(trap.escape, 0) == 0) {
        write->old_value = *(const volatile uint64_t *)write->address;
        cf_trap_frames_note(buffer, write);
    }
    trap.noting = 0;
    buffer->n++;
}

/* A write-protected page of ours was written. True: it is open now. */
static bool
on_protected(uintptr_t address)
{
    cf_watch_range *range = cf_watch_find(&trap.watch, address);
    if (range == NULL || trap.backend != CF_TRAP_PROTECT) {
        return false;
    }
    if (getpid() != trap.owner) { /* T5 */
        cf_protect_open(&trap.watch, address);
        return true;
    }
    size_t number = cf_watch_number(range, address);
    bool handled = true;
    lock();
    if (!atomic_load(&trap.armed)) {
        handled = ++trap.times < SAME_FAULTS; /* it was opened meanwhile */
    }
    else {
        bool done = cf_watch_is_done(&trap.watch, number);
        trap.times = done && trap.again == address ? trap.times + 1 : 0;
        trap.again = address;
        handled = trap.times < SAME_FAULTS;
        if (!done) {
            note(address);
        }
        if (handled) {
            trap.buffer->given_up += cf_protect_open(&trap.watch, address);
            cf_watch_set_done(&trap.watch, number);
        }
    }
    unlock();
    return handled;
}

static void
on_copied(uintptr_t address)
{
    atomic_fetch_add(&trap.signals, 1);
    if (!atomic_load(&trap.armed) || getpid() != trap.owner) {
        return;
    }
    cf_watch_range *range = cf_watch_find(&trap.watch, address);
    if (range == NULL) {
        return;
    }
    size_t number = cf_watch_number(range, address);
    lock();
    if (atomic_load(&trap.armed) && !cf_watch_is_done(&trap.watch, number)) {
        cf_watch_set_done(&trap.watch, number);
        note(address);
    }
    unlock();
}

/* -- signals ------------------------------------------------------------- */

static void
on_segv(int number, siginfo_t *info, void *context)
{
    int error = errno;
    if (info->si_code > 0 && trap.noting != 0 && trap.noting == this_thread()) {
        siglongjmp(trap.escape, 1); /* T3 */
    }
    if (info->si_code != SEGV_ACCERR || !on_protected((uintptr_t)info->si_addr)) {
        cf_signal_pass_on(number, info, context, &trap.old_segv);
    }
    errno = error;
}

static void
on_trap(int number, siginfo_t *info, void *context)
{
    int error = errno;
    uintptr_t address;
    if (cf_perf_is_ours(info, &address)) {
        on_copied(address);
    }
    else {
        cf_signal_pass_on(number, info, context, &trap.old_trap);
    }
    errno = error;
}

/* -- begin and end ------------------------------------------------------- */

static void
uninstall_all(void)
{
    if (trap.backend == CF_TRAP_PERF) {
        cf_signal_uninstall(SIGTRAP, on_trap, &trap.old_trap);
    }
    cf_signal_uninstall(SIGSEGV, on_segv, &trap.old_segv);
}

/* T5: in a child that fork() made, before it runs. */
static void
disarm_child(void)
{
    if (!trap.prepared) {
        return;
    }
    atomic_flag_clear(&trap.lock);
    trap.noting = 0;
    atomic_store(&trap.armed, false);
    if (trap.backend == CF_TRAP_PROTECT) {
        cf_protect_stop(&trap.watch);
    }
    cf_perf_close(&trap.perf);
    uninstall_all();
    trap.prepared = false;
    trap.buffer = NULL;
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
    trap.backend = CF_TRAP_PROTECT;
    buffer->why = CF_TRAP_ASKED;
    if (request->backend == CF_TRAP_PROTECT) {
        return 0;
    }
    if (cf_perf_open(&trap.perf) == 0) {
        trap.backend = CF_TRAP_PERF;
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
    uint64_t before = atomic_load(&trap.signals);
    char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    cf_signals_let_through(&trap.let_through);
    cf_perf_enable(&trap.perf, true);
    *(volatile char *)fresh = 1;
    cf_perf_enable(&trap.perf, false);
    cf_signals_block_again(&trap.let_through);
    munmap(fresh, size);
    return atomic_load(&trap.signals) > before;
}

/* Look for the pages of SCOPE. */
static int
find_pages(cf_watch_scope scope, const cf_trap_request *request)
{
    size_t most = trap.backend == CF_TRAP_PERF ? SIZE_MAX : cf_protect_most_ranges();
    cf_watch_clear(&trap.watch); /* of the trap before */
    if (cf_watch_build(&trap.watch, scope, request->frozen, most) < 0) {
        return -1;
    }
    if (trap.watch.n == 0) {
        errno = ENODATA;
        return -1;
    }
    if (trap.backend == CF_TRAP_PERF) {
        cf_watch_map_in(&trap.watch);
    }
    return 0;
}

int
cf_trap_prepare(cf_trap_buffer *buffer, const cf_trap_request *request)
{
    if (trap.prepared) {
        errno = EBUSY;
        return -1;
    }
    cf_trap_buffer_reset(buffer);
    trap.owner = getpid();
    trap.buffer = buffer;
    atomic_store(&trap.signals, 0);
    trap.times = 0;
    if (choose(buffer, request) < 0 || cf_signal_install(SIGSEGV, on_segv, &trap.old_segv) < 0) {
        goto failed;
    }
    if (trap.backend == CF_TRAP_PERF) {
        cf_signal_install(SIGTRAP, on_trap, &trap.old_trap);
        if (!signals_arrive()) {
            uninstall_all();
            cf_perf_close(&trap.perf);
            buffer->why = CF_TRAP_SILENT;
            if (request->backend == CF_TRAP_PERF) {
                errno = EOPNOTSUPP;
                goto failed;
            }
            trap.backend = CF_TRAP_PROTECT;
            cf_signal_install(SIGSEGV, on_segv, &trap.old_segv);
        }
    }
    /* To protect everything would break each system call that stores. */
    if (find_pages(trap.backend == CF_TRAP_PERF ? request->scope : CF_WATCH_FROZEN, request) < 0) {
        int error = errno;
        uninstall_all();
        errno = error;
        goto failed;
    }
    buffer->backend = trap.backend;
    buffer->pid = trap.owner;
    buffer->watched = trap.watch.pages - trap.watch.joined;
    buffer->exclusive = trap.watch.exclusive_known ? trap.watch.exclusive : UINT64_MAX;
    buffer->ranges = trap.watch.n;
    buffer->joined = trap.watch.joined;
    trap.prepared = true;
    return 0;

failed:
    {
        int error = errno;
        cf_perf_close(&trap.perf);
        trap.buffer = NULL;
        buffer->state = CF_TRAP_FAILED;
        buffer->failure = error;
        errno = error;
    }
    return -1;
}

int
cf_trap_arm(void)
{
    if (!trap.prepared || trap.owner != getpid()) {
        errno = EINVAL;
        return -1;
    }
    trap.buffer->state = CF_TRAP_RAN;
    atomic_store(&trap.armed, true);
    cf_signals_let_through(&trap.let_through);
    if (trap.backend == CF_TRAP_PERF) {
        cf_perf_enable(&trap.perf, true);
        return 0;
    }
    if (cf_protect_start(&trap.watch) < 0) {
        int error = errno;
        cf_trap_buffer *buffer = trap.buffer;
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
    if (!trap.prepared || trap.owner != getpid()) {
        return;
    }
    int error = errno;
    if (trap.backend == CF_TRAP_PERF) {
        cf_perf_enable(&trap.perf, false);
    }
    else {
        cf_protect_stop(&trap.watch);
    }
    cf_signals_block_again(&trap.let_through);
    lock();
    atomic_store(&trap.armed, false);
    unlock();
    /* A thread may have a signal of ours to come, which would end the process
     * if it found no handler. */
    struct timespec pause = {0, SETTLE_NS};
    nanosleep(&pause, NULL);
    if (trap.backend == CF_TRAP_PERF) {
        uint64_t faults = cf_perf_count(&trap.perf), signals = atomic_load(&trap.signals);
        trap.buffer->signals = signals;
        trap.buffer->unseen = faults == UINT64_MAX ? UINT64_MAX
                              : faults > signals   ? faults - signals
                                                   : 0;
    }
    cf_perf_close(&trap.perf);
    uninstall_all();
    trap.prepared = false;
    trap.buffer = NULL;
    errno = error;
}

bool
cf_trap_is_armed(void)
{
    return atomic_load(&trap.armed) && trap.owner == getpid();
}
