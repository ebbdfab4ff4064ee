/* witness.c - a paused child that keeps every page of the fork alive.
 *
 * A page's bit 56 in pagemap says "mapped by this process only". On its own
 * that does not mean "copied": when the parent writes, exits or unmaps, the
 * page it leaves behind becomes the worker's alone although the worker never
 * wrote it. The witness is one more holder that never writes and never
 * leaves:
 *
 *              at the fork        worker wrote page 2; parent wrote page 1
 *   page          1   2               1    2    1'   2'
 *   parent        x   x                    x    x
 *   worker        x   x               x              x   <- bit 56: a copy
 *   witness       x   x               x    x
 *
 * So, as long as it lives: exclusive in the worker = copied by the worker.
 * This breaks if the witness writes. It therefore
 *   V1  runs on a stack of its own. It is a shared mapping, so that its
 *       pages are no anonymous pages: the parent gives these addresses back,
 *       and what a worker maps there later would otherwise look like a copy
 *       of the witness's stack;
 *   V2  calls the kernel directly: the C library's wrappers write errno, its
 *       fork() runs the handlers of pthread_atfork;
 *   V3  is born with every signal blocked, so no handler of the application
 *       runs in it, and neither Ctrl-C nor Ctrl-Z reaches it;
 *   V4  closes every descriptor, so that no pipe or socket stays open;
 *   V5  is killed by the kernel when the thread that forked it ends.
 * One page it does write: the kernel itself stores the current CPU into the
 * thread's rseq area. The worker's first instruction does so too, on the
 * same page, so no verdict depends on it.
 *
 * It is forked with exit signal 0. The application's wait(-1) does not see
 * such a child and gets no SIGCHLD for it; only our __WALL reaps it.
 *
 * What blinds bit 56 all the same: live children of the worker (descendants.c) and
 * merged pages (ksm.c).
 *
 * Start reading at cf_witness_start(), then witness_main().
 */
#define _GNU_SOURCE
#include "measure/witness.h"

#include "proc/identity.h"
#include "proc/ksm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436  /* Linux 5.9; one number on all architectures */
#endif

/* ---- the child -------------------------------------------------------- */

/* A system call that does not write errno (V2). */
static inline long
bare_call(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
#else
    /* Writes errno when a call fails: one page of thread-local storage,
     * which the worker copies in any case. */
    return syscall(number, a, b, c, d, e);
#endif
}

struct birth {
    pid_t parent;
    long descriptors;  /* RLIMIT_NOFILE, for kernels without close_range */
};

static int
witness_main(void *argument)
{
    const struct birth *birth = argument;
    bare_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    long parent = bare_call(SYS_getppid, 0, 0, 0, 0, 0);
    /* 0: it stands outside of this process's PID namespace. */
    if (parent != birth->parent && parent != 0) {
        /* The parent ended before the line above took effect. */
        bare_call(SYS_exit_group, 0, 0, 0, 0, 0);
    }
    bare_call(SYS_prctl, PR_SET_NAME, (long)"cf-witness", 0, 0, 0);
    if (bare_call(SYS_close_range, 0, ~0U, 0, 0, 0) < 0) {
        for (long fd = 0; fd < birth->descriptors; fd++) {
            bare_call(SYS_close, fd, 0, 0, 0, 0);
        }
    }
    for (;;) {
        /* ppoll on nothing: pause() does not exist on arm64. */
        bare_call(SYS_ppoll, 0, 0, 0, 0, 0);
    }
    return 0;
}

/* ---- the parent's side ------------------------------------------------ */

/* When PID started, in clock ticks since boot; 0: no such process, or only
 * a zombie of it, which has no memory to look at. */
static uint64_t
start_time_of(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (cf_read_path(path, line, sizeof(line)) <= 0) {
        return 0;
    }
    const char *state = cf_stat_field(line, 3);
    const char *field = cf_stat_field(line, 22);
    if (state == NULL || field == NULL || *state == 'Z' || *state == 'X') {
        return 0;
    }
    return strtoull(field, NULL, 10);
}

static void
open_files(cf_witness *witness)
{
    char path[64];
    int pid = (int)witness->pid;
    snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
    cf_file_open(&witness->pagemap, path);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    cf_file_open(&witness->maps, path);
    snprintf(path, sizeof(path), "%d", pid);
    cf_ksm_open(&witness->ksm, path);
}

int
cf_witness_start(cf_witness *witness)
{
    enum { STACK = 64 * 1024 };
    struct birth birth = {.parent = getpid(), .descriptors = 65536};
    struct rlimit limit;
    uint64_t all = ~UINT64_C(0), before = 0;
    int saved;

    *witness = (cf_witness){.pid = 0, .pagemap = {.fd = -1},
                            .maps = {.fd = -1}, .ksm = {.fd = -1}};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < (rlim_t)birth.descriptors) {
        birth.descriptors = (long)limit.rlim_cur;
    }
    /* V1. Gone from the parent again below. */
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        return -1;
    }
    /* V3. The bare call, because the C library's leaves out two signals. */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
    pid_t pid = clone(witness_main, stack + STACK, 0, &birth);
    saved = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
    munmap(stack, STACK);
    if (pid < 0) {
        errno = saved;
        return -1;
    }
    witness->pid = pid;
    witness->owner = cf_process_id();
    if (!cf_proc_is_ours()) {
        witness->pagemap.error = witness->maps.error = CF_OTHER_PROC;
        return 0;
    }
    witness->start_time = start_time_of(pid);
    open_files(witness);
    return 0;
}

bool
cf_witness_alive(const cf_witness *witness)
{
    if (witness->pid == 0) {
        return false;
    }
    if (cf_process_id() == witness->owner) {
        siginfo_t info = {.si_pid = 0};
        int options = WEXITED | WNOHANG | WNOWAIT | __WALL;
        return waitid(P_PID, (id_t)witness->pid, &info, options) == 0 &&
               info.si_pid == 0;
    }
    if (cf_file_intact(&witness->pagemap)) {
        /* The file holds the memory's identity, not the pid: it reads as
         * empty from the moment on that the witness gives its pages up. */
        uint64_t entry;
        off_t any = (off_t)((uintptr_t)&witness_main /
                            (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof(entry));
        return pread(witness->pagemap.fd, &entry, sizeof(entry), any) ==
               (ssize_t)sizeof(entry);
    }
    return witness->start_time != 0 &&
           start_time_of(witness->pid) == witness->start_time;
}

void
cf_witness_reopen(cf_witness *witness)
{
    bool lost = (witness->pagemap.error == 0 &&
                 !cf_file_intact(&witness->pagemap)) ||
                (witness->maps.error == 0 && !cf_file_intact(&witness->maps));
    if (!lost || witness->pid == 0) {
        return;
    }
    if (witness->start_time == 0 ||
        start_time_of(witness->pid) != witness->start_time) {
        return;
    }
    cf_file_close(&witness->pagemap);
    cf_file_close(&witness->maps);
    cf_file_close(&witness->ksm);
    open_files(witness);
}

void
cf_witness_stop(cf_witness *witness)
{
    if (witness->pid != 0 && cf_process_id() == witness->owner) {
        siginfo_t info;
        /* Whose child is it? If somebody else reaped it, the pid may name a
         * stranger by now: then it must not be killed. */
        if (waitid(P_PID, (id_t)witness->pid, &info,
                   WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) {
            kill(witness->pid, SIGKILL);
            while (waitpid(witness->pid, NULL, __WALL) < 0 &&
                   errno == EINTR) {
            }
        }
    }
    witness->pid = 0;
    cf_file_close(&witness->pagemap);
    cf_file_close(&witness->maps);
    cf_file_close(&witness->ksm);
}
