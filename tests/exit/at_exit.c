/* at_exit.c - a function for Py_AtExit that can be seen. */
#include <unistd.h>

void
last(void)
{
    static const char text[] = "Py_AtExit\n";
    if (write(1, text, sizeof(text) - 1) < 0) {
        _exit(99);
    }
}
