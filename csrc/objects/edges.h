/* edges.h - what an object refers to, also what tp_traverse does not report. */
#ifndef CF_EDGES_H
#define CF_EDGES_H

#include "cpython/compat.h"
#include "objects/type_info.h"

/* How far into an object a walk may look. */
typedef enum {
    CF_DEPTH_BOUNDARY, /* a type in a walk with roots: its attribute names only */
    CF_DEPTH_ROOT,     /* named by the caller: all, but of a function its data only */
    CF_DEPTH_FULL,     /* all */
} cf_depth;

/* Call VISIT(target, ARG) for every reference of OP except the items of exact
 * lists, tuples and dicts, which the walk takes in portions (walk.c). Pointers
 * are borrowed. Stops at the first non-zero result and returns it, else 0.
 * Allocates nothing, runs no Python code (tp_traverse is C). */
int cf_edges_visit(PyObject *op, const cf_typeinfo *info, cf_depth depth, visitproc visit,
                   void *arg);

/* Call VISIT(name, ARG) for the names under which instances of TYPE keep
 * attributes in themselves, in the order of the values. Likewise. */
int cf_attribute_names(PyTypeObject *type, visitproc visit, void *arg);

/* For how many such attributes they have room; 0: not known. */
size_t cf_attribute_room(PyTypeObject *type);

#endif
