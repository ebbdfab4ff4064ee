/* pack_containers.c - lists, tuples and sets of packed data, and their repair.
 *
 *   list     [ count, type | size | items* | allocated: 0 ]      items: a table
 *   tuple    [ gc 16 x 0 ][ count, type | size | hash (3.14) | items ]
 *   set      [ gc 16 x 0 ][ count, type | fill, used, mask | table* | hash | 8 entries ]
 *            its table is that of a real set, copied once that is complete
 *   guard    [ owner | n | size | 0 ] in front of each table where headers are shared
 *
 * P6: C code that resizes a list goes to realloc() with a pointer that is not
 * malloc's, and aborts before it has written the header. What C code can still
 * do to a header in shared memory before it dies is undone from the guards.
 */
#include "pack.h"

#include "packed.h"
#include "packtypes.h"

#include <string.h>

/* -- containers ---------------------------------------------------------- */

PyObject *
cf_pack_list(cf_packer *p, PyObject *src)
{
    Py_ssize_t n = PyList_GET_SIZE(src);
    PyObject *list =
        cf_pack_object(p, &cf_packed_list_type, sizeof(PyListObject), false);
    void *items = n == 0 && !CF_HEADERS_ARE_SHARED ? p->no_items : NULL;
    if (list != NULL && items == NULL) {
        size_t size = (size_t)(n == 0 ? 1 : n) * sizeof(PyObject *);
        items = cf_pack_table(p, list, n, size);
        if (n == 0) {
            p->no_items = items;
        }
    }
    if (list == NULL || items == NULL) {
        return NULL;
    }
    Py_SET_SIZE((PyVarObject *)list, n);
    ((PyListObject *)list)->ob_item = items;
    ((PyListObject *)list)->allocated = 0; /* P6 */
    p->outcome->source_bytes += 16 + sizeof(PyListObject)
                                + (size_t)n * sizeof(PyObject *);
    return list;
}

PyObject *
cf_pack_tuple(cf_packer *p, PyObject *src)
{
    Py_ssize_t n = PyTuple_GET_SIZE(src);
    if (n == 0) {
        PyObject *empty = PyTuple_New(0);
        Py_XDECREF(empty); /* the interpreter has one and keeps it */
        return empty;
    }
    size_t size = offsetof(PyTupleObject, ob_item) + (size_t)n * sizeof(PyObject *);
    PyObject *tuple = cf_pack_object(p, &PyTuple_Type, size, true);
    if (tuple != NULL) {
        Py_SET_SIZE((PyVarObject *)tuple, n);
        cf_tuple_forget_hash(tuple);
        p->outcome->source_bytes += 16 + size;
    }
    return tuple;
}

bool
cf_pack_is_frozenset(PyObject *op)
{
    return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type;
}

/* Header only; the table is that of a set which its frame fills meanwhile. An
 * exact frozenset has a place for weak references: P5. */
PyObject *
cf_pack_set(cf_packer *p, PyObject *src)
{
    PyTypeObject *type = !cf_pack_is_frozenset(src) ? &cf_packed_set_type
                         : CF_HAS_IMMORTAL  ? &PyFrozenSet_Type
                                            : &cf_packed_frozenset_type;
    return cf_pack_object(p, type, sizeof(PySetObject), true);
}

int
cf_pack_finish_set(cf_packer *p, cf_clone_frame *f)
{
    const PySetObject *from = (const PySetObject *)f->set;
    PySetObject *to = (PySetObject *)f->dst;
    size_t size = (size_t)(from->mask + 1) * sizeof(setentry);
    to->fill = from->fill;
    to->used = from->used;
    to->mask = from->mask;
    to->hash = -1;
    to->finger = 0;
    to->weakreflist = NULL;
    if (from->table == from->smalltable) {
        to->table = to->smalltable;
    }
    else {
        to->table = cf_pack_table(p, f->dst, to->used, size);
        if (to->table == NULL) {
            return -1;
        }
        p->outcome->source_bytes += size;
    }
    memcpy(to->table, from->table, size);
    if (cf_pack_is_frozenset(f->src)) {
        to->hash = PyObject_Hash(f->set);
    }
    p->outcome->source_bytes += 16 + sizeof(PySetObject);
    Py_CLEAR(f->set);
    return PyErr_Occurred() ? -1 : 0;
}

/* P4. A tuple in which something unhashable lies has no hash, and one around it
 * does not ask again: each level looks only at its own items. */
void
cf_pack_warm_tuple(PyObject *tuple)
{
#if CF_TUPLE_CACHES_HASH
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (item == NULL || Py_TYPE(item)->tp_hash == PyObject_HashNotImplemented
            || (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) > 0
                && cf_tuple_hash(item) == -1)) {
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

/* -- repair -------------------------------------------------------------- */

#if CF_HEADERS_ARE_SHARED
/* Does what GUARD says of its owner still hold? If not, it is written again. */
static bool
restore(const cf_pack_guard *guard)
{
    PyObject *op = guard->owner;
    void *table = (void *)(guard + 1);
    if (Py_TYPE(op) == &cf_packed_list_type) {
        PyListObject *list = (PyListObject *)op;
        if (list->ob_item == table && Py_SIZE(list) == guard->n && list->allocated == 0) {
            return false;
        }
        list->ob_item = table;
        list->allocated = 0;
        Py_SET_SIZE((PyVarObject *)list, guard->n);
        return true;
    }
    if (Py_TYPE(op) == &cf_packed_dict_type) {
        PyDictObject *dict = (PyDictObject *)op;
        if ((void *)dict->ma_keys == table && dict->ma_used == guard->n
            && dict->ma_values == NULL) {
            return false;
        }
        dict->ma_values = NULL;
        dict->ma_keys = table;
        dict->ma_used = guard->n;
        return true;
    }
    return false; /* C code cannot change a frozenset that others know */
}

#endif

size_t
cf_pack_repair(void)
{
    size_t wrong = 0;
#if CF_HEADERS_ARE_SHARED
    uintptr_t at, end;
    for (size_t i = 0; cf_packed_tables(i, &at, &end); i++) {
        while (at < end) {
            const cf_pack_guard *guard = (const cf_pack_guard *)at;
            wrong += restore(guard);
            at += sizeof(*guard) + guard->size;
        }
    }
#endif
    return wrong;
}
