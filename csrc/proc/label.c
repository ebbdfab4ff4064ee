/* label.c - what /proc/PID/maps shows of this process, for who looks from outside.
 *
 *   7f12c0000000-7f12c0001000 r--s 00000000 00:01 1027   /memfd:cowfreeze frozen=... (deleted)
 *
 * A mapping of one page of a memfd, whose name is the text. Nobody reads or writes the page, so it takes
 * no memory, and a fork hands it on. Unlike PR_SET_VMA_ANON_NAME it needs no option of the kernel.
 * Source: memfd_create(2), proc_pid_maps(5).
 */
#define _GNU_SOURCE
#include "proc/label.h"

#include <sys/mman.h>
#include <unistd.h>

static void *shown; /* the mapping; guarded by the GIL of the main interpreter, which alone freezes */

int
cf_label_set(const char *text)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    int fd = memfd_create(text, MFD_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    void *page = ftruncate(fd, (off_t)size) == 0 ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (page == MAP_FAILED) {
        return -1;
    }
    if (shown != NULL) {
        munmap(shown, size);
    }
    shown = page;
    return 0;
}
