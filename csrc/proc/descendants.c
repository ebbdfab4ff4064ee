/* descendants.c - live descendants that share this process's pages.
 *
 * "Mapped by this process only" (bit 56) tells a worker's copies, until the
 * worker forks: then its child maps them too, and every copy looks shared as
 * long as the child lives.
 *
 *   worker --+-- child              has the memory: blinds
 *            +-- (zombie)           has none any more
 *            +-- child, after exec  has memory of its own ...
 *            |     `-- grandchild   ... but may have forked before: blinds
 *            `-- orphan             blinds; comes to us because the worker
 *                                   is the reaper of its descendants
 *
 * The tree is read from /proc/PID/task/TID/children. Whether a process has
 * our memory is told by its auxiliary vector, which belongs to the memory.
 * Processes that are just ending or inside exec are neither: look again.
 *
 * Start reading at cf_kin_look().
 */
#define _GNU_SOURCE
#include "proc/descendants.h"

#include "proc/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    pid_t *pids;   /* a queue: found, and up to `done` looked at */
    size_t count;
    size_t room;
} pid_list;

/* Add the pids of a children file ("12 13 14 "). 0; -1: unreadable, full. */
static int
add_children_of_thread(pid_list *list, const char *process, const char *thread)
{
    char path[96], text[1024];
    pid_t value = 0;
    off_t offset = 0;
    int ret = -1;

    snprintf(path, sizeof(path), "/proc/%.20s/task/%.20s/children", process,
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

/* Add the children of every thread of PROCESS, a pid or "self". 0; -1 with
 * errno. */
static int
add_children(pid_list *list, const char *process)
{
    /* getdents64 itself, because opendir takes memory from the heap. */
    char path[64];
    _Alignas(8) char entries[2048];
    int ret = -1;
    long got;

    snprintf(path, sizeof(path), "/proc/%.20s/task", process);
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
            if (add_children_of_thread(list, process, entry->name) < 0) {
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
    const char *state = cf_stat_field(line, 3);
    const char *threads = cf_stat_field(line, 20);
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
    char ours[2048], name[16];
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
    /* By name: in a PID namespace below the one that /proc was mounted in, our
     * own number names somebody else there. */
    if (length <= 0 || add_children(list, "self") < 0) {
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
            snprintf(name, sizeof(name), "%d", (int)pid);
            if (add_children(list, name) < 0 && !is_dead(pid)) {
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
