/* c_parts.c - the audit's C code against planted truth, without Python.
 *
 * Entries of pagemap that no test machine shows on demand (swapped pages,
 * guard pages), maps lines that no kernel writes, and small files.
 */
#define _GNU_SOURCE
#include "measure/audit.h"
#include "measure/inherited.h"
#include "proc/ksm.h"
#include "base/mem.h"
#include "measure/judge.h"
#include "base/pageset.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

cf_pageset *cf_frozen_pages = NULL;

bool
cf_pageset_contains(const cf_pageset *set, uintptr_t address)
{
    (void)set;
    (void)address;
    return false;
}

size_t
cf_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

#define BIT(n) (UINT64_C(1) << (n))

enum { ABSENT, ZERO_OR_SHARED, MINE_ALONE, FILED, SWAPPED_OUT, GUARDED };

static uint64_t
entry(int kind, uint64_t frame)
{
    switch (kind) {
    case ZERO_OR_SHARED:
        return BIT(63) | frame;
    case MINE_ALONE:
        return BIT(63) | BIT(56) | frame;
    case FILED:
        return BIT(63) | BIT(61) | BIT(56) | frame;
    case SWAPPED_OUT:
        return BIT(62) | frame;
    case GUARDED:
        return BIT(62) | BIT(58) | frame;
    default:
        return 0;
    }
}

static void
check_verdicts(void)
{
    static const struct {
        cf_area area;
        int mine, witness;
        bool by_pfn, same_frame;
        cf_verdict expected;
    } table[] = {
        /* by bit 56 */
        {CF_AREA_ANON, ABSENT, ZERO_OR_SHARED, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, GUARDED, ZERO_OR_SHARED, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, GUARDED, ABSENT, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, FILED, ZERO_OR_SHARED, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, ZERO_OR_SHARED, ZERO_OR_SHARED, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, ZERO_OR_SHARED, SWAPPED_OUT, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_ANON, MINE_ALONE, ZERO_OR_SHARED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_ANON, MINE_ALONE, MINE_ALONE, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_ANON, MINE_ALONE, ABSENT, 0, 0, CF_PAGE_NEW},
        {CF_AREA_ANON, MINE_ALONE, GUARDED, 0, 0, CF_PAGE_NEW},
        {CF_AREA_ANON, MINE_ALONE, FILED, 0, 0, CF_PAGE_NEW},
        {CF_AREA_ANON, MINE_ALONE, SWAPPED_OUT, 0, 0, CF_PAGE_UNKNOWN},
        {CF_AREA_ANON, SWAPPED_OUT, ZERO_OR_SHARED, 0, 0, CF_PAGE_UNKNOWN},
        {CF_AREA_ANON, SWAPPED_OUT, SWAPPED_OUT, 0, 0, CF_PAGE_UNKNOWN},
        {CF_AREA_ANON, SWAPPED_OUT, ABSENT, 0, 0, CF_PAGE_NEW},
        {CF_AREA_ANON, SWAPPED_OUT, GUARDED, 0, 0, CF_PAGE_NEW},
        {CF_AREA_HEAP, MINE_ALONE, ZERO_OR_SHARED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_STACK, MINE_ALONE, ABSENT, 0, 0, CF_PAGE_NEW},
        /* over a file: the original is the file's page */
        {CF_AREA_FILE, FILED, FILED, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_FILE, MINE_ALONE, FILED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, ZERO_OR_SHARED, FILED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, MINE_ALONE, ABSENT, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, SWAPPED_OUT, FILED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, ZERO_OR_SHARED, MINE_ALONE, 0, 0, CF_PAGE_SHARED},
        {CF_AREA_FILE, MINE_ALONE, ZERO_OR_SHARED, 0, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, MINE_ALONE, SWAPPED_OUT, 0, 0, CF_PAGE_UNKNOWN},
        /* by page frame: bit 56 is blind and must not matter */
        {CF_AREA_ANON, ZERO_OR_SHARED, ZERO_OR_SHARED, 1, 0, CF_PAGE_COPIED},
        {CF_AREA_ANON, ZERO_OR_SHARED, ZERO_OR_SHARED, 1, 1, CF_PAGE_SHARED},
        {CF_AREA_ANON, MINE_ALONE, ZERO_OR_SHARED, 1, 0, CF_PAGE_COPIED},
        {CF_AREA_ANON, ZERO_OR_SHARED, ABSENT, 1, 0, CF_PAGE_NEW},
        {CF_AREA_ANON, ZERO_OR_SHARED, SWAPPED_OUT, 1, 0, CF_PAGE_UNKNOWN},
        {CF_AREA_ANON, SWAPPED_OUT, ZERO_OR_SHARED, 1, 0, CF_PAGE_UNKNOWN},
        {CF_AREA_FILE, ZERO_OR_SHARED, FILED, 1, 0, CF_PAGE_COPIED},
        {CF_AREA_FILE, ZERO_OR_SHARED, ZERO_OR_SHARED, 1, 1, CF_PAGE_SHARED},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        cf_verdict got = cf_page_verdict(
            table[i].area, entry(table[i].mine, 1234),
            entry(table[i].witness, table[i].same_frame ? 1234 : 99),
            table[i].by_pfn);
        if (got != table[i].expected) {
            printf("verdict %zu: %d, expected %d\n", i, got,
                   table[i].expected);
            assert(got == table[i].expected);
        }
    }
}

static int
file_with(const char *folder, const char *text, size_t length)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/planted", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    assert(write(fd, text, length) == (ssize_t)length);
    return fd;
}

static void
unlink_planted(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/planted", folder);
    assert(unlink(path) == 0);
}

static void
check_maps(const char *folder)
{
    static const char text[] =
        "400000-401000 r-xp 00002000 08:01 77     /usr/bin/x y (deleted)\n"
        "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 \n"
        "7f0000002000-7f0000003000 rw-s 00000000 00:05 9  /dev/zero\n"
        "7f0000003000-7f0000004000 ---p 00000000 00:00 0  [heap]\n"
        "7f0000004000-7f0000005000 rw-p 00000000 00:00 0  [anon:x]\n"
        "7f0000005000-7f0000006000 rw-p 00000000 00:00 0  [stack]\n"
        "7f0000006000-7f0000007000 r--p 00000000 00:00 0  [vvar_vclock]\n"
        "7f0000007000-7f0000008000 rw-p 00000000 00:01 5  /memfd:a\n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]";
    static const cf_area areas[] = {
        CF_AREA_FILE, CF_AREA_ANON, CF_AREA_SKIP, CF_AREA_HEAP, CF_AREA_ANON,
        CF_AREA_STACK, CF_AREA_SKIP, CF_AREA_FILE,
    };
    static const bool writable[] = {0, 1, 1, 0, 1, 1, 0, 1};
    char buffer[128];  /* smaller than the file: lines are cut by reads */
    cf_mapping mapping;
    cf_maps maps;
    int fd = file_with(folder, text, sizeof(text) - 1);

    cf_maps_begin(&maps, fd, buffer, sizeof(buffer));
    for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
        assert(cf_maps_next(&maps, &mapping) == 1);
        assert(mapping.area == areas[i]);
        assert(mapping.writable == writable[i]);
        assert(mapping.start < mapping.end);
        if (i == 0) {
            assert(mapping.start == 0x400000 && mapping.end == 0x401000);
            assert(mapping.offset == 0x2000 && mapping.inode == 77);
        }
    }
    /* The kernel ends every line; one without an end is not used. */
    assert(cf_maps_next(&maps, &mapping) == 0);
    assert(cf_maps_next(&maps, &mapping) == 0);
    close(fd);

    static const char *const broken[] = {
        "nonsense\n", "\n", "1000-2000\n", "1000-2000 rw-p\n",
        "1000 2000 rw-p 0 00:00 0\n", "1000-2000 rw-p 0 0000 0\n",
        "2000-1000 rw-p 0 00:00 0\n", "-2000 rw-p 0 00:00 0\n",
    };
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        fd = file_with(folder, broken[i], strlen(broken[i]));
        cf_maps_begin(&maps, fd, buffer, sizeof(buffer));
        assert(cf_maps_next(&maps, &mapping) == -1 && errno == EPROTO);
        close(fd);
    }
    char line[400];
    memset(line, 'a', sizeof(line));
    fd = file_with(folder, line, sizeof(line));
    cf_maps_begin(&maps, fd, buffer, sizeof(buffer));
    assert(cf_maps_next(&maps, &mapping) == -1 && errno == EPROTO);
    close(fd);
}

static void
check_files(const char *folder)
{
    char path[4096], text[64];
    cf_file file;
    snprintf(path, sizeof(path), "%s/planted", folder);

    static const struct {
        const char *text;
        int64_t merged;
    } ksm[] = {
        {"0\n", 0},
        {"17\n", 17},
        {"ksm_rmap_items 5\nksm_zero_pages 0\nksm_merging_pages 0\n", 0},
        {"ksm_rmap_items 5\nksm_zero_pages 2\nksm_merging_pages 3\n", 5},
    };
    for (size_t i = 0; i < sizeof(ksm) / sizeof(ksm[0]); i++) {
        close(file_with(folder, ksm[i].text, strlen(ksm[i].text)));
        cf_file_open(&file, path);
        assert(file.fd >= 20 && cf_file_intact(&file));
        assert(cf_ksm_merged(&file) == ksm[i].merged);
        cf_file_close(&file);
    }
    /* A number that now belongs to another file is neither read nor closed. */
    cf_file_open(&file, path);
    int taken = file.fd;
    int other = open("/dev/null", O_RDONLY);
    assert(other >= 0 && dup2(other, taken) == taken);
    assert(!cf_file_intact(&file));
    assert(cf_read_file(&file, text, sizeof(text)) == -1 && errno == EBADF);
    cf_file_close(&file);
    assert(fcntl(taken, F_GETFD) >= 0);
    close(taken);
    close(other);

    cf_file_open(&file, "/nonexistent/file");
    assert(file.fd == -1 && file.error == ENOENT);
    cf_file_close(&file);
    assert(cf_read_path("/nonexistent", text, sizeof(text)) == -1);
    assert(cf_read_path("/proc/self/stat", text, sizeof(text)) == 63);
    assert(text[63] == '\0');
}

/* Entries that change while they are judged: the kernel moves the page. Files
 * stand for the two page maps. */
static void
check_moving(const char *folder)
{
    enum { PAGE = 3, SHARED = ZERO_OR_SHARED };
    static const struct {
        int first;             /* of this process, at the first reading */
        int mine, witness;     /* then */
        int mine_in_a_while, witness_in_a_while;
        int copied, fresh, unknown;
        bool waits;
    } table[] = {
        /* looked like a copy while the witness's entry was away */
        {MINE_ALONE, SHARED, SHARED, -1, -1, 0, 0, 0, true},
        {MINE_ALONE, SWAPPED_OUT, SHARED, SHARED, -1, 0, 0, 0, true},
        {MINE_ALONE, MINE_ALONE, SWAPPED_OUT, SHARED, SHARED, 0, 0, 0, true},
        /* comes back, and is a copy or is none */
        {SWAPPED_OUT, SWAPPED_OUT, SWAPPED_OUT, MINE_ALONE, SHARED, 1, 0, 0, true},
        {SWAPPED_OUT, SWAPPED_OUT, SHARED, MINE_ALONE, -1, 1, 0, 0, true},
        {SWAPPED_OUT, SHARED, SHARED, -1, -1, 0, 0, 0, true},
        /* does not come back: it is swapped out */
        {SWAPPED_OUT, SWAPPED_OUT, SHARED, -1, -1, 0, 0, 1, true},
        {MINE_ALONE, MINE_ALONE, SWAPPED_OUT, -1, -1, 0, 0, 1, true},
        /* in no doubt, so nobody waits */
        {MINE_ALONE, MINE_ALONE, SHARED, -1, -1, 1, 0, 0, false},
        {SWAPPED_OUT, SWAPPED_OUT, ABSENT, -1, -1, 0, 1, 0, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint64_t mine[PAGE + 1] = {0}, theirs[PAGE + 1] = {0};
        mine[PAGE] = entry(table[i].mine, 0);
        theirs[PAGE] = entry(table[i].witness, 0);
        cf_file own = {.fd = file_with(folder, (char *)mine, sizeof(mine))};
        unlink_planted(folder);
        cf_witness witness = {
            .pagemap = {.fd = file_with(folder, (char *)theirs, sizeof(theirs))},
        };
        unlink_planted(folder);
        pid_t child = fork();
        assert(child >= 0);
        if (child == 0) {
            usleep(20000);
            mine[PAGE] = entry(table[i].mine_in_a_while, 0);
            theirs[PAGE] = entry(table[i].witness_in_a_while, 0);
            off_t at = PAGE * sizeof(uint64_t);
            /* Ours first: whenever this is read between the two, the witness's
             * entry still leaves the verdict open or does not matter. */
            if (table[i].mine_in_a_while >= 0) {
                assert(pwrite(own.fd, mine + PAGE, 8, at) == 8);
            }
            if (table[i].witness_in_a_while >= 0) {
                assert(pwrite(witness.pagemap.fd, theirs + PAGE, 8, at) == 8);
            }
            _exit(0);
        }
        uint64_t work[2][1], first = entry(table[i].first, 0);
        cf_record record = {0};
        bool ends = table[i].unknown != 0;  /* half a second is enough then */
        cf_judge judge = {
            .record = &record, .pagemap = &own, .witness = &witness,
            .theirs = work[0], .again = work[1], .page = cf_page_size(),
            .patience = {.begun = true, .left_ns = ends ? 500000000L : 60000000000L},
        };
        long patience = judge.patience.left_ns;
        cf_mapping mapping = {.area = CF_AREA_ANON};
        assert(cf_judge_run(&judge, &mapping, PAGE, &first, 1) == 0);
        if (record.copied != table[i].copied || record.fresh != table[i].fresh ||
            record.unknown_pages != (uint64_t)table[i].unknown ||
            (judge.patience.left_ns < patience) != table[i].waits) {
            printf("moving %zu: %lld copied, %lld new, %llu unknown, %ld ns\n", i,
                   (long long)record.copied, (long long)record.fresh,
                   (unsigned long long)record.unknown_pages,
                   patience - judge.patience.left_ns);
            assert(false);
        }
        assert(waitpid(child, NULL, 0) == child);
        close(own.fd);
        close(witness.pagemap.fd);
    }
    /* Patience is one for the whole scan. */
    cf_patience none = {.begun = true};
    long pause = 0;
    assert(!cf_patience_wait(&none, &pause) && pause == 0);
    cf_patience fresh = {0};
    assert(cf_patience_wait(&fresh, &pause) && fresh.begun && fresh.left_ns > 0);
}

/* The whole way once, in this process. Under AddressSanitizer this also
 * shows that terabytes of reserved addresses are no obstacle. */
static void
check_scan(void)
{
    cf_witness witness;
    cf_audit audit;
    cf_record record;
    uintptr_t addresses[64];
    cf_pages found_pages = {.addresses = addresses, .room = 64};
    size_t count = 0;
    /* A block's worth of entries, at an address that is scanned early. */
    size_t size = CF_PAGEMAP_BLOCK * cf_page_size();
    void *early = mmap((void *)(UINT64_C(1) << 45), size, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(early != MAP_FAILED);
    /* Twice: the first time a sanitizer maps memory of its own for what it
     * sees for the first time. */
    for (int round = 0; round < 2; round++) {
        assert(cf_witness_start(&witness) == 0);
        assert(cf_witness_alive(&witness));
        cf_audit_look(&audit, &witness);
        cf_audit_measure(&audit, &record, &found_pages);
        count = found_pages.count;
        cf_audit_stop(&audit);
        if (round == 0) {
            cf_witness_stop(&witness);
        }
    }
    assert(record.magic == CF_RECORD_MAGIC && record.size == sizeof(record));
    assert(record.method == CF_METHOD_BIT56 && record.scanned_bytes > 0);
    /* Nothing was mapped since: what the measuring itself takes for its work
     * (ten pages are touched here) must not be in its own result. A sanitizer
     * adds some of its own. */
#ifdef __SANITIZE_ADDRESS__
    enum { LIMIT = 16 };
#else
    enum { LIMIT = 4 };
#endif
    if (record.fresh >= LIMIT) {
        printf("%lld new pages\n", (long long)record.fresh);
    }
    assert(record.fresh < LIMIT);
    /* At least the page of the stack that this function writes to. */
    assert(record.copied > 0 && count == (size_t)record.copied);
    uintptr_t stack = (uintptr_t)&record / cf_page_size() * cf_page_size();
    bool found = false;
    for (size_t i = 0; i < count && i < 64; i++) {
        found |= addresses[i] == stack;
        assert(i == 0 || addresses[i - 1] < addresses[i]);
    }
    assert(found || count > 64);

    int64_t pages = 0, again = 0;
    assert(cf_inherited_pages(&witness, &pages) == 0 && pages > 0);
    assert(cf_mem_mapped() == 0);
    cf_mem_fail_at(1);
    assert(cf_inherited_pages(&witness, &again) == -1 && errno == ENOMEM);
    cf_mem_fail_at(-1);
    assert(cf_inherited_pages(&witness, &again) == 0 && again == pages);
    munmap(early, size);
    cf_witness_stop(&witness);
    cf_witness_stop(&witness);
    assert(!cf_witness_alive(&witness));
}

int
main(int argc, char **argv)
{
    assert(argc == 2);
    check_verdicts();
    check_maps(argv[1]);
    check_files(argv[1]);
    check_moving(argv[1]);
    check_scan();
    puts("ok");
    return 0;
}
