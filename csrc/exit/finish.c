/* finish.c - the interpreter's end, with a heap that does not die.
 *
 * A process ends as ever: CPython finalises, to its last line. What a freeze changed is
 * that most objects are immortal, and the end of a program is made of deaths. Without a
 * freeze the modules die in Py_FinalizeEx, in this order:
 *
 *   atexit, threads, a collection
 *   finalize_modules   1  some names in sys are dropped, __interactivehook__ last
 *                      2  sys.modules is emptied
 *                      3  a collection: modules and all that only they hold are garbage.
 *                         Their finalizers run, while everything is still whole
 *                      4  what is alive all the same is wiped: None into each global
 *   the interpreter    5  thread states, context; types; interned strings
 *
 * With a frozen heap nothing would be garbage in 3, and 4 would write every module, before
 * finalizers that need their globals. So three things are set up between 1 and 2, by the
 * death of an object that stands in sys.__interactivehook__ during the exit (_freeze/at_exit.py):
 *
 *   the heir   an object that dies in 3 in the place of the frozen ones (heir.c), so that
 *              what only they hold is finalised as ever;
 *   modules    in a worker frozen ones are taken out of sys.modules, so that 4 passes them
 *              by;
 *   strings    the dict of interned strings is exchanged (interned.c), where no other
 *              interpreter is alive: in a worker because 5 writes every string, in the
 *              process that froze only where 5 frees strings that frozen objects use.
 *
 * gc.freeze() has put mortal objects away, where no collection finds them: the freeze's, or
 * the worker's own. They come back, in front of the others, because the collector finalises in
 * the order of making.
 *
 * A worker finishes what it made itself. What the freeze met and left (kept.c) is its
 * parent's to finish: it gets one reference more, and lives. Files among it are flushed: what
 * is in their buffers now was written after the freeze, which flushes them.
 *
 *   F5  without memory for any of this there is no heir: then what frozen objects hold does
 *       not end here, rather than end what is the parent's, which gets its reference all the same.
 *
 * Start reading at cf_finish_run().
 */
#include "exit/finish.h"

#include "base/mem.h"
#include "cpython/collector.h"
#include "exit/heir.h"
#include "exit/interned.h"
#include "objects/kept.h"
#include "objects/packed_memory.h"
#include "objects/type_info.h"

#include <stdlib.h>
#include <string.h>

/* -- who holds what is mortal -------------------------------------------- */

typedef struct {
    cf_estate estate;
    size_t holders_room;
    size_t class_dicts_room;
    bool inherited;       /* this is a worker */
    bool failed;          /* there was no memory (F5) */
    PyObject *emptied[2]; /* dicts of sys and builtins: CPython empties them itself */
} search;

static int
stop_at_mortal(PyObject *op, void *arg)
{
    (void)arg;
    return op != NULL && cf_is_to_die(op); /* some types report NULL */
}

static void
push(search *s, PyObject ***words, size_t *n, size_t *room, PyObject *op)
{
    if (*n == *room) {
        size_t larger = *room * 2 + 512;
        PyObject **grown = cf_mem_map(larger * sizeof(PyObject *));
        if (grown == NULL) {
            s->failed = true;
            return;
        }
        if (*n > 0) {
            memcpy(grown, *words, *n * sizeof(PyObject *));
        }
        cf_mem_unmap(*words, *room * sizeof(PyObject *));
        *words = grown;
        *room = larger;
    }
    (*words)[(*n)++] = op;
}

static int
by_word(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

static void
look_into(void *address, void *arg)
{
    search *s = arg;
    cf_estate *estate = &s->estate;
    PyObject *op = address;
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_Check(op)) {
        PyObject *dict = cf_type_dict((PyTypeObject *)op);
        if (dict != NULL && PyDict_Type.tp_traverse(dict, stop_at_mortal, NULL) != 0) {
            push(s, &estate->class_dicts, &estate->n_class_dicts, &s->class_dicts_room, dict);
            if (PyType_HasFeature((PyTypeObject *)op, Py_TPFLAGS_HEAPTYPE)) {
                PyObject_GC_UnTrack(op); /* F1 */
                push(s, &estate->holders, &estate->n_holders, &s->holders_room, op);
                return;
            }
        }
    }
    if (!PyObject_IS_GC(op) || type->tp_traverse == NULL || op == s->emptied[0] || op == s->emptied[1]
        || (s->inherited && (type == &PyTuple_Type || type == &PyFrozenSet_Type)) /* cannot have changed */) {
        return;
    }
    if (type->tp_traverse(op, stop_at_mortal, NULL) != 0 && !cf_packed_contains((uintptr_t)op)) {
        PyObject_GC_UnTrack(op); /* F1 */
        push(s, &estate->holders, &estate->n_holders, &s->holders_room, op);
    }
}

/* -- what is the parent's ------------------------------------------------ */

typedef struct {
    const cf_left *left;
    size_t n;
    bool *there;
} roll;

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const cf_left *)a)->op, y = (uintptr_t)((const cf_left *)b)->op;
    return (x > y) - (x < y);
}

/* A frozen object refers to OP, so it is one. If it lies where an object was left that can have
 * no weak reference, and is of its type, it is believed to be that. */
static int
call_roll(PyObject *op, void *arg)
{
    roll *r = arg;
    const cf_left wanted = {.op = op};
    const cf_left *found = op == NULL ? NULL : bsearch(&wanted, r->left, r->n, sizeof(cf_left), by_address);
    if (found != NULL && found->ref == NULL && found->type == Py_TYPE(op)) {
        r->there[found - r->left] = true;
    }
    return 0;
}

/* What the process that ends leaves to its parent; under the GIL. */
static PyObject **spared;
static size_t n_spared;

void
cf_finish_flush(void)
{
    for (size_t i = 0; i < n_spared; i++) {
        if (cf_policy_is_buffered_file(Py_TYPE(spared[i]))) {
            Py_XDECREF(PyObject_CallMethod(spared[i], "flush", NULL));
            PyErr_Clear(); /* it is closed */
        }
    }
}

/* It gets one reference more, and lives; of files, what was written to them is written. */
static void
leave_to_parent(search *s)
{
    cf_estate *estate = &s->estate;
    roll r = {.left = cf_kept_left(&r.n)};
    if (!cf_kept_left_is_known()) {
        s->failed = true;
    }
    if (r.n == 0) {
        return;
    }
    estate->spared = s->failed ? NULL : cf_mem_map(r.n * (sizeof(PyObject *) + sizeof(bool)));
    if (estate->spared == NULL) {
        s->failed = true;
        for (size_t i = 0; i < r.n; i++) { /* F5 */
            if (cf_left_is_there(&r.left[i])) {
                Py_INCREF(r.left[i].op);
            }
        }
        return;
    }
    r.there = (bool *)(estate->spared + r.n);
    for (size_t i = 0; i < estate->n_holders; i++) {
        (void)Py_TYPE(estate->holders[i])->tp_traverse(estate->holders[i], call_roll, &r);
    }
    for (size_t i = 0; i < r.n; i++) {
        if (r.there[i] || cf_left_is_there(&r.left[i])) {
            estate->spared[estate->n_spared++] = Py_NewRef(r.left[i].op);
        }
    }
    spared = estate->spared;
    n_spared = estate->n_spared;
    cf_finish_flush();
}

/* -- modules ------------------------------------------------------------- */

static PyObject *
dict_of(PyObject *modules, const char *name)
{
    PyObject *module = PyDict_GetItemString(modules, name);
    return module != NULL && PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
}

static void
spare_modules(PyObject *modules, cf_finish_result *result)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(modules, &position, &key, &value)) {
        /* Nothing dies, so no code runs; and taking entries out moves none. */
        if (PyUnicode_CheckExact(key) && PyModule_Check(value) && cf_header_done(value)
            && PyDict_DelItem(modules, key) == 0) {
            result->modules++;
        }
    }
    PyErr_Clear();
}

/* -- all of it ----------------------------------------------------------- */

/* What was put away, to the front of the oldest generation. */
static void
bring_back(void)
{
    if (cf_gc_freeze() < 0 || cf_gc_unfreeze() < 0) {
        PyErr_Clear();
    }
}

int
cf_finish_prepare(void)
{
    (void)cf_interned_find();
    return cf_heir_prepare();
}

void
cf_finish_run(cf_finish_result *result)
{
    *result = (cf_finish_result){0};
    PyObject *modules = PyImport_GetModuleDict();
    if (!cf_kept_any() || !cf_is_finalizing() || modules == NULL || !PyDict_CheckExact(modules)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    search s = {.inherited = cf_kept_is_inherited(),
                .emptied = {dict_of(modules, "sys"), dict_of(modules, "builtins")}};
    cf_kept_visit(look_into, &s);
    PyErr_Clear(); /* a type's tp_traverse may leave one behind */
    if (s.estate.n_class_dicts > 1) {
        qsort(s.estate.class_dicts, s.estate.n_class_dicts, sizeof(PyObject *), by_word);
    }
    if (s.inherited) {
        leave_to_parent(&s);
        spare_modules(modules, result);
    }
    bring_back();
    if (!s.failed) {
        cf_heir_make(&s.estate);
    }
    result->holders = s.estate.n_holders;
    if (!cf_other_interpreters() && (s.inherited || CF_INTERNED_ARE_FREED)) {
        result->swapped = cf_interned_swap(&result->strings);
    }
    PyErr_Restore(type, value, traceback);
}
