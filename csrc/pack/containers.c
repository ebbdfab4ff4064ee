/* containers.c - lists and tuples of packed data.
 *
 *   list     [ count, type | size | items* | allocated ]         items: a table, or NULL
 *   tuple    [ gc 16 x 0 ][ count, type | size | hash (3.14) | items ]
 *            of exactly the type of the source: a named tuple too
 *   guard    [ owner | n | -size ] in front of each table where headers are shared
 *
 * P6: where headers are shared, C code that resizes a list goes to realloc() with a pointer that
 * is not malloc's, and aborts before it has written the header: `allocated` is 0, and an empty
 * list has a table too. What it can still do to a header in shared memory before it dies is
 * undone from the guards (pack.c). Where they are private it gets a list of its own.
 */
#include "pack/containers.h"

#include "objects/packed_types.h"
#include "pack/kinds.h"
#include "pack/outside.h"
#include "pack/refuse.h"

PyObject *
cf_pack_list(cf_packer *p, PyObject *src)
{
    Py_ssize_t n = PyList_GET_SIZE(src);
    PyObject *list =
        cf_pack_object(p, &cf_packed_list_type, sizeof(PyListObject), false);
    if (list == NULL || (n == 0 && !CF_HEADERS_ARE_SHARED)) {
        return list;
    }
    size_t size = (size_t)(n == 0 ? 1 : n) * sizeof(PyObject *);
    void *items = cf_pack_table(p, list, n, size);
    if (items == NULL) {
        return NULL;
    }
    Py_SET_SIZE((PyVarObject *)list, n);
    ((PyListObject *)list)->ob_item = items;
    ((PyListObject *)list)->allocated = CF_HEADERS_ARE_SHARED ? 0 : n; /* P6 */
    return list;
}

PyObject *
cf_pack_tuple(cf_packer *p, PyObject *src)
{
    Py_ssize_t n = PyTuple_GET_SIZE(src);
    if (n == 0 && PyTuple_CheckExact(src)) {
        PyObject *empty = PyTuple_New(0);
        Py_XDECREF(empty); /* the interpreter has one and keeps it */
        return empty;
    }
    size_t size = offsetof(PyTupleObject, ob_item) + (size_t)n * sizeof(PyObject *);
    PyTypeObject *type = Py_TYPE(src);
    if (type != &PyTuple_Type
        && (cf_pack_guard_class() < 0 || cf_pack_refer(p, (PyObject *)type) == NULL)) {
        return NULL;
    }
    PyObject *tuple = cf_pack_object(p, type, size, true);
    if (tuple != NULL) {
        Py_SET_SIZE((PyVarObject *)tuple, n);
        cf_tuple_forget_hash(tuple);
        p->outcome->source_bytes += 16 + size;
    }
    return tuple;
}

#if CF_TUPLE_CACHES_HASH
/* Is the hash of ITEM there, or made by C code alone? */
static bool
hashes_at_once(PyObject *item)
{
    cf_copy_kind kind = cf_pack_kind_of(item);
    switch (kind) {
    case CF_COPY_TUPLE:
        return PyTuple_GET_SIZE(item) == 0 || cf_tuple_hash(item) != -1;
    case CF_COPY_SET:
        return cf_pack_is_frozenset(item);
    default:
        return cf_copy_hashes(item, kind);
    }
}
#endif

/* P4. A tuple in which something unhashable lies has no hash, and one around it
 * does not ask again: each level looks only at its own items. What only Python
 * code can hash is left to the reader (P2). */
void
cf_pack_warm_tuple(PyObject *tuple)
{
#if CF_TUPLE_CACHES_HASH
    if (Py_TYPE(tuple)->tp_hash != PyTuple_Type.tp_hash) {
        return;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (item == NULL || !hashes_at_once(item)) {
            return;
        }
    }
    if (PyObject_Hash(tuple) == -1) {
        PyErr_Clear();
    }
#else
    (void)tuple;
#endif
}
