/* at_exit.c - functions for Py_AtExit and atexit that can be seen. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
tell(const char *text, size_t length)
{
    if (write(1, text, length) < 0) {
        _exit(99);
    }
}

void
last(void)
{
    tell("Py_AtExit\n", 10);
}

void
before_last(void)
{
    tell("Py_AtExit, registered later\n", 28);
}

static void
of_the_c_library(void)
{
    tell("atexit of C\n", 12);
}

int
prepare_c_library(void)
{
    return atexit(of_the_c_library);
}

void
print_with_c(void)
{
    printf("left in C's buffer\n");
}
