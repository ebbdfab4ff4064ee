/* protect.c - pages that fault when they are written, through mprotect.
 *
 *   start                [ r-- ................................. ]   1 mapping
 *   a store faults       [ r-- ........ ][ rw- ][ r-- .......... ]   3
 *   its neighbour        [ r-- ........ ][ rw-  rw- ][ r-- ..... ]   3
 *   elsewhere            [ r-- ][ rw- ][ r-- ][ rw-  rw- ][ r--  ]   5
 *
 * Works everywhere, and at a price: scattered stores split mappings, and a
 * process has at most vm.max_map_count (65,530). When the handler gets ENOMEM,
 * it opens all ranges as a whole, which only joins mappings and so cannot
 * fail: the worker goes on, and what is written later is not seen.
 *
 * The kernel does not fault for its own stores: read(2) into a protected page
 * returns EFAULT. Frozen pages hold objects that nobody reads into, but a
 * buffer can share a page with one.
 *
 * Ranges are opened without a look at what is there now: frozen objects are
 * never freed, so nobody else can have got their addresses.
 */
#define _GNU_SOURCE
#include "trap/protect.h"

#include "proc/procfile.h"

#include <stdlib.h>
#include <sys/mman.h>

#define DEFAULT_MOST_MAPPINGS 65530
#define SPLITS_PER_RANGE 2

size_t
cf_protect_most_ranges(void)
{
    char text[32];
    long most = DEFAULT_MOST_MAPPINGS;
    if (cf_read_path("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0) {
        most = strtol(text, NULL, 10);
    }
    /* A quarter of them: the rest is for pages that are opened, and the program. */
    return most > 0 ? (size_t)most / 4 / SPLITS_PER_RANGE : 1;
}

static int
set_open(cf_watch_range *range, bool open)
{
    int access = open ? PROT_READ | PROT_WRITE : PROT_READ;
    return mprotect((void *)range->start, range->end - range->start, access);
}

int
cf_protect_start(cf_watch *watch)
{
    for (size_t i = 0; i < watch->n; i++) {
        watch->ranges[i].protected = true;
        if (set_open(&watch->ranges[i], false) < 0) {
            cf_protect_stop(watch);
            return -1;
        }
    }
    return 0;
}

size_t
cf_protect_open(cf_watch *watch, uintptr_t address)
{
    uintptr_t size = cf_page_size();
    if (mprotect((void *)(address & ~(size - 1)), size, PROT_READ | PROT_WRITE) == 0) {
        return 0;
    }
    size_t opened = 0;
    for (size_t number = 0; number < watch->pages; number++) {
        opened += !cf_watch_is_done(watch, number);
    }
    cf_protect_stop(watch);
    return opened;
}

void
cf_protect_stop(cf_watch *watch)
{
    uintptr_t size = cf_page_size();
    for (size_t i = 0; i < watch->n; i++) {
        cf_watch_range *range = &watch->ranges[i];
        if (!range->protected) {
            continue;
        }
        range->protected = false;
        if (set_open(range, true) == 0) {
            continue;
        }
        /* A part was unmapped: the kernel stops there. */
        for (uintptr_t page = range->start; page < range->end; page += size) {
            mprotect((void *)page, size, PROT_READ | PROT_WRITE);
        }
    }
}
