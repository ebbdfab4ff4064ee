/* object_index.h - whose memory is this? An index from addresses to objects. */
#ifndef CF_OBJECT_INDEX_H
#define CF_OBJECT_INDEX_H

#include "cpython/compat.h"
#include "base/pageset.h"
#include "objects/walk_memory.h"
#include "explain/table_index.h"

/* Where a way from the roots comes from, in cf_owners.parents. */
#define CF_FROM_ROOT UINT32_C(0x80000000)    /* root number in the other bits */
#define CF_FROM_COLLECTOR UINT32_C(0xFFFFFFFF) /* nobody that we know refers to it */

typedef struct {
    cf_plan plan;            /* `seen`, types and ranges of it are used */
    PyObject **objects;      /* breadth first: also the queue of the walk */
    uint32_t *parents;       /* position of who led there */
    size_t n;
    size_t capacity;
    cf_tables tables;        /* sorted once the walk is over */
    const cf_pageset *pages; /* only tables on these are remembered; borrowed */
    bool overflow;           /* there was more than there was room for */
    cf_range gap;            /* no object starts behind its start and before its end */
    uintptr_t before;        /* the object where it starts; 0: none */
    uintptr_t after;         /* the object where it ends; 0: none */
} cf_owners;

/* What was found at an address. */
typedef struct {
    PyObject *op;            /* borrowed */
    const cf_typeinfo *info; /* of its type */
    cf_part part;
    ptrdiff_t offset;        /* from op, or from the start of the table */
} cf_owner;

/* Walk everything that ROOTS (a tuple) reach, and what the collector knows.
 * Tables are remembered if they touch PAGES. All memory lies outside of the
 * heaps. Runs no Python code, allocates no object; writes counts of mortal objects only,
 * see the limits in docs/internals/measuring.md. Returns
 * 0, or -1 (out of memory, no exception; the index is empty). */
int cf_owners_build(cf_owners *owners, PyObject *roots, const cf_pageset *pages);

/* Give everything back. */
void cf_owners_clear(cf_owners *owners);

/* Find whose memory ADDRESS is. False: no object's that the walk has met. */
bool cf_owners_find(cf_owners *owners, uintptr_t address, cf_owner *owner);

/* The first object at or above ADDRESS and below END, or NULL. */
PyObject *cf_owners_first(cf_owners *owners, uintptr_t address, uintptr_t end);

/* What is known about TYPE. */
const cf_typeinfo *cf_owners_type(cf_owners *owners, PyTypeObject *type);

/* Was TYPE met as the type of an object? */
bool cf_owners_knows_type(cf_owners *owners, PyTypeObject *type);

#endif
