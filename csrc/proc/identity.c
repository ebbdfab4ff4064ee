/* identity.c - which process is this, and which processes does /proc number?
 *
 *   parent   [ 17 ]          one page, MADV_WIPEONFORK
 *               fork
 *   child    [  0 ]          the kernel gives every child an empty one
 *   child    [ 42 ]          and whoever finds it empty writes the time
 *
 * A child asks later than its parent, so it has a larger number. Before Linux
 * 4.14 no page is wiped; there the pid has to do.
 */
#define _GNU_SOURCE
#include "proc/identity.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* Mapped by the first process that asks; NULL: not yet, MAP_FAILED: no use. Written
 * under the GIL. */
static volatile uint64_t *mark;

static void
map_mark(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) < 0) {
        munmap(page, size);
        page = MAP_FAILED;
    }
    mark = page;
}

uint64_t
cf_process_id(void)
{
    if (mark == NULL) {
        map_mark();
    }
    if ((void *)mark == MAP_FAILED) {
        return (uint64_t)getpid();
    }
    if (*mark == 0) {
        struct timespec now = {0};
        clock_gettime(CLOCK_MONOTONIC, &now);
        *mark = ((uint64_t)now.tv_sec * UINT64_C(1000000000) +
                 (uint64_t)now.tv_nsec) | 1;
    }
    return *mark;
}

bool
cf_proc_is_ours(void)
{
    char text[32];
    ssize_t length = readlink("/proc/self", text, sizeof(text) - 1);
    if (length <= 0) {
        return false;
    }
    text[length] = '\0';
    return strtol(text, NULL, 10) == (long)getpid();
}
