/* audit.c - a process measures which pages it has copied.
 *
 *   parent    ---+-- fork --+-- fork -----------------------> reads the record
 *   witness      `-------------------------------------------------->
 *   worker                  `-- cf_audit_start -- its work -- cf_audit_measure
 *                               opens its files,              |
 *                               counts its faults             `-> [ record ]
 *
 * A figure leaves here only if nothing speaks against it: before and behind
 * the scan we ask for what blinds it (a live child, merged pages, a dead
 * witness), and every doubt withdraws the figures and sets a bit that says
 * why. So the steps of a measuring are
 *
 *   faults   first, because the measuring itself faults
 *   files    are ours still open? renew them
 *   blinds   choose bit 56 or page frames, or give up
 *   scan     scan.c
 *   blinds   once more, for what threads of the worker did meanwhile
 *   withdraw
 *
 * Start reading at measure().
 */
#define _GNU_SOURCE
#include "measure/audit.h"

#include "proc/descendants.h"
#include "proc/identity.h"
#include "proc/ksm.h"
#include "base/pageset.h"
#include "measure/scan.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- conditions ------------------------------------------------------- */

static void
open_own_files(cf_audit *audit)
{
    cf_file_open(&audit->pagemap, "/proc/self/pagemap");
    cf_file_open(&audit->maps, "/proc/self/maps");
    cf_ksm_open(&audit->ksm, "self");
}

static void
close_own_files(cf_audit *audit)
{
    cf_file_close(&audit->pagemap);
    cf_file_close(&audit->maps);
    cf_file_close(&audit->ksm);
}

/* Are all files there? The application may have closed them. */
static void
check_files(cf_audit *audit, cf_record *record)
{
    if (!cf_file_intact(&audit->pagemap) || !cf_file_intact(&audit->maps)) {
        close_own_files(audit);
        open_own_files(audit);
    }
    /* The struct is this process's own copy; only its files are renewed. */
    cf_witness_reopen(audit->witness);
    if (audit->pagemap.fd < 0) {
        record->why |= CF_WHY_NO_PAGEMAP;
        record->error = audit->pagemap.error;
    }
    if (audit->maps.fd < 0) {
        record->why |= CF_WHY_NO_MAPS;
        record->error = audit->maps.error;
    }
    if (!cf_file_intact(&audit->witness->pagemap) ||
        !cf_file_intact(&audit->witness->maps)) {
        const cf_file *file = cf_file_intact(&audit->witness->pagemap)
                                  ? &audit->witness->maps
                                  : &audit->witness->pagemap;
        bool other = file->error == CF_OTHER_PROC;
        bool dead = audit->witness->pid == 0 || file->error == ENOENT ||
                    file->error == ESRCH ||
                    (file->error == 0 && !cf_witness_alive(audit->witness));
        record->why |= other  ? CF_WHY_OTHER_PROC
                       : dead ? CF_WHY_WITNESS_DIED
                              : CF_WHY_NO_WITNESS_FILE;
        record->error = file->error;
    }
}

/* Who else has this process's memory? The tree tells who, and sees those that
 * are just ending; the canary sees those that do not stand in it. */
static cf_kin
look_for_kin(cf_audit *audit, cf_scan *s, pid_t *who)
{
    size_t size;
    char *scratch = cf_scan_scratch(s, &size);
    cf_kin kin = cf_kin_look(scratch, size, audit->witness->pid, who);
    if (kin != CF_KIN_NONE || audit->canary == NULL) {
        return kin;
    }
    *who = 0;
    switch (cf_canary_look(audit->canary, &audit->pagemap)) {
    case CF_CANARY_ALONE:
        return CF_KIN_NONE;
    case CF_CANARY_SHARED:
        return CF_KIN_SHARING;
    default:
        return CF_KIN_UNKNOWN;
    }
}

/* Choose the method, or find out why there is none. Asked again behind the
 * scan, since threads of the worker may fork meanwhile; then it is too late
 * to change the method. */
static void
check_blinding(cf_audit *audit, cf_scan *s, bool before)
{
    cf_record *record = s->judge.record;
    pid_t who = 0;
    cf_kin kin = look_for_kin(audit, s, &who);
    if (kin != CF_KIN_NONE && !s->judge.by_pfn) {
        if (!before || !cf_judge_use_frames(&s->judge)) {
            record->child = who;
            record->why |= kin == CF_KIN_SHARING ? CF_WHY_CHILD
                                                 : CF_WHY_CHILD_UNKNOWN;
        }
    }
    if (cf_ksm_merged(&audit->ksm) != 0 ||
        cf_ksm_merged(&audit->witness->ksm) != 0) {
        record->why |= CF_WHY_KSM;
    }
}

static void
count_faults(const cf_audit *audit, cf_record *record)
{
    struct rusage usage;
    if (!audit->has_rusage || audit->process != cf_process_id() ||
        getrusage(RUSAGE_SELF, &usage) < 0) {
        record->why |= CF_WHY_NO_RUSAGE;
        return;
    }
    record->minor_faults = usage.ru_minflt - audit->minor_faults;
    record->major_faults = usage.ru_majflt - audit->major_faults;
}

static uint64_t
now_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
           (uint64_t)now.tv_nsec;
}

/* Is there a reason that leaves no page figure standing? */
static bool
is_hopeless(const cf_record *record)
{
    return (record->why & ~(uint32_t)CF_WHY_NO_RUSAGE) != 0;
}

/* What is not certain is unknown: no figure leaves here that a reader could
 * take for a measurement. */
static void
withdraw(cf_scan *s)
{
    cf_record *record = s->judge.record;
    if (record->unknown_pages != 0) {
        record->why |= CF_WHY_SWAP;
    }
    uint32_t why = record->why & ~(uint32_t)CF_WHY_NO_RUSAGE;
    if (why == 0) {
        record->method = s->judge.by_pfn ? CF_METHOD_PFN : CF_METHOD_BIT56;
        return;
    }
    record->copied = record->fresh = -1;
    for (int i = 0; i < CF_AREA_COUNT; i++) {
        record->by_area[i] = -1;
    }
    /* Swapped pages that hold nothing frozen leave the frozen count exact. */
    if (why != CF_WHY_SWAP || s->judge.frozen_unknown != 0) {
        record->frozen_copied = -1;
    }
    else {
        record->method = s->judge.by_pfn ? CF_METHOD_PFN : CF_METHOD_BIT56;
    }
}

/* ---- entry points ----------------------------------------------------- */

void
cf_audit_look(cf_audit *audit, cf_witness *witness)
{
    *audit = (cf_audit){.witness = witness, .process = cf_process_id()};
    open_own_files(audit);
}

void
cf_audit_start(cf_audit *audit, cf_witness *witness)
{
    struct rusage usage;
    cf_audit_look(audit, witness);
    audit->canary = cf_canary_new();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        audit->has_rusage = true;
        audit->minor_faults = usage.ru_minflt;
        audit->major_faults = usage.ru_majflt;
    }
}

void
cf_audit_stop(cf_audit *audit)
{
    close_own_files(audit);
    cf_canary_free(audit->canary);
    audit->canary = NULL;
}

/* BEFORE: NULL, or pages that do not count. FOUND: NULL, or where to note the
 * copied pages, and the new ones WITH_NEW. */
static void
measure(cf_audit *audit, cf_record *record, const cf_pages *before,
        cf_pages *found, bool with_new)
{
    *record = (cf_record){
        .magic = CF_RECORD_MAGIC, .size = sizeof(*record), .pid = getpid(),
        .minor_faults = -1, .major_faults = -1, .page_size = cf_page_size(),
    };
    cf_scan s = {
        .judge = {.record = record, .pagemap = &audit->pagemap,
                  .witness = audit->witness, .list = found,
                  .list_new = with_new},
        .maps = &audit->maps,
    };

    if (found != NULL) {
        found->count = 0;
    }
    if (before != NULL) {
        s.judge.before = *before;
        if (before->count > before->room) {
            record->why |= CF_WHY_NO_ROOM;
        }
    }
    /* First: the faults of the measuring are not the worker's. */
    count_faults(audit, record);
    uint64_t start = now_ns();
    if (audit->process != cf_process_id()) {
        record->why |= CF_WHY_OTHER_PROCESS;
    }
    if (cf_scan_open(&s) < 0) {
        goto done;
    }
    if (!(record->why & CF_WHY_OTHER_PROCESS)) {
        check_files(audit, record);
    }
    if (is_hopeless(record)) {
        goto done;
    }
    check_blinding(audit, &s, true);
    if (is_hopeless(record) || cf_scan_run(&s) < 0) {
        goto done;
    }
    check_blinding(audit, &s, false);
    if (!cf_witness_alive(audit->witness)) {
        record->why |= CF_WHY_WITNESS_DIED;
    }

done:
    withdraw(&s);
    cf_scan_close(&s);
    record->scan_ns = now_ns() - start;
}

void
cf_audit_measure(cf_audit *audit, cf_record *record, cf_pages *found)
{
    measure(audit, record, NULL, found, false);
}

void
cf_audit_measure_before(cf_audit *audit, cf_record *record, cf_pages *found)
{
    measure(audit, record, NULL, found, true);
}

void
cf_audit_measure_since(cf_audit *audit, cf_record *record,
                       const cf_pages *before, cf_pages *found)
{
    measure(audit, record, before, found, false);
}
