/* canary.c - a page that tells whether anybody else has this process's memory.
 *
 *   worker             [ canary ]      bit 56: exclusive
 *     fork, clone ...
 *   whoever it is      [ canary ]      neither of the two is any more
 *
 * Bit 56 does not show a worker's copies while another process has them too
 * (descendants.c). The tree of processes does not show all of these: a child
 * made with CLONE_PARENT is no child of the worker, and an orphan is not if
 * somebody took the office of reaper from the worker. But whoever was forked
 * from it, wherever it stands, has this page, which nobody ever writes again:
 * so while it lives, the page is not the worker's alone.
 *
 * What it does not show is a process that is just ending: the kernel unmaps
 * from low addresses to high ones, and what lies above the page may be mapped
 * for some milliseconds more. Among descendants descendants.c sees that.
 */
#define _GNU_SOURCE
#include "measure/canary.h"

#include "base/pageset.h"
#include "proc/pagemap.h"

#include <stddef.h>
#include <sys/mman.h>
#include <time.h>

cf_canary
cf_canary_new(void)
{
    void *page = mmap(NULL, cf_page_size(), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    *(cf_canary)page = 1;
    return page;
}

void
cf_canary_free(cf_canary canary)
{
    if (canary != NULL) {
        munmap((void *)canary, cf_page_size());
    }
}

cf_canary_state
cf_canary_look(cf_canary canary, const cf_file *pagemap)
{
    /* 20 ms for a page that the kernel is moving. One that it has swapped out
     * stays unknown: nobody touches it. */
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    for (int attempt = 0; canary != NULL && attempt < 20; attempt++) {
        uint64_t entry;
        if (cf_pagemap_read(pagemap, &entry,
                            (uintptr_t)canary / cf_page_size(), 1) < 0) {
            break;
        }
        if (cf_entry_is_anonymous(entry)) {
            return entry & CF_ENTRY_EXCLUSIVE ? CF_CANARY_ALONE
                                              : CF_CANARY_SHARED;
        }
        nanosleep(&pause, NULL);
    }
    return CF_CANARY_UNKNOWN;
}
