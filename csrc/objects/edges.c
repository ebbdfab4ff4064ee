/* edges.c - what an object refers to, also what tp_traverse does not report.
 *
 * tp_traverse exists to find cycles, so it may leave out what cannot be part of
 * one, and types outside the collector have none at all:
 *
 *   dict with str keys      the keys                      -> PyDict_Next (walk.c)
 *   instance, inline values the attribute names           -> ht_cached_keys of its type
 *                           its __dict__, once it exists  -> cf_managed_dict (3.13)
 *   code                    everything                    -> struct fields (code.h)
 *   heap type               ht_name, ht_qualname, ht_slots
 *   static type             everything; its tp_traverse aborts
 *   descriptor              d_name, d_qualname
 *   datetime, time          tzinfo                        -> struct fields (datetime.h)
 *   timezone, range         offset, name; length          -> cf_hidden_slots
 *   slice & co without GC   members                       -> tp_members
 *   numpy.ndarray           base, dtype, object elements  -> cf_ndarray
 *
 * Every pointer is borrowed, nothing is counted: a graph that is being measured
 * must not be written by being looked at.
 */
#include "objects/edges.h"

#include "cpython/layout.h"

#include <structmember.h>

/* numpy/ndarraytypes.h: NPY_ARRAY_OWNDATA; _C_CONTIGUOUS, _F_CONTIGUOUS. */
#define NDARRAY_OWNS_DATA 0x4
#define NDARRAY_IS_DENSE 0x3

#define VISIT(op)                                      \
    do {                                               \
        PyObject *target_ = (PyObject *)(op);          \
        if (target_ != NULL) {                         \
            int status_ = visit(target_, arg);         \
            if (status_ != 0) {                        \
                return status_; /* as Py_VISIT does */ \
            }                                          \
        }                                              \
    } while (0)

static int
visit_members(PyObject *op, visitproc visit, void *arg)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        if (PyType_IS_GC(type)) {
            continue; /* tp_traverse knows them */
        }
        for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++) {
            if (m->type == T_OBJECT || m->type == T_OBJECT_EX) {
                VISIT(*(PyObject **)((char *)op + m->offset));
            }
        }
    }
    return 0;
}

static int
visit_hidden(PyObject *op, visitproc visit, void *arg)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        for (int i = 0; i < cf_layout.n_hidden; i++) {
            const cf_hidden_slots *slots = &cf_layout.hidden[i];
            for (int k = 0; slots->type == type && k < slots->n; k++) {
                VISIT(*(PyObject **)((char *)op + slots->offsets[k]));
            }
        }
    }
    return 0;
}

/* The names under which instances keep their attributes. They are visited for
 * every type, because vars(instance) in a worker counts them. */
static int
visit_attribute_names(PyTypeObject *type, visitproc visit, void *arg)
{
#if CF_HAS_SHARED_KEYS
    if (!cf_layout.shared_keys || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        return 0;
    }
    cf_dict_keys *keys = (cf_dict_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
    if (keys == NULL || keys->dk_kind == 0) {
        return 0;
    }
    PyObject **entry = (PyObject **)(keys->dk_indices
                                     + ((size_t)1 << keys->dk_log2_index_bytes));
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++, entry += 2) {
        VISIT(*entry);
    }
#else
    (void)type;
    (void)visit;
    (void)arg;
#endif
    return 0;
}

int
cf_attribute_names(PyTypeObject *type, visitproc visit, void *arg)
{
    return visit_attribute_names(type, visit, arg);
}

size_t
cf_attribute_room(PyTypeObject *type)
{
#if CF_HAS_SHARED_KEYS
    if (cf_layout.shared_keys && PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        cf_dict_keys *keys = (cf_dict_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
        return keys != NULL ? (size_t)(keys->dk_nentries + keys->dk_usable) : 0;
    }
#else
    (void)type;
#endif
    return 0;
}

static int
visit_type(PyTypeObject *type, cf_depth depth, visitproc visit, void *arg)
{
    int status = visit_attribute_names(type, visit, arg);
    if (status != 0 || depth == CF_DEPTH_BOUNDARY) {
        return status;
    }
    VISIT(cf_type_dict(type));
    VISIT(type->tp_mro);
    VISIT(type->tp_bases);
    VISIT(type->tp_base);
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        PyHeapTypeObject *heap_type = (PyHeapTypeObject *)type;
        VISIT(heap_type->ht_name);
        VISIT(heap_type->ht_qualname);
        VISIT(heap_type->ht_slots);
        /* Not the metaclass's: type's own traverse visits the rest, and slots
         * of a metaclass instance are visited by subtype_traverse. */
        if (Py_TYPE(type)->tp_traverse != NULL) {
            status = Py_TYPE(type)->tp_traverse((PyObject *)type, visit, arg);
        }
    }
    return status;
}

static int
visit_code(PyCodeObject *code, visitproc visit, void *arg)
{
    CF_CODE_FIELDS(VISIT, code);
    return 0;
}

/* What a function carries as data. Not its globals: they are the program. */
static int
visit_function_data(PyFunctionObject *function, visitproc visit, void *arg)
{
    VISIT(function->func_closure);
    VISIT(function->func_defaults);
    VISIT(function->func_kwdefaults);
    VISIT(function->func_dict);
    return 0;
}

static int
visit_ndarray(PyObject *op, visitproc visit, void *arg)
{
    cf_ndarray *array = (cf_ndarray *)op;
    VISIT(array->base);
    VISIT(array->descr);
    if (array->base != NULL || array->descr == NULL
        || ((cf_ndarray_descr *)array->descr)->kind != 'O') {
        return 0; /* a view: the array that owns the elements is its base */
    }
    if ((array->flags & (NDARRAY_OWNS_DATA | NDARRAY_IS_DENSE)) == 0) {
        return 0; /* elements of somebody else, at any distance (strides may be 0) */
    }
    size_t n = 1;
    for (int i = 0; i < array->nd; i++) {
        n *= (size_t)array->dimensions[i];
    }
    /* Dense, in whichever order. */
    for (size_t i = 0; i < n; i++) {
        VISIT(((PyObject **)array->data)[i]);
    }
    return 0;
}

int
cf_edges_visit(PyObject *op, const cf_typeinfo *info, cf_depth depth, visitproc visit,
               void *arg)
{
    int status = 0;
    unsigned edges = info->edges;
    if (edges & CF_EDGE_TYPE) {
        return visit_type((PyTypeObject *)op, depth, visit, arg);
    }
    if (edges & CF_EDGE_CODE) {
        return visit_code((PyCodeObject *)op, visit, arg);
    }
    if (depth == CF_DEPTH_ROOT && info->type == &PyFunction_Type) {
        return visit_function_data((PyFunctionObject *)op, visit, arg);
    }
    if (edges & CF_EDGE_TRAVERSE) {
        status = info->type->tp_traverse(op, visit, arg);
    }
    if (edges & CF_EDGE_MANAGED_DICT) {
        VISIT(cf_managed_dict(op));
    }
    if (status == 0 && (edges & CF_EDGE_MEMBERS)) {
        status = visit_members(op, visit, arg);
    }
    if (status == 0 && (edges & CF_EDGE_HIDDEN)) {
        status = visit_hidden(op, visit, arg);
    }
    if (status == 0 && (edges & CF_EDGE_NDARRAY)) {
        status = visit_ndarray(op, visit, arg);
    }
    if (status == 0 && (edges & CF_EDGE_TZINFO)) {
        VISIT(cf_tzinfo_of(op));
    }
    if (status == 0 && (edges & CF_EDGE_DESCR)) {
        VISIT(((PyDescrObject *)op)->d_name);
        VISIT(((PyDescrObject *)op)->d_qualname);
    }
    return status;
}
