/* finish.c - an ordinary exit that leaves shared pages alone.
 *
 * Py_FinalizeEx() tears everything down, although the kernel would take the
 * whole memory back a moment later. In a worker each of its writes copies a
 * page. After atexit handlers, threads and a collection it
 *
 *   finalize_modules       stores None into every global of every module
 *   _PyUnicode_ClearInterned   3.13+: writes the state of every interned str;
 *                          3.14+: makes those mortal that are interned as
 *                          immortal, and frees them, although frozen objects
 *                          still point to them
 *
 * and what that costs grows with the heap. None of it has an effect where the
 * value is immortal: nothing dies. So the same is done here, to what is mortal
 * only, right before finalize_modules begins:
 *
 *   sys.modules    [ frozen | frozen | mortal | frozen | mortal ]
 *                      |        |                 |
 *                      `--------+-----------------+--> taken out, after their
 *                  mortal globals were set to None: a file that the worker
 *                  opened is closed, and flushed, as ever. CPython then tears
 *                  down what is left, the modules that the worker imported.
 *
 * and the interpreter's dict of interned strings is exchanged for one that
 * holds the mortal ones only (interned.c, F2).
 *
 * What then still writes has a size of its own, about 2 MiB: static types, the
 * code that is built into the interpreter, objects of C statics. A forked
 * worker goes without it: once its mortal globals are gone and its streams are
 * flushed it calls exit(). For that its status must be known, and CPython keeps
 * that in a C variable. So the death of SystemExit is watched:
 *
 *   main program    handle_system_exit: takes the code, drops the exception,
 *                   finalises, exit(code)     no Python frame exists by then
 *   a caught one    dies in an except clause: a frame exists
 *   a thread's      dies without a frame, but in another thread
 *   a handler's     dies without a frame, but after cf_finish_note(), which
 *                   threading._shutdown() calls before any atexit handler
 *   one that is     does not die: then no status is certain, and so it is if
 *   kept            one was there before the first freeze
 *
 * Where the status is not certain (a traceback was printed, another program
 * than python embeds the interpreter, a subclass of SystemExit) CPython goes
 * on, with the 2 MiB.
 *
 * The moment: finalize_modules first sets some names in sys to None, of which
 * __interactivehook__ is the last. The object that stands there during the
 * exit (exit.pxi) calls us when it dies.
 *
 *   F1  no header of an immortal object is written, and no global that holds
 *       one;
 *   F3  exit() is called only with the status that CPython would pass.
 *
 * Start reading at cf_finish_run().
 */
#include "exit/finish.h"

#include "exit/interned.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if CF_HAS_IMMORTAL

/* ---- the exit status -------------------------------------------------- */

static destructor dealloc_system_exit;

static struct {
    pid_t pid;    /* of the process in which one died without a frame; 0: none */
    int status;   /* -1: unknown */
} uncaught;

static pid_t noted;  /* the process that has begun to end, with that status */

/* Those that have not died. One that does not die when the interpreter has taken its code
 * (a cycle with its traceback, a global, a task) has the status, and nobody tells which it is. */
#define MOST_ALIVE 32
static newfunc new_system_exit;
static PyObject *alive[MOST_ALIVE];
static size_t n_alive;
static bool unsure; /* there were too many, or some that we have not seen begin */

/* Sub-interpreters share the type, may have a GIL of their own, and do not end the process. */
static bool
is_ours(void)
{
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

static PyObject *
begin_system_exit(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *op = new_system_exit(type, args, kwargs);
    if (op == NULL || !is_ours()) {
        return op;
    }
    if (n_alive == MOST_ALIVE) {
        unsure = true;
    }
    else {
        alive[n_alive++] = op;
    }
    return op;
}

static void
end_system_exit(PyObject *op)
{
    for (size_t i = 0; i < n_alive; i++) {
        if (alive[i] == op) {
            alive[i] = alive[--n_alive];
            return;
        }
    }
}

static void
watch_system_exit(PyObject *op)
{
    if (!is_ours()) {
        dealloc_system_exit(op);
        return;
    }
    pid_t pid = getpid(), its_pid = 0;
    int status = -1;
    end_system_exit(op);
    if (noted != pid && !cf_has_python_frame() && syscall(SYS_gettid) == pid) {
        PyObject *code = ((PySystemExitObject *)op)->code;
        its_pid = pid;
        if (Py_IS_TYPE(op, (PyTypeObject *)PyExc_SystemExit)) {
            if (code == NULL || code == Py_None) {
                status = 0;
            }
            else if (PyLong_Check(code)) {
                int overflow = 0;
                long value = PyLong_AsLongAndOverflow(code, &overflow);
                status = overflow ? -1 : (int)(value & 0xFF);
            }
            else {
                status = 1;
            }
        }
    }
    dealloc_system_exit(op); /* and the one that it replaced, which counts no longer */
    if (its_pid != 0) {
        uncaught.pid = its_pid;
        uncaught.status = status;
    }
}

void
cf_finish_note(void)
{
    noted = getpid();
    unsure |= n_alive > 0;
}

void
cf_finish_met(PyObject *op)
{
    if (PyObject_TypeCheck(op, (PyTypeObject *)PyExc_SystemExit)) {
        unsure = true;
    }
}

/* Classes take over the function that makes their instances when they are made. */
static void
watch_subclasses(PyTypeObject *type)
{
    PyObject *classes = PyObject_CallMethod((PyObject *)type, "__subclasses__", NULL);
    for (Py_ssize_t i = 0; classes != NULL && i < PyList_GET_SIZE(classes); i++) {
        PyTypeObject *below = (PyTypeObject *)PyList_GET_ITEM(classes, i);
        if (below->tp_new == new_system_exit) {
            below->tp_new = begin_system_exit;
        }
        watch_subclasses(below);
    }
    PyErr_Clear();
    Py_XDECREF(classes);
}

void
cf_finish_watch(void)
{
    PyTypeObject *type = (PyTypeObject *)PyExc_SystemExit;
    if (dealloc_system_exit == NULL) {
        dealloc_system_exit = type->tp_dealloc;
        type->tp_dealloc = watch_system_exit;
        new_system_exit = type->tp_new;
        type->tp_new = begin_system_exit;
        type->tp_vectorcall = NULL; /* it would not ask tp_new */
        watch_subclasses(type);
    }
}

/* ---- modules ---------------------------------------------------------- */

/* As _PyModule_ClearDict: names that begin with one underscore, then the
 * others. What is immortal stays (F1). */
static void
drop_mortal_globals(PyObject *dict, cf_finish_result *result)
{
    for (int private = 1; private >= 0; private--) {
        PyObject *key, *value;
        Py_ssize_t position = 0;
        while (PyDict_Next(dict, &position, &key, &value)) {
            if (_Py_IsImmortal(value) || !PyUnicode_CheckExact(key)) {
                continue;
            }
            Py_ssize_t length = PyUnicode_GET_LENGTH(key);
            bool one = length > 0 && PyUnicode_READ_CHAR(key, 0) == '_'
                       && (length == 1 || PyUnicode_READ_CHAR(key, 1) != '_');
            if (one != (bool)private
                || PyUnicode_CompareWithASCIIString(key, "__builtins__") == 0) {
                continue;
            }
            if (PyDict_SetItem(dict, key, Py_None) < 0) {
                PyErr_Clear();
            }
            result->dropped++;
        }
    }
}

/* ALL: also those modules that are not frozen, and leave sys.modules alone:
 * nothing comes after us. */
static void
spare_modules(cf_finish_result *result, bool all)
{
    PyObject *modules = PyImport_GetModuleDict();
    if (modules == NULL || !PyDict_CheckExact(modules)) {
        return;
    }
    size_t room = (size_t)PyDict_GET_SIZE(modules), n = 0;
    PyObject **spared = cf_mem_map((room + 1) * sizeof(PyObject *));
    if (spared == NULL) {
        return;
    }
    PyObject *builtins = PyEval_GetBuiltins();
    PyObject *sys = PyDict_GetItemString(modules, "sys");
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (n < room && PyDict_Next(modules, &position, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || !PyModule_Check(value)
            || (!all && !_Py_IsImmortal(value)) || value == sys || PyModule_GetDict(value) == builtins) {
            continue;
        }
        if (all) {
            spared[n++] = Py_NewRef(value);
            continue;
        }
        /* Nothing dies, so no code runs; and taking entries out moves none. */
        if (PyDict_DelItem(modules, key) == 0) {
            spared[n++] = value;
        }
        PyErr_Clear();
    }
    result->modules = n;
    while (n > 0) {
        drop_mortal_globals(PyModule_GetDict(spared[--n]), result);
        if (all) {
            Py_DECREF(spared[n]);
        }
    }
    cf_mem_unmap(spared, (room + 1) * sizeof(PyObject *));
}

/* False: a stream could not be flushed, which makes status 120 of 0. */
static bool
flush(const char *name)
{
    PyObject *stream = PySys_GetObject(name);
    if (stream == NULL || stream == Py_None) {
        return true;
    }
    PyObject *closed = PyObject_GetAttrString(stream, "closed");
    bool skip = closed != NULL && PyObject_IsTrue(closed) == 1;
    Py_XDECREF(closed);
    PyErr_Clear();
    if (skip) {
        return true;
    }
    PyObject *done = PyObject_CallMethod(stream, "flush", NULL);
    PyErr_Clear();
    Py_XDECREF(done);
    return done != NULL;
}

/* -- files --------------------------------------------------------------- */

static int
note_file(PyObject *op, void *files)
{
    static const char *const names[2][3] = {{"_io.TextIOWrapper", NULL, NULL},
                                            {"_io.BufferedWriter", "_io.BufferedRandom", "_io.BufferedRWPair"}};
    PyObject *const *lists = files;
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        for (size_t i = 0; i < 6; i++) {
            const char *name = names[i / 3][i % 3];
            if (name != NULL && strcmp(type->tp_name, name) == 0) {
                (void)PyList_Append(lists[i / 3], op);
                return 1;
            }
        }
    }
    return 1;
}

/* What a frozen object holds does not die, so a file there is not closed. What stands in its
 * buffer must not be lost. Text first: it writes to a buffer. */
static void
flush_files(void)
{
    PyObject *lists[2] = {PyList_New(0), PyList_New(0)};
    if (lists[0] != NULL && lists[1] != NULL) {
        /* Before 3.14 what was there at a gc.freeze() is not visited. It is little: what is frozen
         * is in no list of the collector. */
        PyObject *gc = CF_PERMANENT_IS_HIDDEN ? PyImport_ImportModule("gc") : NULL;
        Py_XDECREF(gc != NULL ? PyObject_CallMethod(gc, "unfreeze", NULL) : NULL);
        Py_XDECREF(gc);
        PyErr_Clear();
        cf_gc_visit_objects(note_file, lists);
        PyErr_Clear();
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lists[0]) + PyList_GET_SIZE(lists[1]); i++) {
            Py_ssize_t n_texts = PyList_GET_SIZE(lists[0]);
            PyObject *file = i < n_texts ? PyList_GET_ITEM(lists[0], i) : PyList_GET_ITEM(lists[1], i - n_texts);
            Py_XDECREF(PyObject_CallMethod(file, "flush", NULL));
            PyErr_Clear(); /* it is closed */
        }
    }
    PyErr_Clear();
    Py_XDECREF(lists[0]);
    Py_XDECREF(lists[1]);
}

/* F3: to be asked before anything is torn down. */
static int
known_status(void)
{
    if (noted != getpid() || unsure) {
        return -1;
    }
    return uncaught.pid == noted ? uncaught.status : 0;
}

void
cf_finish_run(cf_finish_result *result, bool may_end)
{
    *result = (cf_finish_result){0};
    if (!cf_is_finalizing()) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    int status = may_end ? known_status() : -1;
    spare_modules(result, status >= 0);
    if (status >= 0) {
        PyGC_Enable();
        PyGC_Collect();
        flush_files();
        bool flushed = flush("stdout");
        (void)flush("stderr");
        result->ended = true;
        exit(flushed ? status : 120);
    }
    flush_files();
    result->swapped = cf_interned_swap(&result->strings);
    PyErr_Restore(type, value, traceback);
}

#else /* every count is written, so there is nothing to spare */

void
cf_finish_watch(void)
{
}

void
cf_finish_note(void)
{
}

void
cf_finish_met(PyObject *op)
{
    (void)op;
}

void
cf_finish_run(cf_finish_result *result, bool may_end)
{
    (void)may_end;
    *result = (cf_finish_result){0};
}

#endif
