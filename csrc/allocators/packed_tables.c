/* packed_tables.c - C code that frees or enlarges a table in packed memory.
 *
 *   PyMem_Free(table)      pymalloc: not mine -> PyMem_RawFree    -> here: nothing
 *   PyMem_Realloc(table)   pymalloc: not mine -> PyMem_RawRealloc -> here: a block of malloc's
 *                                                                    with what the table holds
 *   table   ... [ -size ][ entries ][ -size ][ items ] ...           the guard before each (store.c)
 *
 * From 3.12 on packed memory is private to each process, so that C code which writes to a packed
 * list or dict without asking its type may do so: `o.__dict__ = packed; o.x = 1`, PyList_Append.
 * What it may not do is give the table to malloc, which would end the process. PyMem_SetAllocator is
 * CPython's way to be asked before. Where pymalloc serves the other domains, only the raw one
 * is guarded, to which pymalloc hands what is not its own: small objects never come here.
 *
 * PyMem_RawFree needs no GIL, so other threads may be in the midst of a call when the guard is put up.
 * Each field of it stands for itself: the context stays the one that is there, and all functions
 * go through to those that were there before.
 */
#include "cpython/compat.h"

#include "allocators/packed_tables.h"
#include "objects/packed_memory.h"

#include <string.h>

#define DOMAINS 3

/* Written once, under the GIL, before the functions that read them are put in place. */
static PyMemAllocatorEx below[DOMAINS]; /* by domain: raw, mem, obj */
static const char *name_below;          /* of all of them, before the guard */

/* -- one domain ---------------------------------------------------------- */

static void
release(int domain, void *context, void *block)
{
    if (!cf_packed_has_table((uintptr_t)block)) {
        below[domain].free(context, block);
    }
}

static void *
resize(int domain, void *context, void *block, size_t size)
{
    if (block == NULL || !cf_packed_has_table((uintptr_t)block)) {
        return below[domain].realloc(context, block, size);
    }
    int64_t guard;
    memcpy(&guard, (const char *)block - sizeof(guard), sizeof(guard));
    size_t held = (size_t)-guard;
    void *copy = below[domain].malloc(context, size);
    if (copy != NULL) {
        memcpy(copy, block, held < size ? held : size);
    }
    return copy;
}

static void raw_free(void *c, void *block) { release(PYMEM_DOMAIN_RAW, c, block); }
static void mem_free(void *c, void *block) { release(PYMEM_DOMAIN_MEM, c, block); }
static void obj_free(void *c, void *block) { release(PYMEM_DOMAIN_OBJ, c, block); }

static void *
raw_realloc(void *context, void *block, size_t size)
{
    return resize(PYMEM_DOMAIN_RAW, context, block, size);
}

static void *
mem_realloc(void *context, void *block, size_t size)
{
    return resize(PYMEM_DOMAIN_MEM, context, block, size);
}

static void *
obj_realloc(void *context, void *block, size_t size)
{
    return resize(PYMEM_DOMAIN_OBJ, context, block, size);
}

/* -- the guard ----------------------------------------------------------- */

static const struct {
    void (*free)(void *, void *);
    void *(*realloc)(void *, void *, size_t);
} guards[DOMAINS] = {{raw_free, raw_realloc}, {mem_free, mem_realloc}, {obj_free, obj_realloc}};

static bool
stands(PyMemAllocatorDomain domain)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator(domain, &now);
    return now.free == guards[domain].free;
}

static void
put_up(PyMemAllocatorDomain domain)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator(domain, &now);
    below[domain] = now;
    now.free = guards[domain].free;
    now.realloc = guards[domain].realloc;
    PyMem_SetAllocator(domain, &now);
}

void
cf_packed_tables_guard(void)
{
    static bool was_put_up;
    const char *name = _PyMem_GetCurrentAllocatorName();
    if (was_put_up && name == NULL) {
        return; /* it stands, or somebody's allocator that may lead to it: no circle of the two */
    }
    was_put_up = true;
    name_below = name;
    put_up(PYMEM_DOMAIN_RAW);
    if (name_below == NULL || strcmp(name_below, "pymalloc") != 0) {
        put_up(PYMEM_DOMAIN_MEM);
        put_up(PYMEM_DOMAIN_OBJ);
    }
}

const char *
cf_allocator_name(void)
{
    const char *name = _PyMem_GetCurrentAllocatorName();
    return name == NULL && stands(PYMEM_DOMAIN_RAW) ? name_below : name;
}
