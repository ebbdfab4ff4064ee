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
 * gc.freeze() has put mortal objects away, where no collection finds them. They come back,
 * in front of the others, because the collector finalises in the order of making. After a
 * freeze of the whole heap a worker can do without: they are not its own.
 *
 * A worker finishes what it made itself. What frozen objects hold and was there at the
 * freeze (which put it away, by gc.freeze(), so it can be told apart) is its parent's to
 * finish: it gets one reference more, and lives. Files among it are flushed: what is in
 * their buffers now was written after the freeze, which flushes them.
 *
 * Start reading at cf_finish_run().
 */
#include "exit/finish.h"

#include "base/mem.h"
#include "exit/heir.h"
#include "exit/interned.h"
#include "objects/kept.h"
#include "objects/packed_memory.h"
#include "objects/type_info.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pid_t frozen_in; /* the process that froze */
static bool with_roots; /* there was a freeze that left most of the heap mortal */
static PyObject *gc_freeze_function, *gc_unfreeze_function, *gc_get_objects_function;

/* -- who holds what is mortal -------------------------------------------- */

typedef struct {
    cf_estate estate;
    size_t holders_room;
    size_t class_dicts_room;
    size_t spared_room;
    bool inherited;       /* this is a worker */
    PyObject *emptied[2]; /* dicts of sys and builtins: CPython empties them itself */
} search;

static int
stop_at_mortal(PyObject *op, void *arg)
{
    (void)arg;
    return op != NULL && cf_is_to_die(op); /* some types report NULL */
}

/* Without memory the rest is not found, and does not die. */
static void
push(PyObject ***words, size_t *n, size_t *room, PyObject *op)
{
    if (*n == *room) {
        size_t larger = *room * 2 + 512;
        PyObject **grown = cf_mem_map(larger * sizeof(PyObject *));
        if (grown == NULL) {
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
            push(&estate->class_dicts, &estate->n_class_dicts, &s->class_dicts_room, dict);
        }
    }
    if (!PyObject_IS_GC(op) || type->tp_traverse == NULL || op == s->emptied[0] || op == s->emptied[1]
        || (s->inherited && (type == &PyTuple_Type || type == &PyFrozenSet_Type)) /* cannot have changed */
        || cf_packed_contains((uintptr_t)op)) {
        return;
    }
    if (type->tp_traverse(op, stop_at_mortal, NULL) != 0) {
        PyObject_GC_UnTrack(op); /* F1 */
        push(&estate->holders, &estate->n_holders, &s->holders_room, op);
    }
}

/* -- what is the parent's ------------------------------------------------ */

static bool
is_to_finish(cf_decision decision)
{
    return decision == CF_SKIP_FILE || decision == CF_SKIP_SOCKET || decision == CF_SKIP_HANDLE
           || decision == CF_SKIP_FINALIZER || decision == CF_SKIP_GENERATOR || decision == CF_SKIP_TASK
           || decision == CF_SKIP_LIFE;
}

static int
push_mortal(PyObject *op, void *arg)
{
    search *s = arg;
    if (op != NULL && PyObject_IS_GC(op) && cf_is_to_die(op) && is_to_finish(cf_heir_decision(op))) {
        push(&s->estate.spared, &s->estate.n_spared, &s->spared_room, op);
    }
    return 0;
}

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

/* Take those out of the sorted estate->spared that the collector has in its hands: they are
 * younger than the freeze, which put all others away. And every duplicate. */
static void
drop_own(cf_estate *estate, PyObject *young)
{
    qsort(estate->spared, estate->n_spared, sizeof(PyObject *), by_address);
    bool *own = cf_mem_map(estate->n_spared);
    size_t n = 0;
    for (Py_ssize_t i = 0; own != NULL && i < PyList_GET_SIZE(young); i++) {
        size_t at = cf_place_among(estate->spared, estate->n_spared, PyList_GET_ITEM(young, i));
        if (at < estate->n_spared) {
            own[at] = true;
        }
    }
    PyObject *last = NULL;
    for (size_t i = 0; own != NULL && i < estate->n_spared; i++) {
        PyObject *op = estate->spared[i];
        if (op != last && !own[i]) {
            estate->spared[n++] = op;
        }
        last = op;
    }
    cf_mem_unmap(own, estate->n_spared);
    estate->n_spared = n;
}

/* It gets one reference more, and lives; of files, what was written to them is written. */
static void
leave_to_parent(search *s)
{
    cf_estate *estate = &s->estate;
    for (size_t i = 0; i < estate->n_holders; i++) {
        PyObject *holder = estate->holders[i];
        (void)Py_TYPE(holder)->tp_traverse(holder, push_mortal, s);
    }
    PyObject *young = PyObject_CallNoArgs(gc_get_objects_function);
    if (estate->n_spared > 0 && young != NULL && PyList_CheckExact(young)) {
        drop_own(estate, young);
    }
    else {
        estate->n_spared = 0;
    }
    PyErr_Clear();
    Py_XDECREF(young);
    for (size_t i = 0; i < estate->n_spared; i++) {
        Py_INCREF(estate->spared[i]);
    }
    for (size_t i = 0; i < estate->n_spared; i++) {
        if (cf_policy_is_buffered_file(Py_TYPE(estate->spared[i]))) {
            Py_XDECREF(PyObject_CallMethod(estate->spared[i], "flush", NULL));
            PyErr_Clear(); /* it is closed */
        }
    }
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

static bool
is_alone(void)
{
    return PyInterpreterState_Head() == PyInterpreterState_Main()
           && PyInterpreterState_Next(PyInterpreterState_Main()) == NULL;
}

/* What was put away, to the front of the oldest generation. */
static void
bring_back(void)
{
    PyObject *functions[] = {gc_freeze_function, gc_unfreeze_function};
    for (int i = 0; i < 2; i++) {
        Py_XDECREF(PyObject_CallNoArgs(functions[i]));
        PyErr_Clear();
    }
}

int
cf_finish_prepare(bool whole_heap)
{
    frozen_in = getpid();
    with_roots |= !whole_heap;
    (void)cf_interned_find();
    if (gc_get_objects_function == NULL) {
        PyObject *gc = PyImport_ImportModule("gc");
        if (gc == NULL) {
            return -1;
        }
        gc_freeze_function = PyObject_GetAttrString(gc, "freeze");
        gc_unfreeze_function = PyObject_GetAttrString(gc, "unfreeze");
        gc_get_objects_function = PyObject_GetAttrString(gc, "get_objects");
        Py_DECREF(gc);
        if (gc_freeze_function == NULL || gc_unfreeze_function == NULL || gc_get_objects_function == NULL) {
            return -1;
        }
    }
    return cf_heir_prepare();
}

void
cf_finish_run(cf_finish_result *result)
{
    *result = (cf_finish_result){0};
    PyObject *modules = PyImport_GetModuleDict();
    if (!cf_is_finalizing() || modules == NULL || !PyDict_CheckExact(modules)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    search s = {.inherited = getpid() != frozen_in, .emptied = {dict_of(modules, "sys"), dict_of(modules, "builtins")}};
    cf_kept_visit(look_into, &s);
    if (s.inherited) {
        leave_to_parent(&s);
        spare_modules(modules, result);
    }
    if (!s.inherited || with_roots) {
        bring_back();
    }
    cf_heir_make(&s.estate);
    result->holders = s.estate.n_holders;
    if (is_alone() && (s.inherited || CF_INTERNED_ARE_FREED)) {
        result->swapped = cf_interned_swap(&result->strings);
    }
    PyErr_Restore(type, value, traceback);
}
