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
 *   W1  runs on a stack of its own. It is a shared mapping, so that its
 *       pages are no anonymous pages: the parent gives these addresses back,
 *       and what a worker maps there later would otherwise look like a copy
 *       of the witness's stack;
 *   W2  calls the kernel directly: the C library's wrappers write errno, its
 *       fork() runs the handlers of pthread_atfork;
 *   W3  is born with every signal blocked, so no handler of the application
 *       runs in it, and neither Ctrl-C nor Ctrl-Z reaches it;
 *   W4  closes every descriptor, so that no pipe or socket stays open;
 *   W5  is killed by the kernel when the thread that forked it ends.
 * One page it does write: the kernel itself stores the current CPU into the
 * thread's rseq area. The worker's first instruction does so too, on the
 * same page, so no verdict depends on it.
 *
 * It is forked with exit signal 0. The application's wait(-1) does not see
 * such a child and gets no SIGCHLD for it; only our __WALL reaps it.
 *
 * What blinds bit 56 all the same, and is looked for here:
 *   - a live child of the worker shares the worker's copies with it until it
 *     ends or calls exec;
 *   - KSM, which makes one page of equal ones.
 *
 * Start reading at cf_witness_start(), then cf_kin_look().
 */
#define _GNU_SOURCE
#include "witness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436  /* Linux 5.9; one number on all architectures */
#endif

/* ---- the child -------------------------------------------------------- */

/* A system call that does not write errno (W2). */
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
    if (bare_call(SYS_getppid, 0, 0, 0, 0, 0) != birth->parent) {
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

/* Skip to the FIELD-th field (counted as in proc(5), from 3) of a stat line;
 * the name in field 2 may hold blanks and brackets, so count from the last
 * ')'. NULL if there are fewer. */
static const char *
stat_field(const char *line, int field)
{
    const char *at = strrchr(line, ')');
    if (at == NULL || at[1] != ' ') {
        return NULL;
    }
    at += 2;
    for (int i = 3; i < field; i++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            return NULL;
        }
        at++;
    }
    return at;
}

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
    const char *state = stat_field(line, 3);
    const char *field = stat_field(line, 22);
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
    /* W1. Gone from the parent again below. */
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        return -1;
    }
    /* W3. The bare call, because the C library's leaves out two signals. */
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
    witness->owner = birth.parent;
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
    if (getpid() == witness->owner) {
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
    if (witness->pid != 0 && getpid() == witness->owner) {
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

/* ---- descendants ------------------------------------------------------ */

typedef struct {
    pid_t *pids;   /* a queue: found, and up to `done` looked at */
    size_t count;
    size_t room;
} pid_list;

/* Add the pids of a children file ("12 13 14 "). 0; -1: unreadable, full. */
static int
add_children_of_thread(pid_list *list, pid_t pid, const char *thread)
{
    char path[96], text[1024];
    pid_t value = 0;
    off_t offset = 0;
    int ret = -1;

    snprintf(path, sizeof(path), "/proc/%d/task/%.20s/children", (int)pid,
             thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    for (;;) {
        ssize_t got = pread(fd, text, sizeof(text), offset);
        if (got < 0) {
            goto done;
        }
        for (ssize_t i = 0; i < got; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                value = value * 10 + (text[i] - '0');
                continue;
            }
            if (value != 0) {
                if (list->count == list->room) {
                    goto done;
                }
                list->pids[list->count++] = value;
                value = 0;
            }
        }
        if (got == 0) {
            break;
        }
        offset += got;
    }
    ret = 0;

done:
    close(fd);
    return ret;
}

struct dirent64_head {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Add the children of every thread of PID. 0; -1 with errno. */
static int
add_children(pid_list *list, pid_t pid)
{
    /* getdents64 itself, because opendir takes memory from the heap. */
    char path[64];
    _Alignas(8) char entries[2048];
    int ret = -1;
    long got;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    while ((got = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < got;) {
            struct dirent64_head *entry = (void *)(entries + at);
            at += entry->length;
            if (entry->name[0] == '.') {
                continue;
            }
            if (add_children_of_thread(list, pid, entry->name) < 0) {
                goto done;
            }
        }
    }
    ret = got < 0 ? -1 : 0;

done:
    close(fd);
    return ret;
}

/* Is PID a zombie, which holds no memory, or gone altogether? */
static bool
is_dead(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (cf_read_path(path, line, sizeof(line)) <= 0) {
        return errno == ENOENT || errno == ESRCH;
    }
    const char *state = stat_field(line, 3);
    const char *threads = stat_field(line, 20);
    if (state == NULL || threads == NULL) {
        return false;
    }
    /* A leader that ended before its threads is a zombie with memory. */
    return (*state == 'Z' || *state == 'X') && strtol(threads, NULL, 10) <= 1;
}

typedef enum { MEMORY_OURS, MEMORY_OTHER, MEMORY_IN_BETWEEN } memory_of;

/* Does PID still have the memory that it was forked with?
 * The auxiliary vector belongs to the memory: fork copies it, exec makes a
 * new one, with addresses of a newly randomised stack. Equal: ours. (With
 * randomisation switched off an exec may look equal: the safe error.) Empty,
 * or without entries: the process ends or is inside exec at this moment, and
 * may hold the old pages until it has done so. */
static memory_of
compare_memory(pid_t pid, const char *ours, ssize_t our_length)
{
    char path[64];
    char theirs[2048];
    unsigned long first = 0;
    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
    ssize_t length = cf_read_path(path, theirs, sizeof(theirs));
    if (length < 0) {
        return errno == ENOENT || errno == ESRCH ? MEMORY_IN_BETWEEN
                                                 : MEMORY_OURS;
    }
    if (length >= (ssize_t)sizeof(first)) {
        memcpy(&first, theirs, sizeof(first));
    }
    if (first == 0) {
        return MEMORY_IN_BETWEEN;
    }
    if (length == our_length && memcmp(ours, theirs, (size_t)length) == 0) {
        return MEMORY_OURS;
    }
    return MEMORY_OTHER;
}

/* One pass over the tree below this process. CF_KIN_UNKNOWN also means "one
 * of them is on the move": look again. */
static cf_kin
look_once(pid_list *list, pid_t except, pid_t *who)
{
    char ours[2048];
    siginfo_t info = {.si_pid = 0};
    cf_kin answer = CF_KIN_NONE;

    *who = 0;
    /* The usual answer takes one call: no child at all. */
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 &&
        errno == ECHILD) {
        return CF_KIN_NONE;
    }
    ssize_t length = cf_read_path("/proc/self/auxv", ours, sizeof(ours));
    list->count = 0;
    if (length <= 0 || add_children(list, getpid()) < 0) {
        return CF_KIN_UNKNOWN;
    }
    for (size_t i = 0; i < list->count; i++) {
        pid_t pid = list->pids[i];
        if (pid == except || is_dead(pid)) {
            continue;
        }
        switch (compare_memory(pid, ours, length)) {
        case MEMORY_OURS:
            *who = pid;
            return CF_KIN_SHARING;
        case MEMORY_IN_BETWEEN:
            *who = pid;
            answer = CF_KIN_UNKNOWN;
            break;
        case MEMORY_OTHER:
            /* It called exec itself, but may have forked before. */
            if (add_children(list, pid) < 0 && !is_dead(pid)) {
                *who = pid;
                answer = CF_KIN_UNKNOWN;
            }
            break;
        }
    }
    return answer;
}

cf_kin
cf_kin_look(char *scratch, size_t size, pid_t except, pid_t *who)
{
    pid_list list = {.pids = (pid_t *)(void *)scratch,
                     .room = size / sizeof(pid_t)};
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    cf_kin answer = CF_KIN_UNKNOWN;
    /* 20 ms: ending or exec of a process that has little memory of its own
     * takes far less, and a wrong number is worse than "unknown". */
    for (int attempt = 0; attempt < 20; attempt++) {
        answer = look_once(&list, except, who);
        if (answer != CF_KIN_UNKNOWN) {
            break;
        }
        nanosleep(&pause, NULL);
    }
    return answer;
}

/* ---- merged pages ----------------------------------------------------- */

void
cf_ksm_open(cf_file *file, const char *pid)
{
    char path[64], text[512];
    /* ksm_stat also counts merged zero pages (Linux 6.6), but has the
     * count of merged pages only since 6.4. */
    snprintf(path, sizeof(path), "/proc/%.20s/ksm_stat", pid);
    cf_file_open(file, path);
    if (file->fd >= 0 && cf_read_file(file, text, sizeof(text)) > 0 &&
        strstr(text, "ksm_merging_pages") != NULL) {
        return;
    }
    cf_file_close(file);
    snprintf(path, sizeof(path), "/proc/%.20s/ksm_merging_pages", pid);
    cf_file_open(file, path);
}

static int64_t
labelled(const char *text, const char *label)
{
    const char *at = strstr(text, label);
    return at == NULL ? 0 : strtoll(at + strlen(label), NULL, 10);
}

int64_t
cf_ksm_merged(const cf_file *file)
{
    char text[512];
    if (cf_read_file(file, text, sizeof(text)) > 0) {
        if (text[0] >= '0' && text[0] <= '9') {
            return strtoll(text, NULL, 10);
        }
        return labelled(text, "ksm_merging_pages ") +
               labelled(text, "ksm_zero_pages ");
    }
    /* Older kernels and processes without permission: if nothing is merged
     * on the whole machine, then nothing of this process is. No such file:
     * the kernel cannot merge. */
    if (cf_read_path("/sys/kernel/mm/ksm/pages_sharing", text,
                     sizeof(text)) > 0) {
        return strtoll(text, NULL, 10) == 0 ? 0 : -1;
    }
    return 0;
}
