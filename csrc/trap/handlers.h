/* handlers.h - what runs in a signal handler while a trap is armed.
 *
 * For trap.c only, which begins and ends a trap and shares its state. No Python.h, no malloc.
 */
#ifndef CF_TRAP_HANDLERS_H
#define CF_TRAP_HANDLERS_H

#include "trap/pages.h"
#include "trap/perf.h"
#include "trap/record.h"
#include "trap/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

/* The one trap of this process. */
typedef struct {
    bool prepared;
    atomic_bool armed;
    atomic_bool known;         /* T8: what follows, but for the counters, does not change */
    atomic_uint inside;        /* T8: handlers that look at it */
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
    _Atomic pid_t noting;      /* the thread that reads what may fault; 0: none */
    sigjmp_buf escape;
    uintptr_t again;           /* the fault seen last at a page that is open */
    unsigned times;
} cf_trap_state;

extern cf_trap_state cf_trap;

cf_signal_handler cf_trap_on_segv, cf_trap_on_trap;

/* For everything below "Under the lock", and to end the noting. Async-signal-safe. */
void cf_trap_lock(void);
void cf_trap_unlock(void);

/* Wait for the handlers that look at the pages, and forget the pages (T8). */
void cf_trap_forget_pages(void);

/* In a forked child: the threads that were in a handler are not here. */
void cf_trap_forget_threads(void);

#endif
