/* kept.c - what freezes have frozen, and what they left, until the end of the process.
 *
 *   bits    ... 0 0 1 0 0 1 0 ...       one for every 8 bytes (objset.c): a frozen object,
 *                                       and no plain one
 *   left    [ op, type, ref ] ...       by address: what was met, left, and has something to
 *                |          `-.         finish (a file, an object with __del__)
 *                `-> object <-' weak
 *
 * The end of a process needs both: what only a frozen object holds must be found, to die as
 * ever, and what was left is finished by the process that froze (exit/finish.c). The bits are
 * those that the walk has set anyway, without those of objects that it passed over.
 *
 * What was left may die at any time, and must: a reference of ours would keep its file open. Its
 * address is used again at once, by the file that takes its place. So a weak reference tells
 * whether it is still there. What cannot have one (`__slots__`) is only known by its address
 * and its type: somebody must have found such an object there, and it may be a later one.
 *
 *   K1  an address with a bit is readable for ever: what is frozen is never freed;
 *   K2  the op of an entry may be read if its ref refers to it, and is a mere number otherwise.
 */
#include "objects/kept.h"

#include "base/mem.h"
#include "proc/identity.h"

#include <stdlib.h>
#include <string.h>

/* All under the GIL: written by a freeze and in a process that ends, read at exits. */
static cf_objset kept;
static cf_range *kept_ranges;
static size_t kept_ranges_size;
static cf_left *left;
static size_t n_left;
static size_t left_size;   /* bytes mapped */
static bool left_unknown;  /* there was no memory to note it down */
static uint64_t frozen_in; /* the process that finishes what was left (proc/identity.c) */

/* -- what was left ------------------------------------------------------- */

static bool
is_to_finish(cf_decision decision)
{
    return decision == CF_SKIP_FILE || decision == CF_SKIP_SOCKET || decision == CF_SKIP_HANDLE
           || decision == CF_SKIP_FINALIZER || decision == CF_SKIP_GENERATOR || decision == CF_SKIP_TASK
           || decision == CF_SKIP_LIFE;
}

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const cf_left *)a)->op, y = (uintptr_t)((const cf_left *)b)->op;
    return (x > y) - (x < y);
}

/* A weak reference to OP, or NULL. */
static PyObject *
refer_to(PyObject *op)
{
    if (Py_TYPE(op)->tp_weaklistoffset == 0) {
        return NULL;
    }
    PyObject *ref = PyWeakref_NewRef(op, NULL);
    if (ref == NULL) {
        PyErr_Clear();
    }
    else if (Py_REFCNT(ref) == 1) {
        PyObject_GC_UnTrack(ref); /* it is new: no collection is to write it */
    }
    return ref;
}

/* Note down what PLAN left, at NEW. How many that are. */
static size_t
note_down(const cf_plan *plan, cf_left *new)
{
    cf_typeinfo info = {0};
    size_t n = 0;
    for (size_t i = 0; i < plan->left.used; i++) {
        PyObject *op = (PyObject *)plan->left.words[i];
        if (info.type != Py_TYPE(op)) { /* without skip=: what that leaves may have something to finish */
            cf_policy_classify(&info, Py_TYPE(op), NULL, &plan->own_code);
        }
        cf_decision decision = info.check_object ? cf_policy_object(&info, op) : (cf_decision)info.decision;
        if (!cf_header_done(op) && is_to_finish(decision)) {
            new[n++] = (cf_left){op, Py_TYPE(op), refer_to(op)};
        }
    }
    qsort(new, n, sizeof(cf_left), by_address);
    return n;
}

static void
take_left(const cf_plan *plan)
{
    size_t size = (n_left + plan->left.used) * sizeof(cf_left);
    if (size == 0) {
        return;
    }
    cf_left *all = cf_mem_reserve(size);
    if (all == NULL) {
        left_unknown = true;
        return;
    }
    int was_enabled = PyGC_Disable(); /* before 3.12 a new object may start it at once */
    size_t n_new = note_down(plan, all), n = n_new;
    if (was_enabled) {
        PyGC_Enable();
    }
    for (size_t i = 0; i < n_left; i++) {
        bool known = bsearch(&left[i], all, n_new, sizeof(cf_left), by_address) != NULL;
        if (!known && (left[i].ref == NULL || cf_left_is_there(&left[i]))) {
            all[n++] = left[i];
        }
        else {
            Py_XDECREF(left[i].ref);
        }
    }
    qsort(all, n, sizeof(cf_left), by_address);
    cf_mem_unmap(left, left_size);
    left = all;
    n_left = n;
    left_size = size;
}

const cf_left *
cf_kept_left(size_t *n)
{
    *n = n_left;
    return left;
}

bool
cf_kept_left_is_known(void)
{
    return !left_unknown;
}

/* -- whose --------------------------------------------------------------- */

bool
cf_kept_any(void)
{
    return frozen_in != 0;
}

bool
cf_kept_is_inherited(void)
{
    return frozen_in != 0 && frozen_in != cf_process_id();
}

/* -- all of it ----------------------------------------------------------- */

static void
add(void *op, void *set)
{
    (void)cf_objset_add(set, op);
}

void
cf_kept_take(cf_plan *plan, bool takes_over)
{
    if (takes_over || !cf_kept_is_inherited()) {
        take_left(plan);
        frozen_in = cf_process_id();
    }
    for (size_t i = 0; i < plan->left.used; i++) {
        PyObject *op = (PyObject *)plan->left.words[i];
        if (!cf_header_done(op)) { /* else a weak reference, taken in the end */
            cf_objset_remove(&plan->seen, op);
        }
    }
    cf_objset_visit(&kept, add, &plan->seen);
    cf_objset_clear(&kept);
    cf_mem_unmap(kept_ranges, kept_ranges_size);
    kept = plan->seen;
    cf_objset_forget_pages(&kept);
    kept_ranges = plan->ranges;
    kept_ranges_size = plan->ranges_capacity * sizeof(cf_range);
    memset(&plan->seen, 0, sizeof(plan->seen));
    plan->ranges = NULL;
}

void
cf_kept_visit(void (*visit)(void *, void *), void *arg)
{
    cf_objset_visit(&kept, visit, arg);
}
