/* walk.c - from the roots to every object that a freeze takes.
 *
 *   roots -> todo [ A ][ B ][ C, from item 256 ] ...      a stack of words: object, or
 *              |                                          position and (object | 1)
 *              v pop, follow the edges
 *            met  [ o o o o o o o o ]   the headers are being fetched
 *              v all of them, when CF_COMING have been met
 *            settle: new? decide, warm, mark, untrack; push if it has edges
 *
 * What is "new"? A plain object (exact str, int, float) is, if it is not
 * marked. Others have edges, which must be followed once in each walk, also
 * through what was frozen earlier: for them objset.c keeps a bit.
 *
 * An object is read once: it is warmed and marked while it is in the cache,
 * because reading 300 MB of headers again costs as much as all the rest. That
 * is safe only because nothing can fail: all memory that a walk can need is
 * reserved first (walk_memory.c, I1).
 *
 * Memory is what a walk waits for, so an object is not looked at when it is
 * met, but a little later, when its header has arrived. Nothing that settles
 * an object may meet another one: types that are new go to todo.
 *
 * Depth costs stack words, never C stack, and every object is pushed once.
 * Wide containers are taken in portions, so that a list of ten million lists
 * does not put ten million words on the stack.
 *
 * Objects that are frozen already are followed too (what was added to a frozen
 * list since the last freeze must be found), but not written (I3).
 */
#include "freeze/walk.h"

#include "objects/edges.h"
#include "cpython/layout.h"
#include "freeze/freeze_object.h"

#define PORTION 256

/* Settle what was met. */
static CF_NOINLINE void
settle_met(cf_plan *plan)
{
    size_t n = plan->n_met;
    for (size_t i = 0; i < n; i++) {
        settle(plan, plan->met[i]);
    }
    plan->n_met = 0;
}

/* OP is referred to. Ask for its memory; it is settled when CF_COMING objects
 * have been met. */
static inline void
discover(cf_plan *plan, PyObject *op)
{
    __builtin_prefetch((const char *)op - 16, 1); /* GC header, type */
    __builtin_prefetch((const char *)op + 32, 1); /* sizes */
    plan->met[plan->n_met++] = op;
    if (CF_UNLIKELY(plan->n_met == CF_COMING)) {
        settle_met(plan);
    }
}

static int
visit_edge(PyObject *op, void *arg)
{
    if (op != NULL) {
        discover(arg, op);
    }
    return 0;
}

static void
push_rest(cf_plan *plan, PyObject *op, Py_ssize_t position)
{
    cf_stack_push(&plan->todo, (uintptr_t)position);
    cf_stack_push(&plan->todo, (uintptr_t)op | CF_POSITION_FOLLOWS);
}

static void
follow_items(cf_plan *plan, PyObject *op, Py_ssize_t from)
{
    PyObject **items;
    Py_ssize_t n;
    if (PyList_CheckExact(op)) {
        items = ((PyListObject *)op)->ob_item;
        n = PyList_GET_SIZE(op);
    }
    else {
        items = ((PyTupleObject *)op)->ob_item;
        n = PyTuple_GET_SIZE(op);
    }
    Py_ssize_t to = n - from > PORTION ? from + PORTION : n;
    if (to < n) {
        push_rest(plan, op, to);
    }
    /* Backwards, so that the first one is on top of the stack: memory is
     * mostly laid out forwards. */
    for (Py_ssize_t i = to - 1; i >= from; i--) {
        if (items[i] != NULL) {
            discover(plan, items[i]);
        }
    }
}

static void
follow_entries(cf_plan *plan, PyObject *op, Py_ssize_t from)
{
    cf_dict_table table;
    if (cf_layout_dict_table(&table, op)) {
        Py_ssize_t to = table.n - from > PORTION ? from + PORTION : table.n;
        if (to < table.n) {
            push_rest(plan, op, to);
        }
        PyObject **entry = table.entries + (size_t)from * table.width;
        for (Py_ssize_t i = from; i < to; i++, entry += table.width) {
            if (entry[1] == NULL) {
                continue; /* deleted */
            }
            /* Records have the same keys in the same places. */
            PyObject **last = &plan->last_keys[(size_t)i % CF_LAST_KEYS];
            if (*last != entry[0]) {
                *last = entry[0];
                discover(plan, entry[0]);
            }
            discover(plan, entry[1]);
        }
        return;
    }
    PyObject *key, *value;
    for (int n = 1; PyDict_Next(op, &from, &key, &value); n++) {
        discover(plan, key);
        discover(plan, value);
        if (n == PORTION) {
            push_rest(plan, op, from);
            return;
        }
    }
}

/* Remember the pages of a dict's table. Returns its size. */
static size_t
measure_dict_table(cf_plan *plan, PyObject *op)
{
    cf_dict_table table;
    const void *start = ((PyDictObject *)op)->ma_keys;
    size_t size = cf_layout_dict_table(&table, op) ? table.size : sizeof(void *);
    if (PyDict_GET_SIZE(op) == 0) {
        return 0; /* mostly the interpreter's one empty table */
    }
    cf_plan_add_table(plan, CF_SIZE_DICT, start, size);
    return size;
}

/* Follow the edges of OP; FROM is where a portion starts. */
static void
expand(cf_plan *plan, PyObject *op, Py_ssize_t from, cf_depth depth)
{
    const cf_typeinfo *info = find_type(plan, Py_TYPE(op));
    cf_typeinfo copy;
    if (CF_UNLIKELY(info == &plan->infos[CF_MAX_TYPES - 1])) {
        copy = *info; /* decided anew when another type that did not fit is met */
        info = &copy;
    }
    unsigned edges = info->edges;
    if (edges == CF_EDGE_ITEMS) {
        follow_items(plan, op, from);
        return;
    }
    if (edges & CF_EDGE_DICT) {
        follow_entries(plan, op, from);
    }
    if (edges != CF_EDGE_DICT && from == 0) {
        cf_edges_visit(op, info, depth, visit_edge, plan);
    }
}

static void
drain(cf_plan *plan)
{
    cf_depth depth = plan->whole_heap ? CF_DEPTH_FULL : CF_DEPTH_BOUNDARY;
    do {
        while (plan->todo.used > 0) {
            uintptr_t word = cf_stack_pop(&plan->todo);
            PyObject *op = (PyObject *)(word & ~(uintptr_t)CF_TAGS);
            Py_ssize_t from = 0;
            if (word & CF_NOT_SETTLED) {
                discover(plan, op);
                continue;
            }
            if (word & CF_POSITION_FOLLOWS) {
                from = (Py_ssize_t)cf_stack_pop(&plan->todo);
            }
            if (word & CF_NEW_DICT) {
                find_type(plan, Py_TYPE(op))->bytes += measure_dict_table(plan, op);
            }
            expand(plan, op, from, depth);
        }
        settle_met(plan);
    } while (plan->todo.used > 0);
}

void
cf_walk_from(cf_plan *plan, PyObject *op)
{
    discover(plan, op);
    drain(plan);
    if (!plan->whole_heap) {
        const cf_typeinfo *info = find_type(plan, Py_TYPE(op));
        if (info->boundary && info->decision == CF_TAKE) {
            /* A root that is a boundary is opened: the caller named it. */
            expand(plan, op, 0, CF_DEPTH_ROOT);
            drain(plan);
        }
    }
}

/* May the collector see it before it is complete? */
static bool
is_made_in_sight(PyObject *op)
{
    return PyTuple_CheckExact(op) || (CF_FROZENSETS_GROW && PyFrozenSet_CheckExact(op));
}

/* Only noted down here: untracking the object that the collector is looking at
 * would end its list.
 *
 * Tuples are taken only if something refers to them. The others are known to C
 * code or to a frame alone, and may still be in the making: tuple(iterator)
 * tracks its result, fills it and resizes it at the end, which fails if it has
 * become immortal. It cannot be told from a finished one when it happens to be
 * full. The same with frozenset(iterable) before 3.14, which would keep the hash of
 * what it held then. */
static int
visit_collected(PyObject *op, void *arg)
{
    cf_plan *plan = arg;
    if (!is_made_in_sight(op)) {
        cf_stack_push(&plan->todo, (uintptr_t)op | CF_NOT_SETTLED);
    }
    return 1;
}

static int
visit_left_over(PyObject *op, void *arg)
{
    cf_plan *plan = arg;
    if (is_made_in_sight(op) && !cf_header_done(op) && cf_objset_add(&plan->seen, op)) {
        pass_over(plan, op, CF_SKIP_UNFINISHED);
    }
    return 1;
}

void
cf_walk_collector(cf_plan *plan)
{
    cf_gc_visit_objects(visit_collected, plan);
    drain(plan);
}

void
cf_walk_list(cf_plan *plan, PyObject *all)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all); i++) {
        (void)visit_collected(PyList_GET_ITEM(all, i), plan);
        drain(plan);
    }
}

void
cf_walk_left_over(cf_plan *plan, PyObject *all)
{
    if (all == NULL) {
        cf_gc_visit_objects(visit_left_over, plan);
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all); i++) {
        (void)visit_left_over(PyList_GET_ITEM(all, i), plan);
    }
}

/* -- afterwards ---------------------------------------------------------- */

#define MAX_ROUNDS 64

typedef struct {
    cf_plan *plan;
    size_t warmed;
    size_t left;
} deferred_round;

static void
warm_deferred(void *object, void *arg)
{
    deferred_round *round = arg;
    PyObject *op = object;
    const cf_typeinfo *info = find_type(round->plan, Py_TYPE(op));
    if (info->warmth == CF_WARM_TUPLE && info->decision == CF_TAKE
        && cf_tuple_hash(op) == -1) {
        cf_warmed warmed = cf_warm(op, CF_WARM_TUPLE);
        round->warmed += warmed == CF_IS_WARM && cf_tuple_hash(op) != -1;
        round->left += warmed == CF_WARM_LATER;
    }
}

/* The walk is over. Those whose referent is dead or was taken cannot be met by the collector. What was
 * taken is marked, or in a dry run `seen` without what was passed over. */
static void
settle_weakrefs(cf_plan *plan)
{
    for (size_t i = 0; plan->dry_run && i < plan->left.used; i++) {
        cf_objset_remove(&plan->seen, (void *)plan->left.words[i]);
    }
    for (size_t i = 0; i < plan->left.used; i++) {
        PyObject *op = (PyObject *)plan->left.words[i];
        if (!PyWeakref_Check(op) || !find_type(plan, Py_TYPE(op))->check_object) {
            continue;
        }
        PyObject *referent = ((PyWeakReference *)op)->wr_object;
        if (referent != Py_None && !cf_header_done(referent)
            && !(plan->dry_run && cf_objset_before(&plan->seen, (uintptr_t)referent) == (uintptr_t)referent)) {
            continue;
        }
        cf_typeinfo *info = find_type(plan, Py_TYPE(op));
        plan->skipped_by[CF_SKIP_WEAKREF]--;
        (void)cf_objset_add(&plan->seen, op);
        if (!cf_header_done(op)) {
            book(plan, info, op);
        }
        if (!plan->dry_run) {
            take(plan, info, op);
        }
    }
}

void
cf_walk_finish(cf_plan *plan)
{
    settle_weakrefs(plan);
    /* In address order inner tuples mostly come first: one round does nearly
     * all. What MAX_ROUNDS leave over nests deeper than anybody hashes. */
    deferred_round round = {plan, 1, plan->deferred};
    for (int i = 0; i < MAX_ROUNDS && round.left > 0 && round.warmed > 0; i++) {
        round.warmed = round.left = 0;
        cf_objset_visit(&plan->seen, warm_deferred, &round);
    }
    plan->unwarmed += round.left;
}

/* -- all of it ----------------------------------------------------------- */

void
cf_walk(cf_plan *plan, PyObject *roots, PyObject *all)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(roots); i++) {
        cf_walk_from(plan, PyTuple_GET_ITEM(roots, i));
    }
    if (plan->whole_heap) {
        if (all != NULL) {
            cf_walk_list(plan, all);
        }
        else {
            cf_walk_collector(plan);
        }
        PyObject *modules = PyImport_GetModuleDict();
        PyObject *builtins = PyEval_GetBuiltins();
        if (modules != NULL) {
            cf_walk_from(plan, modules);
        }
        if (builtins != NULL) {
            cf_walk_from(plan, builtins);
        }
        cf_walk_left_over(plan, all);
    }
    cf_walk_finish(plan);
    /* A type's tp_traverse may leave an exception behind, which nobody may see:
     * the freeze has happened. */
    PyErr_Clear();
}
