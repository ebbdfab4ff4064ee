/* frozen_spans.c - which anonymous memory holds frozen objects and little else.
 *
 *   mapping  [ arena: fffffffffffff | arena: ffff.fffffff | arena: f..m.mm.f... ]
 *   units     |----- 1 MiB -----|----- 1 MiB -----|----- 1 MiB -----|---
 *   spans     [      full       ][    not full    ]      too little
 *
 *   f  page that holds a frozen object    m  page that holds none    .  no page
 *
 * An arena of pymalloc is 1 MiB, but nothing says where one begins, and it need
 * not: what counts is whether the parent will write there. So units are cut at
 * fixed addresses, and any private anonymous memory qualifies in which pages
 * hold frozen objects or their tables: arenas, the brk heap, large blocks of
 * malloc that have mappings of their own.
 *
 * Left alone are
 *   - the pages of the thread's own data: the kernel writes its CPU there at any
 *     moment (rseq), also between reading a page and replacing it;
 *   - the first and the last unit of the brk heap: brk() grows the last mapping,
 *     and explain finds malloc's chain of chunks by the first;
 *   - executable memory, and memory that a trap has made read-only.
 *
 * A page that another process maps too must not be moved: nothing would break,
 * but the memory would exist twice. The kernel says so for each page (bit 56 of
 * its pagemap entry), whoever shares it: a worker, its child, or the process
 * that this one was forked from.
 */
#define _GNU_SOURCE
#include "move/frozen_spans.h"

#include "proc/descendants.h"
#include "proc/ksm.h"
#include "proc/maps.h"
#include "base/mem.h"
#include "proc/pagemap.h"
#include "base/pageset.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_SPANS ((size_t)1 << 18) /* 256 GiB in units of 1 MiB */
#define SCRATCH ((size_t)64 << 10)

typedef struct {
    cf_spans *out;
    cf_file pagemap;
    uint64_t *entries;    /* CF_PAGEMAP_BLOCK of them */
    size_t unit;
    unsigned per_cent;
    bool whole;
} finder;

/* -- one unit ------------------------------------------------------------ */

static bool
is_own(uintptr_t start, uintptr_t end)
{
    uintptr_t page = cf_page_size();
    uintptr_t self = (uintptr_t)pthread_self() & ~(page - 1);
    /* Thread-local variables lie right before the descriptor, rseq behind it. */
    return start < self + 2 * page && end > self - page;
}

/* Judge [START, END). Returns 0, or -1 with errno. */
static int
look_at(finder *f, uintptr_t start, uintptr_t end)
{
    uintptr_t page = cf_page_size();
    size_t frozen = 0, present = 0, shared = 0;
    for (uintptr_t at = start; at < end; at += page) {
        frozen += cf_pageset_contains(cf_frozen_pages, at);
    }
    if (frozen == 0 || is_own(start, end)) {
        return 0;
    }
    size_t both = 0;
    for (uintptr_t at = start; at < end; at += CF_PAGEMAP_BLOCK * page) {
        size_t n = (end - at) / page;
        n = n < CF_PAGEMAP_BLOCK ? n : CF_PAGEMAP_BLOCK;
        if (cf_pagemap_read(&f->pagemap, f->entries, at / page, n) < 0) {
            return -1;
        }
        for (size_t i = 0; i < n; i++) {
            uint64_t entry = f->entries[i];
            if (!cf_entry_is_anonymous(entry) && !cf_entry_is_swapped(entry)) {
                continue;
            }
            bool holds = cf_pageset_contains(cf_frozen_pages, at + i * page);
            present++;
            both += holds;
            shared += holds && cf_entry_is_anonymous(entry) && !(entry & CF_ENTRY_EXCLUSIVE);
        }
    }
    cf_spans *out = f->out;
    if (both == 0 || both * 100 < present * f->per_cent) {
        return 0;
    }
    out->shared_pages += shared;
    if (out->n < MAX_SPANS) {
        out->spans[out->n++] = (cf_span){start, end, both == present};
    }
    return 0;
}

static int
look_at_mapping(finder *f, const cf_mapping *mapping)
{
    uintptr_t start = mapping->start, end = mapping->end, unit = f->unit;
    if (mapping->area == CF_AREA_HEAP) {
        start = (start / unit + 1) * unit;
        end = (end - 1) / unit * unit;
    }
    while (start < end) {
        uintptr_t next = (start / unit + 1) * unit;
        next = next < end ? next : end;
        if ((!f->whole || next - start == unit) && look_at(f, start, next) < 0) {
            return -1;
        }
        start = next;
    }
    return 0;
}

/* -- all of them --------------------------------------------------------- */

int
cf_spans_find(cf_spans *out, size_t unit, unsigned per_cent, bool whole)
{
    int ret = -1, got = -1, error = ENOMEM;
    cf_file maps = {.fd = -1};
    cf_maps position;
    cf_mapping mapping;
    *out = (cf_spans){0};
    finder f = {.out = out, .pagemap = {.fd = -1}, .unit = unit, .per_cent = per_cent,
                .whole = whole};
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    f.entries = cf_mem_map(CF_PAGEMAP_BLOCK * sizeof(uint64_t));
    out->spans = cf_mem_reserve(MAX_SPANS * sizeof(cf_span));
    if (buffer == NULL || f.entries == NULL || out->spans == NULL) {
        goto done;
    }
    cf_file_open(&maps, "/proc/self/maps");
    cf_file_open(&f.pagemap, "/proc/self/pagemap");
    if (maps.fd < 0 || f.pagemap.fd < 0) {
        error = maps.fd < 0 ? maps.error : f.pagemap.error;
        goto done;
    }
    cf_maps_begin(&position, maps.fd, buffer, CF_MAPS_BUFFER);
    while ((got = cf_maps_next(&position, &mapping)) > 0) {
        out->mappings++;
        bool anonymous = mapping.area == CF_AREA_ANON || mapping.area == CF_AREA_HEAP;
        if (cf_frozen_pages == NULL || !anonymous || !mapping.writable || mapping.executable) {
            continue;
        }
        if (look_at_mapping(&f, &mapping) < 0) {
            got = -1;
            break;
        }
    }
    error = errno;
    ret = got;

done:
    cf_file_close(&maps);
    cf_file_close(&f.pagemap);
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    cf_mem_unmap(f.entries, CF_PAGEMAP_BLOCK * sizeof(uint64_t));
    if (ret < 0) {
        cf_spans_clear(out);
        errno = error;
    }
    return ret;
}

void
cf_spans_clear(cf_spans *spans)
{
    cf_mem_unmap(spans->spans, MAX_SPANS * sizeof(cf_span));
    *spans = (cf_spans){0};
}

/* -- conditions ---------------------------------------------------------- */

/* A thread that was joined is gone for Python a moment before it is for the kernel. */
static int
settled_thread_count(void)
{
    int n = cf_thread_count();
    for (int tries = 0; n > 1 && tries < 50; tries++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        n = cf_thread_count();
    }
    return n;
}

/* Is the amount at LINE of /proc/self/status not 0? */
static bool
status_says(const char *status, const char *line)
{
    const char *found = strstr(status, line);
    return found != NULL && strtol(found + strlen(line), NULL, 10) != 0;
}

static bool
look_around(cf_moved *moved, char *scratch)
{
    int threads = settled_thread_count();
    if (threads < 0) {
        return cf_moved_refuse(moved, CF_MOVE_UNKNOWN, errno, 0);
    }
    if (threads != 1) {
        return cf_moved_refuse(moved, CF_MOVE_THREADS, 0, threads - 1);
    }
    if (cf_read_path("/proc/self/status", scratch, SCRATCH) <= 0) {
        return cf_moved_refuse(moved, CF_MOVE_UNKNOWN, errno, 0);
    }
    if (status_says(scratch, "\nVmLck:")) {
        return cf_moved_refuse(moved, CF_MOVE_LOCKED, 0, 0);
    }
    if (status_says(scratch, "\nVmPin:")) { /* what arrives would land in the frames of before */
        return cf_moved_refuse(moved, CF_MOVE_PINNED, 0, 0);
    }
    pid_t who = 0;
    cf_kin kin = cf_kin_look(scratch, SCRATCH, 0, &who);
    if (kin != CF_KIN_NONE) {
        return cf_moved_refuse(moved, kin == CF_KIN_SHARING ? CF_MOVE_SHARERS : CF_MOVE_UNKNOWN, 0, who);
    }
    cf_file ksm;
    cf_ksm_open(&ksm, "self");
    bool merged = cf_ksm_merged(&ksm) > 0;
    cf_file_close(&ksm);
    return merged ? cf_moved_refuse(moved, CF_MOVE_MERGED, 0, 0) : true;
}

bool
cf_spans_allowed(cf_moved *moved)
{
    char *scratch = cf_mem_map(SCRATCH);
    if (scratch == NULL) {
        return cf_moved_refuse(moved, CF_MOVE_MEMORY, ENOMEM, 0);
    }
    bool allowed = look_around(moved, scratch);
    cf_mem_unmap(scratch, SCRATCH);
    return allowed;
}
