/* perf.c - page faults that arrive as signals, through perf events.
 *
 *   store into a shared page
 *     -> page fault: the kernel copies the page
 *     -> SIGTRAP in the thread that stores, before the store is done again
 *          si_addr          the address
 *          si_perf_data     MARK: ours
 *     -> the store
 *
 * A software event needs no hardware counter; page-faults-min with a period of
 * one, of user mode only, which an ordinary user may have as long as
 * kernel.perf_event_paranoid is at most 2. The word at the address still has its
 * old value in the handler, and no mapping is split. A store by the kernel
 * (read(2) into a buffer) is not seen, and works.
 *
 * One event per thread, inherited by threads that start later but not by
 * processes (inherit_thread), so a forked child is quiet. sigtrap exists since
 * Linux 5.13; before 5.18 a signal that the thread blocks ended the process.
 */
#define _GNU_SOURCE
#include "trap/perf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MARK UINT64_C(0xC0F4EE2E)
#define TRAP_PERF_CODE 6        /* si_code TRAP_PERF; glibc 2.34 has the name */
#define PERF_DATA_OFFSET 24     /* of si_perf_data in siginfo_t: behind si_addr */
#define HIGH_DESCRIPTOR 500     /* programs count up from 3 and close what they know */

/* struct perf_event_attr of Linux 5.13 in 64-bit words: older headers, on which
 * a wheel may be built, lack its last field and these flags. */
#define ATTRIBUTES_SIZE 128     /* PERF_ATTR_SIZE_VER7 */
#define SIG_DATA_WORD 15
#define FLAG_INHERIT_THREAD (UINT64_C(1) << 35)
#define FLAG_REMOVE_ON_EXEC (UINT64_C(1) << 36)
#define FLAG_SIGTRAP (UINT64_C(1) << 37)
#define FLAG_DISABLED (UINT64_C(1) << 0)
#define FLAG_INHERIT (UINT64_C(1) << 1)
#define FLAG_EXCLUDE_KERNEL (UINT64_C(1) << 5)
#define FLAG_EXCLUDE_HYPERVISOR (UINT64_C(1) << 6)

static bool
kernel_is_too_old(void)
{
    struct utsname name;
    if (uname(&name) < 0) {
        return true;
    }
    char *minor;
    long major = strtol(name.release, &minor, 10);
    return major < 5 || (major == 5 && *minor == '.' && strtol(minor + 1, NULL, 10) < 18);
}

static int
open_event(cf_perf *perf, pid_t thread)
{
    uint64_t words[ATTRIBUTES_SIZE / 8] = {0};
    words[0] = PERF_TYPE_SOFTWARE | (uint64_t)ATTRIBUTES_SIZE << 32;
    words[1] = PERF_COUNT_SW_PAGE_FAULTS_MIN;
    words[2] = 1; /* sample_period */
    words[3] = PERF_SAMPLE_ADDR;
    words[5] = FLAG_DISABLED | FLAG_INHERIT | FLAG_INHERIT_THREAD | FLAG_EXCLUDE_KERNEL
               | FLAG_EXCLUDE_HYPERVISOR | FLAG_REMOVE_ON_EXEC | FLAG_SIGTRAP;
    words[SIG_DATA_WORD] = MARK;
    int fd = (int)syscall(SYS_perf_event_open, words, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    perf->fds[perf->n] = fd;
    if (ioctl(fd, PERF_EVENT_IOC_ID, &perf->ids[perf->n]) < 0) {
        close(fd);
        return -1;
    }
    perf->n++;
    return 0;
}

int
cf_perf_open(cf_perf *perf)
{
    int ret = -1;
    perf->n = 0;
    if (kernel_is_too_old()) {
        errno = ENOTSUP;
        return -1;
    }
    DIR *threads = opendir("/proc/self/task");
    if (threads == NULL) {
        return -1;
    }
    struct dirent *entry;
    while ((entry = readdir(threads)) != NULL) {
        pid_t thread = (pid_t)atoi(entry->d_name);
        if (thread <= 0) {
            continue;
        }
        if (perf->n == CF_PERF_MAX_THREADS) {
            errno = EAGAIN;
            goto done;
        }
        if (open_event(perf, thread) < 0 && errno != ESRCH) {
            goto done;
        }
    }
    ret = 0;

done:
    {
        int error = errno;
        closedir(threads);
        if (ret < 0) {
            cf_perf_close(perf);
        }
        errno = error;
    }
    return ret;
}

/* Is the descriptor still the event that was opened? */
static bool
is_intact(const cf_perf *perf, size_t i)
{
    uint64_t id;
    return ioctl(perf->fds[i], PERF_EVENT_IOC_ID, &id) == 0 && id == perf->ids[i];
}

void
cf_perf_enable(cf_perf *perf, bool on)
{
    for (size_t i = 0; i < perf->n; i++) {
        if (is_intact(perf, i)) {
            ioctl(perf->fds[i], on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
        }
    }
}

uint64_t
cf_perf_count(const cf_perf *perf)
{
    uint64_t total = 0, count;
    for (size_t i = 0; i < perf->n; i++) {
        if (!is_intact(perf, i)
            || read(perf->fds[i], &count, sizeof(count)) != (ssize_t)sizeof(count)) {
            return UINT64_MAX;
        }
        total += count;
    }
    return total;
}

void
cf_perf_close(cf_perf *perf)
{
    for (size_t i = 0; i < perf->n; i++) {
        if (is_intact(perf, i)) {
            close(perf->fds[i]);
        }
    }
    perf->n = 0;
}

bool
cf_perf_is_ours(const siginfo_t *info, uintptr_t *address)
{
    uint64_t data;
    memcpy(&data, (const char *)info + PERF_DATA_OFFSET, sizeof(data));
    *address = (uintptr_t)info->si_addr;
    return info->si_code == TRAP_PERF_CODE && data == MARK;
}
