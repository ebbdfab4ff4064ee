/* migration.c - pages that the kernel moves while we look at them.
 *
 * Compaction (which makes room for huge pages, in the background and whenever
 * somebody asks for one), NUMA balancing and memory hotplug move pages. One
 * that three processes share goes through these entries in their page maps:
 *
 *              at rest  -- taken out, one by one --  -- put back --   at rest
 *   parent     shared   moving   moving    moving    moving   shared   shared
 *   witness    shared   shared   moving    moving    moving   moving   shared
 *   worker     shared   shared   ALONE     moving    ALONE    shared   shared
 *
 *   moving   reads as swapped out, and bit 56 with it is 0
 *   ALONE    nobody else maps the page at this moment, so bit 56 is set; in
 *            which order the entries go and come back differs
 *
 * Two things follow.
 *
 * What reads as swapped out may be on the move. A batch of pages (up to 512)
 * stays so for as long as copying it takes, and longer if the kernel's thread
 * loses the processor meanwhile: milliseconds, on a busy machine tens of
 * them. No bit tells the two apart without privileges. But where nothing at
 * all is swapped out, everything that looks so is on the move and comes back:
 * then we wait for it, else only for a moment.
 *
 * A shared page may read as the worker's own, for as long as others' entries
 * say "moving". Who reads the worker's entry, then the witness's, sees ALONE
 * and, if the move ended in between, "present": a copy that was never made.
 * So the worker's entry is read once more behind the witness's. Now the same
 * mistake takes two moves of one page between three readings.
 *
 * Measured beside a process that compacts all memory without a pause, on two
 * processors: of 48 test runs with ten forks each, figures were unknown or a
 * page too high in 14 without this, and in none of 80 with it.
 *
 * Sources: the kernel's mm/migrate.c (migrate_pages_batch), mm/rmap.c
 * (try_to_migrate_one, remove_migration_pte), fs/proc/task_mmu.c
 * (pte_to_pagemap_entry).
 */
#define _GNU_SOURCE
#include "measure/migration.h"

#include <sys/sysinfo.h>
#include <time.h>

#define FIRST_PAUSE_NS 20000L      /* 20 us */
#define LONGEST_PAUSE_NS 5000000L  /* 5 ms */
#define PATIENCE_NS 2000000000L    /* 2 s */
#define SHORT_PATIENCE_NS 50000000L

/* Is there swap space, and is some of it taken? Of the whole machine: this
 * takes one system call and no file. */
static bool
something_is_swapped(void)
{
    struct sysinfo info;
    return sysinfo(&info) < 0 || info.freeswap < info.totalswap;
}

bool
cf_patience_wait(cf_patience *patience, long *pause)
{
    if (!patience->begun) {
        patience->begun = true;
        patience->left_ns = something_is_swapped() ? SHORT_PATIENCE_NS : PATIENCE_NS;
    }
    if (patience->left_ns <= 0) {
        return false;
    }
    *pause = *pause == 0 ? FIRST_PAUSE_NS : 2 * *pause;
    *pause = *pause < LONGEST_PAUSE_NS ? *pause : LONGEST_PAUSE_NS;
    patience->left_ns -= *pause;
    nanosleep(&(struct timespec){.tv_nsec = *pause}, NULL);
    return true;
}
