/* signals.c - a handler between a signal and the handler that was there before.
 *
 *   before    SIGSEGV -> faulthandler -> default: the process ends
 *   a trap    SIGSEGV -> ours -+-> (ours) the store is done again
 *                              `-> (not ours) faulthandler -> default
 *
 * A fault that is not ours must look to the handler before as if we were not
 * there: same siginfo, same context, same signal stack. By default the process
 * must die of the signal itself, so that its parent sees the right status: the
 * default is put back and the fault happens again when the handler returns. A
 * signal that somebody sent does not come again by itself, so it is sent again.
 *
 * A thread can lose the processor between its fault and its handler. By default the signal
 * ends the process, so the handler goes only when nobody can need it any more.
 */
#define _GNU_SOURCE
#include "trap/signals.h"

#include "proc/procfile.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

int
cf_signal_install(int number, cf_signal_handler *handler, struct sigaction *before)
{
    struct sigaction action = {.sa_sigaction = handler,
                               /* On the signal stack where a thread has one: a stack that
                                * overflows must reach the handler before us. */
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++) {
        sigdelset(&action.sa_mask, synchronous[i]);
    }
    /* Read first: the handler may run in another thread before sigaction() returns. */
    struct sigaction now;
    if (sigaction(number, NULL, &now) < 0) {
        return -1;
    }
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == handler) {
        return 0;
    }
    *before = now;
    return sigaction(number, &action, NULL);
}

void
cf_signal_uninstall(int number, cf_signal_handler *handler, const struct sigaction *before)
{
    struct sigaction now, ignore = {.sa_handler = SIG_IGN};
    if (sigaction(number, NULL, &now) < 0 || (now.sa_flags & SA_SIGINFO) == 0
        || now.sa_sigaction != handler) {
        return;
    }
    if (number == SIGTRAP) {
        /* Discards those that wait because a thread blocks them; by default
         * they would end the process later. */
        sigaction(number, &ignore, NULL);
    }
    sigaction(number, before, NULL);
}

void
cf_signal_pass_on(int number, siginfo_t *info, void *context, const struct sigaction *before)
{
    bool sent = info->si_code <= 0;
    if ((before->sa_flags & SA_SIGINFO) != 0) {
        before->sa_sigaction(number, info, context);
    }
    else if (before->sa_handler == SIG_IGN && sent) {
        return;
    }
    else if (before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN) {
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        sigaction(number, &by_default, NULL);
        if (sent || number != SIGSEGV) {
            syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
        }
    }
    else {
        before->sa_handler(number);
    }
}

void
cf_signals_let_through(cf_let_through *through)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTRAP);
    sigaddset(&ours, SIGSEGV);
    pthread_sigmask(SIG_UNBLOCK, &ours, &before);
    through->thread = pthread_self();
    sigandset(&through->signals, &before, &ours);
}

void
cf_signals_block_again(cf_let_through *through)
{
    if (pthread_equal(through->thread, pthread_self())) {
        pthread_sigmask(SIG_BLOCK, &through->signals, NULL);
    }
    sigemptyset(&through->signals);
}

/* -- signals on their way ------------------------------------------------ */

#define SETTLE_NS 2000000 /* from the fault to the signal; no file shows that */
#define MOST_LOOKS 2500

/* Read the lines of signals, a bit each, in the /proc/PID/status at PATH. The line of groups before
 * them may have any length. */
static bool
read_signals(const char *path, uint64_t *pending, uint64_t *blocked)
{
    char line[256];
    FILE *status = fopen(path, "re");
    int found = 0;
    while (status != NULL && found < 2 && fgets(line, sizeof(line), status) != NULL) {
        found += sscanf(line, "SigPnd: %" SCNx64, pending) == 1;
        found += sscanf(line, "SigBlk: %" SCNx64, blocked) == 1;
    }
    if (status != NULL) {
        fclose(status);
    }
    return found == 2;
}

/* Has a thread a signal of ours to take, which it does not block? */
static bool
is_one_pending(void)
{
    const uint64_t ours = UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGTRAP - 1);
    char path[64];
    uint64_t theirs, blocked;
    bool pending = false;
    struct dirent *entry;
    DIR *threads = opendir("/proc/self/task");
    while (threads != NULL && !pending && (entry = readdir(threads)) != NULL) {
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", entry->d_name);
        pending = read_signals(path, &theirs, &blocked) && (theirs & ~blocked & ours) != 0;
    }
    if (threads != NULL) {
        closedir(threads);
    }
    return pending;
}

void
cf_signals_settle(void)
{
    if (cf_is_only_thread()) {
        return;
    }
    const struct timespec pause = {0, SETTLE_NS};
    int looks = 0;
    do {
        nanosleep(&pause, NULL);
    } while (is_one_pending() && ++looks < MOST_LOOKS);
}
