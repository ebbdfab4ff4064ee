/* threads.c - the trap under many threads, without Python; built plain and with ThreadSanitizer.
 *
 *   threads   wait .... write their own word in every page .... wait
 *   main      prepare, arm ......................... disarm, look   (round "whole")
 *                            ... disarm .................... look   (round "cut short")
 *
 * The threads are there before the trap, as those of a server are. A page is written by all of
 * them at once; it must be noted once, by one of them, with the value of before.
 *
 * Usage: threads perf|mprotect whole|both ROUNDS. Prints "ok" or "no perf"; anything else is a failure.
 */
#define _GNU_SOURCE
#include "trap/trap.h"
#include "trap/stack.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 6
#define PAGES 300

/* There is no interpreter, so no frame. */
void
cf_trap_frames_note(cf_trap_buffer *buffer, cf_trap_write *write)
{
    (void)buffer;
    write->stack_end = CF_STACK_NO_THREAD;
}

static char *memory;
static size_t page_size;
static pthread_barrier_t begin, end;
static uint64_t round_number; /* changed between two barriers only */
static pid_t ids[THREADS];

static uint64_t *
word(size_t page, size_t thread)
{
    return (uint64_t *)(memory + page * page_size) + thread;
}

static void *
writer(void *arg)
{
    size_t thread = (size_t)arg;
    ids[thread] = (pid_t)syscall(SYS_gettid);
    for (;;) {
        pthread_barrier_wait(&begin);
        if (round_number == 0) {
            return NULL;
        }
        /* Two orders, so that threads meet in the middle as well as run side by side. */
        for (size_t i = 0; i < PAGES; i++) {
            *word(thread % 2 ? i : PAGES - 1 - i, thread) = round_number;
        }
        pthread_barrier_wait(&end);
    }
}

/* What was noted, and that every write has arrived. */
static void
look(const cf_trap_buffer *buffer, bool whole)
{
    bool seen[PAGES] = {false};
    assert(buffer->state == CF_TRAP_RAN && buffer->lost == 0 && buffer->given_up == 0);
    assert(buffer->watched == PAGES);
    assert(whole ? buffer->n == PAGES : buffer->n <= PAGES);
    for (size_t i = 0; i < buffer->n; i++) {
        const cf_trap_write *write = &buffer->writes[i];
        size_t page = (write->address - (uintptr_t)memory) / page_size;
        size_t thread = (write->address - (uintptr_t)word(page, 0)) / sizeof(uint64_t);
        assert(page < PAGES && thread < THREADS && !seen[page]);
        seen[page] = true;
        assert(write->thread == ids[thread]);
        assert(write->old_value == round_number - 1);
    }
    for (size_t page = 0; page < PAGES; page++) {
        for (size_t thread = 0; thread < THREADS; thread++) {
            assert(*word(page, thread) == round_number);
        }
    }
}

/* A process that shares the pages, so that the first store to each copies it. */
static pid_t
sharer(void)
{
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    return pid;
}

static void
one_round(cf_trap_buffer *buffer, const cf_trap_request *request, bool whole)
{
    pid_t pid = sharer();
    round_number++;
    if (cf_trap_prepare(buffer, request) < 0) {
        assert(errno == EOPNOTSUPP);
        kill(pid, SIGKILL);
        puts("no perf");
        exit(0);
    }
    assert(cf_trap_arm() == 0);
    pthread_barrier_wait(&begin);
    if (!whole) {
        usleep((useconds_t)(round_number * 37 % 500));
        cf_trap_disarm();
    }
    pthread_barrier_wait(&end);
    cf_trap_disarm();
    assert(!cf_trap_is_armed());
    look(buffer, whole);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int
main(int argc, char **argv)
{
    assert(argc == 4);
    bool perf = strcmp(argv[1], "perf") == 0, both = strcmp(argv[2], "both") == 0;
    page_size = cf_page_size();
    /* Whether a signal is on its way stands behind the groups in /proc/PID/status. Only root may. */
    gid_t groups[400];
    for (gid_t i = 0; i < 400; i++) {
        groups[i] = 4000000000u + i;
    }
    (void)!setgroups(400, groups);
    /* The trap spares the pages around the thread's own data, which may lie right beside this. */
    size_t gap = 2 * page_size, size = PAGES * page_size;
    memory = mmap(NULL, size + 2 * gap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(memory != MAP_FAILED);
    memory += gap;
    madvise(memory, size, MADV_NOHUGEPAGE);
    memset(memory, 0, size);

    cf_pageset *frozen = cf_pageset_new();
    cf_trap_buffer *buffer = cf_trap_buffer_new(4 * PAGES, false);
    assert(frozen != NULL && buffer != NULL && cf_trap_init() == 0);
    assert(cf_pageset_add(frozen, (uintptr_t)memory, (uintptr_t)memory + size) == 0);
    cf_trap_request request = {CF_WATCH_FROZEN, perf ? CF_TRAP_PERF : CF_TRAP_PROTECT, frozen};

    pthread_t threads[THREADS];
    pthread_barrier_init(&begin, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++) {
        assert(pthread_create(&threads[i], NULL, writer, (void *)i) == 0);
    }
    for (long i = 0, rounds = atol(argv[3]); i < rounds; i++) {
        one_round(buffer, &request, !both || i % 2 == 0);
    }
    round_number = 0;
    pthread_barrier_wait(&begin);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    cf_trap_buffer_free(buffer);
    cf_pageset_free(frozen);
    puts("ok");
    return 0;
}
