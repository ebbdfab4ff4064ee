/* store.c - the packer: two arenas, and room in them for an object or a table.
 *
 *   headers   ... [ str header | text | utf8 ][ int ][ gc 16 x 0 | tuple | items ] ...
 *   tables    ... [ guard ][ items of a list ][ guard ][ keys of a dict ] ...
 *
 * The number in front of each table (the guard's last word) is where a block of malloc has its
 * size. It is negative: free() and realloc() of a table (C code that shrinks a list that it was
 * given), where they come so far, abort at once ("invalid pointer") instead of believing it.
 * Where headers are private they do not come so far (allocators/packed_tables.c).
 */
#include "pack/store.h"

#include <errno.h>
#include <string.h>

#define GC_HEAD 16

void
cf_pack_no_memory(void)
{
    if (errno == EPERM || errno == ENOSYS || errno == EACCES) {
        PyErr_Format(PyExc_OSError,
                     "cowfreeze.pack(): memfd_create is not allowed here (%s); a seccomp filter or "
                     "an old kernel. Allow it, or use cowfreeze.freeze()",
                     strerror(errno));
        return;
    }
    PyErr_Format(PyExc_MemoryError,
                 "cowfreeze.pack(): no memory for the copy (%s); nothing was changed. Limits on "
                 "address space (ulimit -v), on file size (ulimit -f) and of the memory cgroup "
                 "count",
                 strerror(errno));
}

/* The count of an object that is never freed: immortal, or far from 0. */
static void
mark(PyObject *op)
{
#if CF_HAS_IMMORTAL
    cf_header_freeze(op);
#else
    op->ob_refcnt = CF_COUNT_SHARED;
#endif
}

PyObject *
cf_pack_object(cf_packer *p, PyTypeObject *type, size_t size, bool gc)
{
    size_t before = (gc || PyType_IS_GC(type) ? GC_HEAD : 0) + cf_type_prefix(type);
    char *block = cf_arena_take(&p->headers, before + size);
    if (block == NULL) {
        cf_pack_no_memory();
        return NULL;
    }
    PyObject *op = (PyObject *)(block + before);
    op->ob_type = type;
    mark(op);
    p->outcome->objects++;
    return op;
}

void *
cf_pack_table(cf_packer *p, PyObject *owner, Py_ssize_t n, size_t size)
{
    cf_pack_guard *guard = cf_arena_take(&p->tables, sizeof(*guard) + size);
    if (guard == NULL) {
        cf_pack_no_memory();
        return NULL;
    }
    guard->minus_size = -(int64_t)((size + 7) & ~(size_t)7);
#if CF_HEADERS_ARE_SHARED
    guard->owner = owner;
    guard->n = n;
#else
    (void)owner;
    (void)n;
#endif
    return guard + 1;
}
