/* handlers.c - what runs in a signal handler while a trap is armed.
 *
 *   a store to a page that is shared        perf: the page is copied, SIGTRAP -> on_copied()
 *   a store to a page that is protected     SIGSEGV -> on_protected(): the page is opened
 *      note()  { address | value before | thread | frames }  at the end of the buffer
 *   the store is done again
 *
 * T1 to T6, T8 and T9 are in trap.c.
 */
#define _GNU_SOURCE
#include "trap/handlers.h"

#include "trap/stack.h"
#include "trap/protect.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SAME_FAULTS 1000   /* in a row, at an open page: it is not us who protect it */

cf_trap_state cf_trap = {.lock = ATOMIC_FLAG_INIT};

static pid_t
this_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

void
cf_trap_lock(void)
{
    for (unsigned n = 0; atomic_flag_test_and_set_explicit(&cf_trap.lock, memory_order_acquire);
         n++) {
        if (n % 128 == 127) {
            sched_yield();
        }
    }
}

void
cf_trap_unlock(void)
{
    atomic_flag_clear_explicit(&cf_trap.lock, memory_order_release);
}

/* T8. False: nothing is known, or it is about to change. To be left either way. */
static bool
enter(void)
{
    atomic_fetch_add(&cf_trap.inside, 1);
    return atomic_load(&cf_trap.known);
}

static void
leave(void)
{
    atomic_fetch_sub(&cf_trap.inside, 1);
}

void
cf_trap_forget_pages(void)
{
    atomic_store(&cf_trap.known, false);
    while (atomic_load(&cf_trap.inside) != 0) {
        sched_yield();
    }
    cf_watch_clear(&cf_trap.watch);
}

void
cf_trap_forget_threads(void)
{
    atomic_flag_clear(&cf_trap.lock);
    atomic_store(&cf_trap.inside, 0);
    cf_trap.noting = 0;
}

/* -- noting -------------------------------------------------------------- */

/* Under the lock. */
static void
note(uintptr_t address)
{
    cf_trap_buffer *buffer = cf_trap.buffer;
    if (buffer->n == buffer->room) {
        buffer->lost++; /* T6 */
        return;
    }
    cf_trap_write *write = &buffer->writes[buffer->n];
    write->address = address & ~(uintptr_t)7;
    write->thread = this_thread();
    write->n_frames = 0;
    write->stack_end = CF_STACK_UNREADABLE;
    cf_trap.noting = write->thread;
    if (sigsetjmp(cf_trap.escape, 0) == 0) {
        write->old_value = *(const volatile uint64_t *)write->address;
        cf_trap_frames_note(buffer, write);
    }
    cf_trap.noting = 0;
    buffer->n++;
}

/* A fault at an open page: the page was opened meanwhile, unless that goes on for ever. */
static bool
is_late(void)
{
    cf_trap_lock();
    bool late = ++cf_trap.times < SAME_FAULTS;
    cf_trap_unlock();
    return late;
}

/* A store to a page of RANGE faulted. True: the page is open now. */
static bool
open_page(cf_watch_range *range, uintptr_t address)
{
    if (getpid() != cf_trap.owner) { /* T5 */
        cf_protect_open(&cf_trap.watch, address);
        return true;
    }
    if (!atomic_load(&cf_trap.armed)) {
        return is_late();
    }
    size_t number = cf_watch_number(range, address);
    cf_trap_lock();
    bool armed = atomic_load(&cf_trap.armed), done = cf_watch_is_done(&cf_trap.watch, number);
    cf_trap.times = !armed || (done && cf_trap.again == address) ? cf_trap.times + 1 : 0;
    cf_trap.again = address;
    bool handled = cf_trap.times < SAME_FAULTS;
    if (armed && !done) {
        note(address);
    }
    if (armed && handled) {
        cf_trap.buffer->given_up += cf_protect_open(&cf_trap.watch, address);
        cf_watch_set_done(&cf_trap.watch, number);
    }
    cf_trap_unlock();
    return handled;
}

/* A write-protected page was written. True: it was one of ours and is open now. */
static bool
on_protected(uintptr_t address)
{
    bool handled;
    if (!enter()) {
        handled = is_late(); /* of the trap before; the next one is being prepared */
    }
    else {
        cf_watch_range *range = cf_watch_find(&cf_trap.watch, address);
        handled = range != NULL && cf_trap.backend == CF_TRAP_PROTECT && open_page(range, address);
    }
    leave();
    return handled;
}

static void
on_copied(uintptr_t address)
{
    atomic_fetch_add(&cf_trap.signals, 1);
    cf_watch_range *range = NULL;
    if (enter() && atomic_load(&cf_trap.armed) && getpid() == cf_trap.owner) {
        range = cf_watch_find(&cf_trap.watch, address);
    }
    if (range != NULL) {
        size_t number = cf_watch_number(range, address);
        cf_trap_lock();
        if (atomic_load(&cf_trap.armed) && !cf_watch_is_done(&cf_trap.watch, number)) {
            cf_watch_set_done(&cf_trap.watch, number);
            note(address);
        }
        cf_trap_unlock();
    }
    leave();
}

/* -- signals ------------------------------------------------------------- */

void
cf_trap_on_segv(int number, siginfo_t *info, void *context)
{
    int error = errno;
    if (info->si_code > 0 && cf_trap.noting != 0 && cf_trap.noting == this_thread()) {
        siglongjmp(cf_trap.escape, 1); /* T3 */
    }
    if (info->si_code != SEGV_ACCERR || !on_protected((uintptr_t)info->si_addr)) {
        cf_signal_pass_on(number, info, context, &cf_trap.old_segv);
    }
    errno = error;
}

void
cf_trap_on_trap(int number, siginfo_t *info, void *context)
{
    int error = errno;
    uintptr_t address;
    if (cf_perf_is_ours(info, &address)) {
        on_copied(address);
    }
    else {
        cf_signal_pass_on(number, info, context, &cf_trap.old_trap);
    }
    errno = error;
}
