/* huge_pages.c - put memory of frozen objects on huge pages.
 *
 *   before   [ 512 entries of the page table, 4 KiB each ]   fork copies 512 entries
 *   after    [ one entry, 2 MiB                          ]   fork copies one
 *
 * madvise(MADV_COLLAPSE) works on memory that already holds objects, without a
 * setting or a privilege (Linux 6.1). It must come before the first fork: on
 * pages that a worker shares it copies all of them. So it is refused while
 * anybody does (frozen_spans.c), and khugepaged, which would do the same in a worker, is
 * never asked for: the advice MADV_HUGEPAGE is given only where the interpreter
 * itself does so (CPython 3.15), and taken away again.
 *
 * A fork still takes time in proportion to the size, about a 27th. A worker that
 * writes copies 4 KiB, not 2 MiB. But a parent that writes to a huge page while
 * workers live splits it for good: forks get slower again.
 *
 * Taken are huge pages of which at least half of what is there holds frozen
 * objects. Pages of it that are not there are filled with zeros by the kernel.
 */
#define _GNU_SOURCE
#include "move/huge_pages.h"

#include "base/pageset.h"
#include "proc/procfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define PER_CENT 50
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* the headers of older systems lack it */
#endif

/* Bytes of a huge page; 0: this kernel has none. */
static size_t
huge_page_size(void)
{
    char text[32];
    if (cf_read_path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text, sizeof(text))
        <= 0) {
        return 0;
    }
    return (size_t)strtoul(text, NULL, 10);
}

static int
collapse(uintptr_t start, size_t size)
{
    if (madvise((void *)start, size, MADV_COLLAPSE) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -1;
    }
    /* A freeze before this one has told khugepaged to stay away (seal_pymalloc.c); that
     * advice forbids this call too, and is given again below. */
    if (madvise((void *)start, size, MADV_HUGEPAGE) < 0) {
        return -1;
    }
    int status = madvise((void *)start, size, MADV_COLLAPSE);
    int saved = errno;
    (void)madvise((void *)start, size, MADV_NOHUGEPAGE);
    errno = saved;
    return status;
}

/* Collapse a page of scratch memory: 0, or an errno. */
static int
try_it(size_t size)
{
    char *scratch = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);
    if (scratch == MAP_FAILED) {
        return errno;
    }
    uintptr_t start = ((uintptr_t)scratch + size - 1) & ~(uintptr_t)(size - 1);
    memset((void *)start, 1, cf_page_size());
    int error = madvise((void *)start, size, MADV_COLLAPSE) == 0 ? 0 : errno;
    munmap(scratch, 2 * size);
    return error;
}

bool
cf_collapse_check(cf_moved *moved)
{
    *moved = (cf_moved){0};
    if (!cf_spans_allowed(moved)) {
        return false;
    }
    size_t size = huge_page_size();
    if (size == 0) {
        return cf_moved_refuse(moved, CF_MOVE_NO_HUGE, 0, 0);
    }
    int disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    int error = disabled == 1 ? EPERM : try_it(size);
    if (error == EINVAL || error == EPERM) {
        return cf_moved_refuse(moved, CF_MOVE_NO_HUGE, error, 0);
    }
    if (error != 0) {
        return cf_moved_refuse(moved, CF_MOVE_MEMORY, error, 0);
    }
    cf_spans spans;
    if (cf_spans_find(&spans, size, PER_CENT, true) < 0) {
        return cf_moved_refuse(moved, errno == ENOMEM ? CF_MOVE_MEMORY : CF_MOVE_UNKNOWN, errno, 0);
    }
    bool shared = spans.shared_pages > 0;
    cf_spans_clear(&spans);
    return shared ? cf_moved_refuse(moved, CF_MOVE_SHARERS, 0, 0) : true;
}

static void
collapse_all(cf_moved *moved, const cf_spans *spans, size_t size)
{
    for (size_t i = 0; i < spans->n; i++) {
        if (collapse(spans->spans[i].start, size) == 0) {
            moved->bytes += size;
            moved->pieces++;
        }
        else {
            moved->failed_bytes += size;
            moved->error = errno;
        }
    }
    if (moved->pieces == 0) {
        moved->why = spans->n == 0 ? CF_MOVE_NOTHING : CF_MOVE_MEMORY;
    }
}

void
cf_collapse(cf_moved *moved)
{
    struct timespec start, end;
    cf_spans spans = {0};
    *moved = (cf_moved){0};
    clock_gettime(CLOCK_MONOTONIC, &start);
    size_t size = huge_page_size();
    if (!cf_spans_allowed(moved)) {
        goto done;
    }
    if (size == 0 || cf_spans_find(&spans, size, PER_CENT, true) < 0) {
        cf_moved_refuse(moved, size == 0 ? CF_MOVE_NO_HUGE : CF_MOVE_UNKNOWN, errno, 0);
        goto done;
    }
    if (spans.shared_pages > 0) {
        cf_moved_refuse(moved, CF_MOVE_SHARERS, 0, 0);
        goto done;
    }
    collapse_all(moved, &spans, size);

done:
    cf_spans_clear(&spans);
    clock_gettime(CLOCK_MONOTONIC, &end);
    moved->seconds = (double)(end.tv_sec - start.tv_sec)
                     + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
}
