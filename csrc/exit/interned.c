/* interned.c - the interpreter's dict of interned strings: found, and exchanged.
 *
 *   interpreter    [ ... | interned strings | ... ]
 *                             |    `--> a new dict: the mortal strings of the
 *                             |         old one. They leave it when they die.
 *                             `-------> old dict; nobody refers to it any more
 *
 * The place of the dict in the interpreter's state is in no public header and
 * moves between versions. It is found by what only this dict does: it grows by
 * exactly as many entries as new strings are interned. Where it is not found
 * exactly once it is left alone.
 *
 *   F2  a mortal interned string is in the dict that the interpreter refers
 *       to, with its two references uncounted, as unicodeobject.c wants it;
 *   F4  the collector does not see the old dict (3.14 tracks every dict): the
 *       strings that die leave the new one only.
 */
#include "exit/interned.h"

#include "proc/maps.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if CF_HAS_IMMORTAL

#define MAX_RANGES 8192
#define MAX_CANDIDATES 16384
#define MAX_SCAN ((uintptr_t)4 << 20)
#define N_PROBES 7

typedef struct {
    uintptr_t start;
    uintptr_t end;
} range;

typedef struct {
    PyObject **slot;
    Py_ssize_t used;
} candidate;

typedef struct {
    range ranges[MAX_RANGES];  /* writable, ascending, neighbours merged */
    size_t n_ranges;
    candidate candidates[MAX_CANDIDATES];
    size_t n_candidates;
    char buffer[CF_MAPS_BUFFER];
} search;

static PyObject **interned_slot; /* found once, under the GIL */

static int
read_ranges(search *s)
{
    cf_maps maps;
    cf_mapping mapping;
    int ret = -1, got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    cf_maps_begin(&maps, fd, s->buffer, sizeof(s->buffer));
    while ((got = cf_maps_next(&maps, &mapping)) > 0) {
        if (!mapping.writable) {
            continue;
        }
        if (s->n_ranges > 0 && s->ranges[s->n_ranges - 1].end == mapping.start) {
            s->ranges[s->n_ranges - 1].end = mapping.end;
            continue;
        }
        if (s->n_ranges == MAX_RANGES) {
            goto done;
        }
        s->ranges[s->n_ranges++] = (range){mapping.start, mapping.end};
    }
    ret = got;

done:
    close(fd);
    return ret;
}

/* The range that holds SIZE bytes at ADDRESS, or NULL. */
static const range *
find_range(const search *s, uintptr_t address, size_t size)
{
    size_t low = 0, high = s->n_ranges;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->ranges[middle].end <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == s->n_ranges || address < s->ranges[low].start
        || s->ranges[low].end - address < size) {
        return NULL;
    }
    return &s->ranges[low];
}

/* Does WORD look like a pointer to a dict? Only its type and its length are
 * read: it may be a freed one. */
CF_READS_ANY_WORD static bool
is_maybe_dict(const search *s, uintptr_t word)
{
    return word != 0 && word % sizeof(void *) == 0
           && find_range(s, word, sizeof(PyDictObject)) != NULL
           && ((PyObject *)word)->ob_type == &PyDict_Type;
}

/* Every word behind the interpreter's state, whatever lies there. */
CF_READS_ANY_WORD static int
collect_candidates(search *s)
{
    uintptr_t start = (uintptr_t)PyInterpreterState_Get();
    const range *home = find_range(s, start, sizeof(void *));
    if (home == NULL) {
        return -1;
    }
    uintptr_t end = home->end - start > MAX_SCAN ? start + MAX_SCAN : home->end;
    for (uintptr_t at = start; at + sizeof(void *) <= end; at += sizeof(void *)) {
        PyObject **slot = (PyObject **)at;
        if (!is_maybe_dict(s, (uintptr_t)*slot)) {
            continue;
        }
        if (s->n_candidates == MAX_CANDIDATES) {
            return -1;
        }
        Py_ssize_t used = ((PyDictObject *)*slot)->ma_used;
        s->candidates[s->n_candidates++] = (candidate){slot, used};
    }
    return 0;
}

/* Intern new strings and see which dict grew by them. */
CF_READS_ANY_WORD static PyObject **
probe(const search *s)
{
    PyObject *probes[N_PROBES] = {NULL};
    PyObject **found = NULL;
    int n;
    for (n = 0; n < N_PROBES; n++) {
        probes[n] = PyUnicode_FromFormat("cowfreeze probe %p %d", (void *)s, n);
        if (probes[n] == NULL) {
            goto done;
        }
        PyUnicode_InternInPlace(&probes[n]);
    }
    for (size_t i = 0; i < s->n_candidates; i++) {
        const candidate *c = &s->candidates[i];
        PyDictObject *dict = (PyDictObject *)*c->slot;
        if (!is_maybe_dict(s, (uintptr_t)dict) || dict->ma_used != c->used + N_PROBES) {
            continue;
        }
        for (n = 0; n < N_PROBES; n++) {
            if (PyDict_GetItemWithError((PyObject *)dict, probes[n]) != probes[n]) {
                break;
            }
        }
        if (n == N_PROBES) {
            if (found != NULL) {
                found = NULL;
                goto done;
            }
            found = c->slot;
        }
    }

done:
    PyErr_Clear();
    for (n = 0; n < N_PROBES; n++) {
        Py_XDECREF(probes[n]);
    }
    return found;
}

bool
cf_interned_find(void)
{
    if (interned_slot != NULL) {
        return true;
    }
    search *s = cf_mem_map(sizeof(search));
    if (s == NULL) {
        return false;
    }
    if (read_ranges(s) == 0 && collect_candidates(s) == 0) {
        interned_slot = probe(s);
    }
    cf_mem_unmap(s, sizeof(search));
    return interned_slot != NULL;
}

/* F2. The old dict is given up as it is: emptying it would write it. */
bool
cf_interned_swap(size_t *strings)
{
    *strings = 0;
    if (interned_slot == NULL || *interned_slot == NULL || !PyDict_CheckExact(*interned_slot)) {
        return false;
    }
    PyObject *kept = PyDict_New();
    if (kept == NULL) {
        PyErr_Clear();
        return false;
    }
    PyObject_GC_UnTrack(kept);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(*interned_slot, &position, &key, &value)) {
        if (_Py_IsImmortal(key)) {
            continue;
        }
        if (PyDict_SetItem(kept, key, key) < 0) {
            /* Without memory: the old dict stays, and no string has changed. */
            goto undo;
        }
        (*strings)++;
    }
    position = 0;
    while (PyDict_Next(kept, &position, &key, &value)) {
        Py_SET_REFCNT(key, Py_REFCNT(key) - 2);
    }
    /* F4. Unlinking writes the headers of two neighbours, which is 8 KiB at most. */
    PyObject_GC_UnTrack(*interned_slot);
    *interned_slot = kept;
    return true;

undo:
    PyErr_Clear();
    *strings = 0;
    Py_DECREF(kept);
    return false;
}

#else /* every count is written, so there is nothing to spare */

bool
cf_interned_find(void)
{
    return false;
}

bool
cf_interned_swap(size_t *strings)
{
    *strings = 0;
    return false;
}

#endif
