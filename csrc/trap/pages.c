/* pages.c - which pages a trap watches, and which were written already.
 *
 *   mappings   [ rw heap ............................ ][ r-x ][ rw arena ...... ]
 *   frozen        F F F . F F . . . . . . F F                   F F F F F F F F
 *   ranges       [-----] [---]           [---]                 [---------------]
 *   numbers       0 1 2   3 4             5 6                   7 8 ...
 *   done          0 0 1   0 0             0 0                   0 1 ...    a bit each
 *
 * Protecting a range splits a mapping in up to three, and a process may have
 * only vm.max_map_count of them. So where there would be too many, ranges with
 * a small gap between them are joined: the pages of the gap are done from the
 * start, which makes the handler open them without a word.
 *
 * Spared, whatever lies there, are
 *
 *   stacks               the handler itself runs on one
 *   the signal stack     the kernel writes the handler's frame there, and kills the process where it
 *                        cannot; faulthandler's is malloc's, often in the middle of frozen tables
 *   the thread pointer's page and its neighbours   the kernel writes the current CPU there (rseq)
 *
 * of the thread that begins the trap.
 */
#define _GNU_SOURCE
#include "trap/pages.h"

#include "base/mem.h"
#include "proc/pagemap.h"
#include "proc/procfile.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION ((uintptr_t)1 << 20)
#define MOST_OF_ALL ((size_t)1 << 22) /* ranges, where all pages are watched */

typedef struct {
    cf_watch *watch;
    cf_watch_scope scope;
    const cf_pageset *frozen;
    uintptr_t *regions;    /* starts of those that hold frozen pages, ascending */
    size_t n_regions;
    cf_file pagemap;
    uint64_t *entries;     /* CF_PAGEMAP_BLOCK of them */
} builder;

/* -- spared -------------------------------------------------------------- */

static void
find_spared(cf_watch *watch, const cf_watch_span *state)
{
    uintptr_t size = cf_page_size(), own = (uintptr_t)pthread_self() & ~(size - 1);
    stack_t stack;
    watch->spared[0] = (cf_watch_span){own - size, own + 2 * size};
    watch->spared[2] = *state;
    if (sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE) == 0) {
        uintptr_t start = (uintptr_t)stack.ss_sp;
        watch->spared[1] = (cf_watch_span){start & ~(size - 1),
                                     (start + stack.ss_size + size - 1) & ~(size - 1)};
    }
}

/* Is a page between START and END spared? */
static bool
is_spared(const cf_watch *watch, uintptr_t start, uintptr_t end)
{
    for (size_t i = 0; i < CF_SPARED; i++) {
        if (start < watch->spared[i].end && end > watch->spared[i].start) {
            return true;
        }
    }
    return false;
}

/* -- collecting ---------------------------------------------------------- */

static void
take(builder *b, uintptr_t page)
{
    cf_watch *watch = b->watch;
    uintptr_t size = cf_page_size();
    if (is_spared(watch, page, page + size)) {
        return;
    }
    if (watch->n > 0 && watch->ranges[watch->n - 1].end == page) {
        watch->ranges[watch->n - 1].end += size;
        return;
    }
    if (watch->n == watch->capacity) {
        /* Only of all pages: what lies between is looked at in vain. */
        watch->ranges[watch->n - 1].end = page + size;
        return;
    }
    watch->ranges[watch->n++] = (cf_watch_range){.start = page, .end = page + size};
}

static void
take_frozen(builder *b, const cf_mapping *mapping)
{
    uintptr_t size = cf_page_size();
    for (size_t i = 0; i < b->n_regions; i++) {
        uintptr_t page = b->regions[i] > mapping->start ? b->regions[i] : mapping->start;
        uintptr_t end = b->regions[i] + REGION < mapping->end ? b->regions[i] + REGION
                                                               : mapping->end;
        for (; page < end; page += size) {
            if (cf_pageset_contains(b->frozen, page)) {
                take(b, page);
            }
        }
    }
}

/* What is there at this moment, be it swapped out or on the move: a page that
 * comes later is nobody else's. */
static int
take_present(builder *b, const cf_mapping *mapping)
{
    uintptr_t size = cf_page_size();
    uintptr_t page = mapping->start / size, end = mapping->end / size;
    while (page < end) {
        size_t n = end - page < CF_PAGEMAP_BLOCK ? end - page : CF_PAGEMAP_BLOCK;
        if (cf_pagemap_read(&b->pagemap, b->entries, page, n) < 0) {
            return -1;
        }
        for (size_t i = 0; i < n; i++) {
            if ((b->entries[i] & CF_ENTRY_PRESENT) != 0 || cf_entry_is_swapped(b->entries[i])) {
                take(b, (page + i) * size);
            }
        }
        page += n;
    }
    return 0;
}

static int
add_region(uintptr_t start, uintptr_t end, void *arg)
{
    builder *b = arg;
    (void)end;
    if (b->regions != NULL) {
        b->regions[b->n_regions] = start;
    }
    b->n_regions++;
    return 0;
}

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

static int
collect(builder *b)
{
    cf_file maps;
    cf_maps position;
    cf_mapping mapping;
    int more = -1;
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    cf_file_open(&maps, "/proc/self/maps");
    if (buffer == NULL || maps.fd < 0) {
        errno = buffer == NULL ? ENOMEM : maps.error;
        goto done;
    }
    cf_maps_begin(&position, maps.fd, buffer, CF_MAPS_BUFFER);
    while ((more = cf_maps_next(&position, &mapping)) > 0) {
        b->watch->mappings++;
        if (!mapping.writable || mapping.area == CF_AREA_SKIP || mapping.area == CF_AREA_STACK) {
            continue;
        }
        if (b->scope == CF_WATCH_FROZEN) {
            take_frozen(b, &mapping);
        }
        else if (take_present(b, &mapping) < 0) {
            more = -1;
            break;
        }
    }

done:
    cf_file_close(&maps);
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return more;
}

/* How many of the watched pages has this process for itself? A figure for the
 * reader only: without the right to look it stays unknown. */
static void
count_exclusive(builder *b)
{
    cf_watch *watch = b->watch;
    uintptr_t size = cf_page_size();
    watch->exclusive_known = b->pagemap.fd >= 0;
    for (size_t i = 0; i < watch->n && watch->exclusive_known; i++) {
        uintptr_t page = watch->ranges[i].start / size, end = watch->ranges[i].end / size;
        while (page < end && watch->exclusive_known) {
            size_t n = end - page < CF_PAGEMAP_BLOCK ? end - page : CF_PAGEMAP_BLOCK;
            watch->exclusive_known = cf_pagemap_read(&b->pagemap, b->entries, page, n) == 0;
            for (size_t k = 0; k < n && watch->exclusive_known; k++) {
                watch->exclusive += (b->entries[k] & CF_ENTRY_EXCLUSIVE) != 0;
            }
            page += n;
        }
    }
}

/* -- mapping in ---------------------------------------------------------- */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; the headers of older systems lack it */
#endif

void
cf_watch_map_in(const cf_watch *watch)
{
    for (size_t i = 0; i < watch->n; i++) {
        const cf_watch_range *range = &watch->ranges[i];
        (void)madvise((void *)range->start, range->end - range->start, MADV_POPULATE_READ);
    }
}

/* -- joining ------------------------------------------------------------- */

/* May the gap between two ranges be protected as well? Only if it is writable
 * memory of the same mapping; where no mapping begins or ends inside. */
static size_t
join(cf_watch *watch, const cf_mapping *mappings, size_t n_mappings, uintptr_t gap)
{
    size_t kept = 0, at = 0;
    for (size_t i = 1; i < watch->n; i++) {
        cf_watch_range *last = &watch->ranges[kept];
        const cf_watch_range *next = &watch->ranges[i];
        while (at < n_mappings && mappings[at].end < last->end) {
            at++;
        }
        bool together = at < n_mappings && mappings[at].start <= last->start
                        && mappings[at].end >= next->end;
        if (together && next->start - last->end <= gap && !is_spared(watch, last->end, next->start)) {
            last->end = next->end;
        }
        else {
            watch->ranges[++kept] = *next;
        }
    }
    return watch->n == 0 ? 0 : kept + 1;
}

/* The writable private mappings of now; NULL: no memory or not readable. */
static cf_mapping *
read_mappings(size_t capacity, size_t *n)
{
    cf_file maps;
    cf_maps position;
    cf_mapping mapping;
    cf_mapping *found = cf_mem_reserve(capacity * sizeof(cf_mapping));
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    cf_file_open(&maps, "/proc/self/maps");
    *n = 0;
    if (found != NULL && buffer != NULL && maps.fd >= 0) {
        cf_maps_begin(&position, maps.fd, buffer, CF_MAPS_BUFFER);
        while (*n < capacity && cf_maps_next(&position, &mapping) > 0) {
            if (mapping.writable && mapping.area != CF_AREA_SKIP) {
                found[(*n)++] = mapping;
            }
        }
    }
    cf_file_close(&maps);
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return found;
}

static int
limit_ranges(cf_watch *watch, size_t most, bool *joined)
{
    *joined = false;
    if (watch->n <= most) {
        return 0;
    }
    size_t capacity = watch->mappings + 64, n;
    cf_mapping *mappings = read_mappings(capacity, &n);
    if (mappings == NULL) {
        return -1;
    }
    for (uintptr_t gap = cf_page_size(); watch->n > most && gap < (uintptr_t)1 << 32; gap *= 2) {
        watch->n = join(watch, mappings, n, gap);
    }
    cf_mem_unmap(mappings, capacity * sizeof(cf_mapping));
    *joined = true;
    return 0;
}

/* -- the whole ----------------------------------------------------------- */

/* Number the pages and make their bits. Pages that only join are done. */
static int
number_pages(cf_watch *watch, cf_watch_scope scope, const cf_pageset *frozen, bool joined)
{
    for (size_t i = 0; i < watch->n; i++) {
        watch->ranges[i].first = watch->pages;
        watch->pages += (watch->ranges[i].end - watch->ranges[i].start) / cf_page_size();
    }
    watch->done = cf_mem_reserve((watch->pages / 64 + 1) * sizeof(uint64_t));
    if (watch->done == NULL) {
        return -1;
    }
    for (size_t i = 0; joined && scope == CF_WATCH_FROZEN && i < watch->n; i++) {
        const cf_watch_range *range = &watch->ranges[i];
        for (uintptr_t page = range->start; page < range->end; page += cf_page_size()) {
            if (!cf_pageset_contains(frozen, page)) {
                cf_watch_set_done(watch, cf_watch_number(range, page));
                watch->joined++;
            }
        }
    }
    return 0;
}

int
cf_watch_build(cf_watch *watch, cf_watch_scope scope, const cf_pageset *frozen,
               const cf_watch_span *state, size_t most)
{
    int ret = -1;
    bool joined;
    builder b = {.watch = watch, .scope = scope, .frozen = frozen};
    size_t n_regions = 0;
    memset(watch, 0, sizeof(*watch));
    find_spared(watch, state);
    watch->capacity = scope == CF_WATCH_FROZEN ? cf_pageset_count(frozen) + 1
                                               : MOST_OF_ALL;
    watch->ranges = cf_mem_reserve(watch->capacity * sizeof(cf_watch_range));
    b.entries = cf_mem_map(CF_PAGEMAP_BLOCK * sizeof(uint64_t));
    cf_file_open(&b.pagemap, "/proc/self/pagemap");
    if (watch->ranges == NULL || b.entries == NULL) {
        errno = ENOMEM;
        goto done;
    }
    if (scope == CF_WATCH_ALL && b.pagemap.fd < 0) {
        errno = b.pagemap.error;
        goto done;
    }
    if (scope == CF_WATCH_FROZEN && frozen != NULL) {
        cf_pageset_ranges(frozen, add_region, &b);
        n_regions = b.n_regions;
        b.n_regions = 0;
        b.regions = cf_mem_map(n_regions * sizeof(uintptr_t) + 1);
        if (b.regions == NULL) {
            errno = ENOMEM;
            goto done;
        }
        cf_pageset_ranges(frozen, add_region, &b);
        qsort(b.regions, b.n_regions, sizeof(uintptr_t), by_address);
    }
    if (collect(&b) < 0) {
        goto done;
    }
    count_exclusive(&b);
    if (limit_ranges(watch, most, &joined) < 0
        || number_pages(watch, scope, frozen, joined) < 0) {
        errno = ENOMEM;
        goto done;
    }
    ret = 0;

done:
    cf_mem_unmap(b.regions, n_regions * sizeof(uintptr_t) + 1);
    cf_mem_unmap(b.entries, CF_PAGEMAP_BLOCK * sizeof(uint64_t));
    cf_file_close(&b.pagemap);
    if (ret < 0) {
        int error = errno;
        cf_watch_clear(watch);
        errno = error;
    }
    return ret;
}

void
cf_watch_clear(cf_watch *watch)
{
    cf_mem_unmap(watch->ranges, watch->capacity * sizeof(cf_watch_range));
    cf_mem_unmap((void *)watch->done, (watch->pages / 64 + 1) * sizeof(uint64_t));
    memset(watch, 0, sizeof(*watch));
}

cf_watch_range *
cf_watch_find(const cf_watch *watch, uintptr_t address)
{
    size_t low = 0, high = watch->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (watch->ranges[middle].start <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == 0 || address >= watch->ranges[low - 1].end) {
        return NULL;
    }
    return &watch->ranges[low - 1];
}
