/* racers.c - a thread of C that allocates and frees, and a program break that is slow to tell.
 *
 * `sbrk` is in the way of glibc's only if this is preloaded: it widens the moment between asking the
 * statistics and asking where the heap ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;
static size_t size;
static pthread_t thread;

static void *
run(void *unused)
{
    while (!stop) {
        char *volatile a = malloc(size);
        char *volatile b = malloc(size);
        if (a != NULL && b != NULL) {
            a[0] = b[0] = 1;
        }
        free(b);
        free(a);
    }
    return unused;
}

int
start(size_t of)
{
    stop = 0;
    size = of;
    return pthread_create(&thread, NULL, run, NULL);
}

void
finish(void)
{
    stop = 1;
    pthread_join(thread, NULL);
}

void *
sbrk(intptr_t increment)
{
    static void *(*real)(intptr_t);
    if (real == NULL) {
        real = (void *(*)(intptr_t))dlsym(RTLD_NEXT, "sbrk");
    }
    if (increment == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    }
    return real(increment);
}
