/* signals.h - a handler between a signal and the handler that was there before.
 *
 * No Python.h. Malloc only in cf_signals_settle, which lists the threads.
 */
#ifndef CF_TRAP_SIGNALS_H
#define CF_TRAP_SIGNALS_H

#include <pthread.h>
#include <signal.h>

typedef void cf_signal_handler(int number, siginfo_t *info, void *context);

/* Signals that a thread had blocked and now lets through. */
typedef struct {
    pthread_t thread;
    sigset_t signals;
} cf_let_through;

/* Handle signal NUMBER with HANDLER; *BEFORE is what was there, and stays as it is if that is
 * HANDLER already. All signals but the synchronous ones are blocked while it runs. Returns 0, or
 * -1 with errno set. */
int cf_signal_install(int number, cf_signal_handler *handler, struct sigaction *before);

/* Put BEFORE back, unless a handler that is not HANDLER was installed meanwhile:
 * that one passes on to HANDLER, which passes on to BEFORE. */
void cf_signal_uninstall(int number, cf_signal_handler *handler, const struct sigaction *before);

/* In a handler: let BEFORE have the signal. Async-signal-safe. */
void cf_signal_pass_on(int number, siginfo_t *info, void *context,
                       const struct sigaction *before);

/* Let SIGTRAP and SIGSEGV through in this thread, and undo that: of a blocked
 * SIGTRAP the writes are lost, and a fault whose SIGSEGV is blocked ends the
 * process. */
void cf_signals_let_through(cf_let_through *through);
void cf_signals_block_again(cf_let_through *through);

/* Wait until faults that happened before this call have been handled: until no other thread has a
 * SIGSEGV or SIGTRAP to take. Gives up after some seconds. */
void cf_signals_settle(void);

#endif
