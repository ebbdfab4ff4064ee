/* inherited.c - how many pages existed at the fork.
 *
 *   witness's maps      [ heap ] [ arena ] [ libc .text ] [ .data ]
 *   witness's pagemap    A A . Z  A A A A    F F . . F      A F
 *                        ^   `- absent  `- counted: anonymous, or swapped out
 *                        |     Z: the zero page, which nobody has to copy
 *
 * The witness never writes, so what it holds is what the fork found, and the
 * count may be taken at any time while it lives. It is the whole that copied
 * pages are a part of. A copied page over a file's page (.data) is the
 * exception: there was no page of this process before, so it is not in here.
 * Frozen objects in a memfd (remap.c, pack.c) are in here: they are memory of
 * this process, although fork maps none of their pages.
 */
#include "measure/inherited.h"

#include "proc/maps.h"
#include "base/mem.h"
#include "proc/pagemap.h"
#include "base/pageset.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    uint64_t entries[CF_PAGEMAP_BLOCK];
    char maps[CF_MAPS_BUFFER];
} workspace;

/* Bytes of zero page in MAPPING; 0 where the kernel cannot say. */
static uintptr_t
zero_bytes(const cf_file *pagemap, const cf_mapping *mapping)
{
    uintptr_t bytes = 0;
    cf_region found = {.end = mapping->start};
    while (found.end < mapping->end &&
           cf_pagemap_find(pagemap, found.end, mapping->end, CF_FIND_ZERO, 0,
                           &found) > 0) {
        bytes += found.end - found.start;
    }
    return bytes;
}

static bool
holds_frozen(uintptr_t address)
{
    return cf_frozen_pages != NULL &&
           cf_pageset_contains(cf_frozen_pages, address);
}

/* Add the pages of MAPPING to *PAGES. 0; -1 with errno. */
static int
count_mapping(const cf_witness *witness, workspace *work,
              const cf_mapping *mapping, int64_t *pages)
{
    size_t size = cf_page_size();
    uintptr_t page = mapping->start / size, stop = mapping->end / size;
    int64_t counted = 0;
    bool in_file = mapping->area == CF_AREA_FILE;
    while (page < stop) {
        size_t count = stop - page < CF_PAGEMAP_BLOCK ? stop - page
                                                      : CF_PAGEMAP_BLOCK;
        if (cf_pagemap_read(&witness->pagemap, work->entries, page, count) <
            0) {
            errno = errno == 0 ? ESRCH : errno;
            return -1;
        }
        int64_t before = counted;
        for (size_t i = 0; i < count; i++) {
            counted += cf_entry_is_anonymous(work->entries[i]) ||
                       cf_entry_is_swapped(work->entries[i]) ||
                       (in_file && holds_frozen((page + i) * size));
        }
        page += count;
        if (in_file) {
            continue;  /* what fork has not mapped must be looked at, too */
        }
        cf_region next;
        if (counted == before && page < stop &&
            cf_pagemap_find(&witness->pagemap, page * size, mapping->end,
                            CF_FIND_PRESENT | CF_FIND_SWAPPED, 1,
                            &next) >= 0) {
            /* Reserved but empty: jump to the next page that is there. */
            page = next.end == 0 ? stop : next.start / size;
        }
    }
    if (counted > 0) {
        counted -= (int64_t)(zero_bytes(&witness->pagemap, mapping) / size);
    }
    *pages += counted;
    return 0;
}

int
cf_inherited_pages(const cf_witness *witness, int64_t *pages)
{
    int ret = -1;
    cf_maps maps;
    cf_mapping mapping;
    int got;

    *pages = 0;
    workspace *work = cf_mem_map(sizeof(workspace));
    if (work == NULL) {
        errno = ENOMEM;
        goto done;
    }
    if (!cf_file_intact(&witness->pagemap) || !cf_file_intact(&witness->maps)) {
        errno = witness->pagemap.error ? witness->pagemap.error
                : witness->maps.error  ? witness->maps.error
                                       : EBADF;
        goto done;
    }
    cf_maps_begin(&maps, witness->maps.fd, work->maps, CF_MAPS_BUFFER);
    while ((got = cf_maps_next(&maps, &mapping)) > 0) {
        if (mapping.area != CF_AREA_SKIP &&
            count_mapping(witness, work, &mapping, pages) < 0) {
            goto done;
        }
    }
    if (got == 0 && !cf_witness_alive(witness)) {
        errno = ESRCH;  /* its maps read as empty */
        goto done;
    }
    ret = got;

done:
    if (work != NULL) {
        int saved = errno;
        cf_mem_unmap(work, sizeof(workspace));
        errno = saved;
    }
    return ret;
}
