/* object_index.c - whose memory is this? An index from addresses to objects.
 *
 *   seen      a bit for every object (objset.c): the object at or before an address is
 *             found by looking back, and its extent tells if the address is inside
 *   tables    [ start, end, list ][ start, end, dict ] ...   (table_index.c); blocks that objects
 *             keep elsewhere, only those on pages that are asked about
 *   objects   [ root | root | a | b | c | ... ]   breadth first: the queue of the walk
 *   parents   [  R0  |  R1  | 0 | 0 | 1 | ... ]   who led there: the shortest path back
 *
 * The walk follows more than a freeze does: frames, generators, files and locks
 * own memory too. It must not write what it looks at, so nothing is counted,
 * and no mark is left in an object.
 *
 * The objects are those of the process that walks, at this moment. At the same
 * addresses lay the same objects at the fork, except what was made or freed
 * since; the caller compares with the header that the witness holds.
 */
#include "explain/object_index.h"

#include "allocators/block_room.h"
#include "objects/edges.h"
#include "cpython/layout.h"
#include "base/mem.h"
#include "objects/sizes.h"

#include <string.h>

#define SMALLEST_OBJECT 16
#define SMALLEST_TABLE 64
#define AHEAD 8

/* -- walk ---------------------------------------------------------------- */

typedef struct {
    cf_owners *owners;
    uint32_t parent;
} walker;

static void
meet(cf_owners *owners, PyObject *op, uint32_t parent)
{
    if (!cf_objset_add(&owners->plan.seen, op)) {
        return;
    }
    if (owners->n == owners->capacity) {
        owners->overflow = true;
        return;
    }
    owners->parents[owners->n] = parent;
    owners->objects[owners->n++] = op;
}

static int
visit_edge(PyObject *op, void *arg)
{
    walker *w = arg;
    meet(w->owners, op, w->parent);
    return 0;
}

const cf_typeinfo *
cf_owners_type(cf_owners *owners, PyTypeObject *type)
{
    cf_type_way *way = cf_plan_type_way(&owners->plan, type);
    bool new;
    return way->type == type ? way->info
                             : cf_plan_find_type_slowly(&owners->plan, type, &new);
}

static void
expand_items(walker *w, PyObject **items, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (items[i] != NULL) {
            meet(w->owners, items[i], w->parent);
        }
    }
}

static void
expand_dict(walker *w, PyObject *op)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(op, &position, &key, &value)) {
        meet(w->owners, key, w->parent);
        meet(w->owners, value, w->parent);
    }
}

static void
expand(walker *w, PyObject *op, const cf_typeinfo *info)
{
    unsigned edges = info->edges;
    if (edges == CF_EDGE_ITEMS) {
        if (PyList_CheckExact(op)) {
            expand_items(w, ((PyListObject *)op)->ob_item, PyList_GET_SIZE(op));
        }
        else {
            expand_items(w, ((PyTupleObject *)op)->ob_item, PyTuple_GET_SIZE(op));
        }
        return;
    }
    cf_typeinfo all = *info;
    if (info->decision != CF_TAKE) {
        all.edges = cf_policy_edges(info->type);
    }
    if (all.edges & CF_EDGE_DICT) {
        expand_dict(w, op);
    }
    if (all.edges != CF_EDGE_DICT) {
        cf_edges_visit(op, &all, CF_DEPTH_FULL, visit_edge, w);
    }
}

/* -- tables -------------------------------------------------------------- */

static void
add_table(cf_owners *owners, PyObject *op, cf_part part, uintptr_t start, size_t size)
{
    uintptr_t page = cf_page_size();
    if (start == 0 || size == 0) {
        return;
    }
    uintptr_t at = start & ~(page - 1);
    while (at < start + size && !cf_pageset_contains(owners->pages, at)) {
        at += page;
    }
    if (at >= start + size) {
        return;
    }
    if (!cf_tables_add(&owners->tables, &(cf_table){start, start + size, op, part})) {
        owners->overflow = true;
    }
}

static void
add_dict_table(cf_owners *owners, PyObject *op)
{
    PyDictObject *dict = (PyDictObject *)op;
    cf_dict_table table;
    if (CF_VALUES_WORD != 0 && dict->ma_values != NULL) {
        /* The __dict__ of an instance, which has taken over its values. */
        const cf_dict_keys *keys = (const cf_dict_keys *)dict->ma_keys;
        uintptr_t values = (uintptr_t)dict->ma_values;
        size_t prefix = ((const uint8_t *)values)[-1];
        size_t room = cf_layout.shared_keys ? (size_t)(keys->dk_nentries + keys->dk_usable) : 0;
        add_table(owners, op, CF_PART_VALUES, values - prefix, prefix + room * sizeof(PyObject *));
        return;
    }
    if (PyDict_GET_SIZE(op) == 0 || dict->ma_values != NULL) {
        return; /* the interpreter's one empty table, or the class's */
    }
    size_t size = cf_layout_dict_table(&table, op)
                      ? table.size
                      : 40 + (size_t)PyDict_GET_SIZE(op) * 3 * sizeof(PyObject *);
    add_table(owners, op, CF_PART_KEYS, (uintptr_t)dict->ma_keys, size);
}

static void
add_type_tables(cf_owners *owners, PyTypeObject *type)
{
#if CF_HAS_SHARED_KEYS
    size_t names = cf_attribute_room(type);
    if (names == 0) {
        return;
    }
    cf_dict_keys *keys = (cf_dict_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
    size_t size = (size_t)(keys->dk_indices - (char *)keys)
                  + ((size_t)1 << keys->dk_log2_index_bytes)
                  + names * 2 * sizeof(PyObject *);
    /* A word lies in front of shared keys: how many were unused at first (3.11). */
    add_table(owners, (PyObject *)type, CF_PART_SHARED_KEYS, (uintptr_t)keys, size);
#else
    (void)owners;
    (void)type;
#endif
}

static void
add_array_table(cf_owners *owners, PyObject *op)
{
    const cf_ndarray *array = (const cf_ndarray *)op;
    size_t size = 0;
    for (int i = 0; array->base == NULL && i < array->nd; i++) {
        size_t step = (size_t)(array->strides[i] < 0 ? -array->strides[i] : array->strides[i]);
        size_t part = step * (size_t)array->dimensions[i];
        size = part > size ? part : size;
    }
    add_table(owners, op, CF_PART_BUFFER, (uintptr_t)array->data, size);
}

/* The values of an instance that lie in a block of their own. */
static void
add_values(cf_owners *owners, PyObject *op)
{
    size_t size;
    uintptr_t start = cf_layout_values(op, &size);
    add_table(owners, op, CF_PART_VALUES, start, size);
}

static void
add_tables(cf_owners *owners, PyObject *op, const cf_typeinfo *info)
{
    cf_extent extent;
    switch ((cf_sizing)info->sizing) {
    case CF_SIZE_LIST:
    case CF_SIZE_SET:
        cf_extent_of(&extent, info, op);
        add_table(owners, op, info->sizing == CF_SIZE_LIST ? CF_PART_ITEMS : CF_PART_SET,
                  (uintptr_t)extent.table, extent.table_size);
        break;
    case CF_SIZE_DICT:
        add_dict_table(owners, op);
        break;
    case CF_SIZE_TYPE:
        add_type_tables(owners, (PyTypeObject *)op);
        break;
    default:
        break;
    }
    if (PyByteArray_CheckExact(op)) {
        const PyByteArrayObject *array = (const PyByteArrayObject *)op;
        add_table(owners, op, CF_PART_BUFFER, (uintptr_t)array->ob_bytes,
                  (size_t)array->ob_alloc);
    }
    if (info->edges & CF_EDGE_NDARRAY) {
        add_array_table(owners, op);
    }
    if (CF_VALUES_WORD != 0 && info->gc && info->prefix > 2 * sizeof(void *)) {
        add_values(owners, op);
    }
}

/* -- all of it ----------------------------------------------------------- */

static void
drain(cf_owners *owners, size_t from)
{
    for (size_t i = from; i < owners->n; i++) {
        PyObject *op = owners->objects[i];
        if (i + AHEAD < owners->n) {
            __builtin_prefetch(owners->objects[i + AHEAD]);
        }
        walker w = {owners, (uint32_t)i};
        const cf_typeinfo *info = cf_owners_type(owners, Py_TYPE(op));
        meet(owners, (PyObject *)Py_TYPE(op), (uint32_t)i);
        expand(&w, op, info);
        add_tables(owners, op, info);
    }
}

static int
visit_collected(PyObject *op, void *arg)
{
    meet(arg, op, CF_FROM_COLLECTOR);
    return 1;
}

static void
walk(cf_owners *owners, PyObject *roots)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(roots); i++) {
        meet(owners, PyTuple_GET_ITEM(roots, i), CF_FROM_ROOT | (uint32_t)i);
    }
    drain(owners, 0);
    /* Some of these refer to each other: only a first one has no parent. That
     * needs one at a time, which costs paths but not owners, so take all. */
    size_t reached = owners->n;
    cf_gc_visit_objects(visit_collected, owners);
    drain(owners, reached);
}

static int
reserve(cf_owners *owners)
{
    if (cf_plan_reserve(&owners->plan) < 0) {
        return -1;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < owners->plan.n_ranges; i++) {
        bytes += owners->plan.ranges[i].end - owners->plan.ranges[i].start;
    }
    owners->capacity = bytes / SMALLEST_OBJECT;
    if (owners->capacity >= CF_FROM_ROOT) {
        owners->capacity = CF_FROM_ROOT - 1;
    }
    owners->objects = cf_mem_reserve(owners->capacity * sizeof(PyObject *));
    owners->parents = cf_mem_reserve(owners->capacity * sizeof(uint32_t));
    if (cf_tables_reserve(&owners->tables, bytes / SMALLEST_TABLE) < 0
        || owners->objects == NULL || owners->parents == NULL) {
        return -1;
    }
    return 0;
}

int
cf_owners_build(cf_owners *owners, PyObject *roots, const cf_pageset *pages)
{
    memset(owners, 0, sizeof(*owners));
    owners->pages = pages;
    if (reserve(owners) < 0) {
        cf_owners_clear(owners);
        return -1;
    }
    walk(owners, roots);
    if (cf_tables_sort(&owners->tables) < 0) {
        cf_owners_clear(owners);
        return -1;
    }
    return 0;
}

void
cf_owners_clear(cf_owners *owners)
{
    cf_mem_unmap(owners->objects, owners->capacity * sizeof(PyObject *));
    cf_mem_unmap(owners->parents, owners->capacity * sizeof(uint32_t));
    cf_tables_clear(&owners->tables);
    cf_plan_clear(&owners->plan);
    memset(owners, 0, sizeof(*owners));
}

/* -- questions ----------------------------------------------------------- */

static bool
is_inside(cf_owners *owners, uintptr_t object, uintptr_t address, cf_owner *owner)
{
    PyObject *op = (PyObject *)object;
    const cf_typeinfo *info = cf_owners_type(owners, Py_TYPE(op));
    cf_extent extent;
    cf_extent_of(&extent, info, op);
    if (info->sizing == CF_SIZE_SAID) {
        uintptr_t end = cf_block_end(owners->plan.ranges, owners->plan.n_ranges, extent.start);
        extent.end = extent.end < end ? extent.end : end;
    }
    if (address < extent.start || address >= extent.end) {
        return false;
    }
    *owner = (cf_owner){op, info, CF_PART_BODY, (ptrdiff_t)(address - object)};
    return true;
}

/* Words are asked for by rising address: look around only when the last
 * answer does not hold any more. Where there are no objects at all (the tables
 * of a large array, free memory) the whole range is the answer. */
static void
look_around(cf_owners *owners, uintptr_t address)
{
    cf_objset *seen = &owners->plan.seen;
    if (address - owners->gap.start < owners->gap.end - owners->gap.start) {
        return;
    }
    uintptr_t next = owners->after;
    owners->before = owners->after = 0;
    if (!cf_objset_range(seen, address, &owners->gap)) {
        owners->gap = (cf_range){address, address + 1};
        return;
    }
    owners->after = cf_objset_after(seen, address);
    /* Mostly this is the next gap, and what ended the last one begins it. */
    bool next_gap = next >= owners->gap.start && next <= address
                    && cf_objset_after(seen, next) == owners->after;
    owners->before = next_gap ? next : cf_objset_before(seen, address);
    if (owners->before != 0) {
        owners->gap.start = owners->before;
    }
    if (owners->after != 0) {
        owners->gap.end = owners->after;
    }
}

bool
cf_owners_find(cf_owners *owners, uintptr_t address, cf_owner *owner)
{
    look_around(owners, address);
    /* What lies before a header belongs to the object behind it. */
    if (owners->after != 0 && owners->after - address <= 4 * sizeof(void *)
        && is_inside(owners, owners->after, address, owner)) {
        return true;
    }
    if (owners->before != 0 && is_inside(owners, owners->before, address, owner)) {
        return true;
    }
    const cf_table *table = cf_tables_find(&owners->tables, address);
    if (table != NULL) {
        PyObject *op = table->owner;
        *owner = (cf_owner){op, cf_owners_type(owners, Py_TYPE(op)), table->part,
                            (ptrdiff_t)(address - table->start)};
        return true;
    }
    return false;
}

PyObject *
cf_owners_first(cf_owners *owners, uintptr_t address, uintptr_t end)
{
    uintptr_t found = cf_objset_before(&owners->plan.seen, address);
    if (found != address) {
        found = cf_objset_after(&owners->plan.seen, address);
    }
    return found != 0 && found < end ? (PyObject *)found : NULL;
}

bool
cf_owners_knows_type(cf_owners *owners, PyTypeObject *type)
{
    cf_objset *seen = &owners->plan.seen;
    return type != NULL && cf_objset_before(seen, (uintptr_t)type) == (uintptr_t)type
           && PyType_Check((PyObject *)type);
}
