/* sizes.h - how many bytes an object has, and where.
 *
 *   [ managed dict, weakrefs ][ GC header ][ ob_refcnt, ob_type, body ... ]     one block
 *   ^ start = op - prefix                  ^ op                            ^ end
 *
 *   list, set   -> [ table ]     a block of its own
 *   dict        -> [ keys ]      another one; measured when its entries are
 *                                followed, because reading it is a cache miss
 *
 * Header only: the walk asks for every object.
 *
 * What CF_SIZE_SAID gives is what the object says; who uses it asks cf_block_end() (block_room.c)
 * whether that can be.
 */
#ifndef CF_SIZES_H
#define CF_SIZES_H

#include "cpython/compat.h"
#include "cpython/layout.h"
#include "objects/type_info.h"

typedef struct {
    uintptr_t start;
    uintptr_t end;
    const void *table; /* NULL: none */
    size_t table_size;
} cf_extent;

static inline size_t
cf_str_size(PyObject *op)
{
    size_t length = (size_t)PyUnicode_GET_LENGTH(op);
    PyASCIIObject *str = (PyASCIIObject *)op;
    if (!str->state.compact) {
        return sizeof(PyUnicodeObject);
    }
    if (str->state.ascii) {
        return sizeof(PyASCIIObject) + length + 1;
    }
    return sizeof(PyCompactUnicodeObject) + (length + 1) * str->state.kind;
}

static inline size_t
cf_int_size(PyObject *op)
{
    return CF_INT_HEADER + cf_int_digits(op) * sizeof(digit);
}

static inline void
cf_extent_of(cf_extent *extent, const cf_typeinfo *info, PyObject *op)
{
    size_t prefix = info->prefix;
    size_t size = (size_t)info->basic_size;
    extent->table = NULL;
    extent->table_size = 0;
    switch ((cf_sizing)info->sizing) {
    case CF_SIZE_FIXED:
    case CF_SIZE_DICT:
    case CF_N_SIZINGS:
        break;
    case CF_SIZE_VAR:
    case CF_SIZE_SAID: {
        Py_ssize_t n = Py_SIZE(op);
        size += (size_t)(n < 0 ? -n : n) * (size_t)info->item_size;
        break;
    }
    case CF_SIZE_TYPE:
        if (PyType_HasFeature((PyTypeObject *)op, Py_TPFLAGS_HEAPTYPE)) {
            size += (size_t)Py_SIZE(op) * (size_t)info->item_size;
        }
        else {
            prefix = 0; /* a static type: no GC header, not a PyHeapTypeObject */
            size = sizeof(PyTypeObject);
        }
        break;
    case CF_SIZE_STR:
        size = cf_str_size(op);
        break;
    case CF_SIZE_INT:
        size += cf_int_digits(op) * sizeof(digit); /* a subclass, with a body of its own */
        break;
    case CF_SIZE_LIST:
        if (((PyListObject *)op)->allocated > 0) { /* -1 while it is being sorted */
            extent->table = ((PyListObject *)op)->ob_item;
            extent->table_size =
                (size_t)((PyListObject *)op)->allocated * sizeof(PyObject *);
        }
        break;
    case CF_SIZE_SET: {
        PySetObject *set = (PySetObject *)op;
        if (set->table != set->smalltable) {
            extent->table = set->table;
            extent->table_size = ((size_t)set->mask + 1) * sizeof(setentry);
        }
        break;
    }
    }
    extent->start = (uintptr_t)op - prefix;
    extent->end = (uintptr_t)op + size;
}

#endif
