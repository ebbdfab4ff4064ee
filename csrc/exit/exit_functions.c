/* exit_functions.c - what C code has registered with Py_AtExit, for an end without finalisation.
 *
 *   _PyRuntime    [ ... | f0 | f1 | probe | 0 ... 0 | 3 | ... ]
 *                         `------- 32 places -------'  how many
 *
 * CPython calls these functions when the interpreter is gone, the last one first. Who leaves without
 * finalisation owes them the same. No header tells where they are. So one more is registered, and looked for:
 *
 *   F6  the table is the one place whose k-th word is the probe, whose words before it are not NULL, whose
 *       words behind it are, and which is followed by the number k + 1. No second reading fits: the number
 *       itself would be a word of the other table.
 */
#include "exit/exit_functions.h"

#include "base/mem.h"
#include "proc/maps.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PLACES 32
#define MAX_SCAN ((uintptr_t)1 << 20) /* of _PyRuntime, which has 0.1 to 0.5 MiB */

typedef void (*exit_function)(void);

typedef struct {
    exit_function functions[PLACES];
    int count;
} table;

extern struct pyruntimestate _PyRuntime;

static void
probe(void)
{
}

/* How far what is mapped writable goes on behind START, by our own process map; START: unknown. */
static uintptr_t
end_of_data(uintptr_t start)
{
    uintptr_t end = start;
    char *buffer = cf_mem_map(CF_MAPS_BUFFER);
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (buffer != NULL && fd >= 0) {
        cf_maps maps;
        cf_mapping mapping;
        cf_maps_begin(&maps, fd, buffer, CF_MAPS_BUFFER);
        while (cf_maps_next(&maps, &mapping) > 0) {
            if (mapping.writable && mapping.start <= end && end < mapping.end) {
                end = mapping.end;
            }
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    cf_mem_unmap(buffer, CF_MAPS_BUFFER);
    return end;
}

/* F6 */
CF_READS_ANY_WORD static bool
fits(const table *at)
{
    if (at->count < 1 || at->count > PLACES || at->functions[at->count - 1] != probe) {
        return false;
    }
    for (int i = 0; i < PLACES; i++) {
        if ((at->functions[i] != NULL) != (i < at->count)) {
            return false;
        }
    }
    return true;
}

static table *
find_table(void)
{
    uintptr_t start = (uintptr_t)&_PyRuntime, end = end_of_data(start);
    end = end - start > MAX_SCAN ? start + MAX_SCAN : end;
    for (uintptr_t at = start; at + sizeof(table) <= end; at += sizeof(exit_function)) {
        if (fits((table *)at)) {
            return (table *)at;
        }
    }
    return NULL;
}

bool
cf_exit_functions_call(void)
{
    table *found = Py_AtExit(probe) == 0 ? find_table() : NULL;
    if (found == NULL) {
        return false;
    }
    while (found->count > 0) {
        exit_function function = found->functions[--found->count];
        found->functions[found->count] = NULL;
        function();
    }
    fflush(stdout); /* as CPython does behind them */
    fflush(stderr);
    return true;
}
