/* no_break.c - preloaded: the heap cannot grow at the program break, another mapping lies there. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

__attribute__((constructor)) static void
stand_in_the_way(void)
{
    char *end = sbrk(0);
    (void)mmap(end + 4 * 4096, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}
