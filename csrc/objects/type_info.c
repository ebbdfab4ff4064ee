/* type_info.c - what is to be done with the instances of a type.
 *
 * The one place that knows kinds of objects. Everything is decided once per
 * type and kept in its cf_typeinfo; the walk and the commit then only look at
 * flags. Three questions:
 *
 *   may it be marked?     decision     frames, generators, locks, files ...: no, by name
 *   where are its edges?  edges       tp_traverse, and what tp_traverse does not report
 *   what is written late? warmth      hashes, version tags
 *
 * Why some kinds are never marked:
 *   - memoryview and managedbuffer: releasing one that is not tracked writes
 *     through NULL (memoryobject.c, mbuf_release), on 3.10 to 3.15. They are
 *     followed to the exporter all the same.
 *   - frames: the interpreter tests their count for 1 and copies the frame if
 *     it is not. Exceptions with a traceback and tracebacks hold frames.
 *   - generators, greenlets, tasks: resuming writes into them anyway, and immortal ones
 *     never run their finally blocks.
 *   - files, sockets, connections: an immortal one is never closed or flushed.
 *   - whatever else has a finalizer (__del__, tp_finalize, tp_del): it would never
 *     run. What it refers to is followed.
 *   - weak references with a callback to what is not frozen: when that dies in a
 *     cycle, the collector moves them to a list of its own (gcmodule.c,
 *     handle_weakrefs), through the NULL pointers of what is untracked. An immortal
 *     tracked one is no way out: 3.14 untracks those. They are followed, and decided
 *     about when the walk is over.
 *   - locks and thread state: their cleanup follows their death.
 *   - what ends something when it dies, or is taken apart by its owner without being asked for
 *     its count (life.c). They are followed.
 *
 * Types of extension modules are known by tp_name: importing the module to ask
 * for the type would be a side effect, and a type that is not there has no
 * instances.
 */
#include "objects/type_info.h"

#include "cpython/layout.h"
#include "objects/packed_types.h"

#include <string.h>

typedef struct {
    const char *name;
    cf_decision decision;
} named_decision;

/* Compared with tp_name of the type and of every base of it. */
static const named_decision named_decisions[] = {
    {"coroutine_wrapper", CF_SKIP_GENERATOR},
    {"async_generator_asend", CF_SKIP_GENERATOR},
    {"async_generator_athrow", CF_SKIP_GENERATOR},
    {"greenlet.greenlet", CF_SKIP_GREENLET},
    {"_thread.lock", CF_SKIP_LOCK},
    {"_thread.RLock", CF_SKIP_LOCK},
    {"_multiprocessing.SemLock", CF_SKIP_LOCK},
    {"_queue.SimpleQueue", CF_SKIP_LOCK},
    {"_thread._local", CF_SKIP_THREAD},
    {"_thread._localdummy", CF_SKIP_THREAD},
    {"_thread._ThreadHandle", CF_SKIP_THREAD},
    {"_io._IOBase", CF_SKIP_FILE},
    {"_socket.socket", CF_SKIP_SOCKET},
    {"_ssl._SSLSocket", CF_SKIP_SOCKET},
    {"_ssl._SSLContext", CF_SKIP_SOCKET},
    {"mmap.mmap", CF_SKIP_HANDLE},
    {"sqlite3.Connection", CF_SKIP_HANDLE},
    {"sqlite3.Cursor", CF_SKIP_HANDLE},
    {"sqlite3.Statement", CF_SKIP_HANDLE},
    {"sqlite3.Blob", CF_SKIP_HANDLE},
    {"select.epoll", CF_SKIP_HANDLE},
    {"select.poll", CF_SKIP_HANDLE},
    {"posix.ScandirIterator", CF_SKIP_HANDLE},
    {"_asyncio.Task", CF_SKIP_TASK},
    {"_asyncio.Future", CF_SKIP_TASK},
    {"_contextvars.Context", CF_SKIP_CONTEXT},
    {"_contextvars.Token", CF_SKIP_CONTEXT},
};

static const char *const decision_names[CF_N_DECISIONS] = {
    [CF_TAKE] = "taken",
    [CF_SKIP_FRAME] = "frame",
    [CF_SKIP_TRACEBACK] = "traceback",
    [CF_SKIP_GENERATOR] = "generator or coroutine",
    [CF_SKIP_GREENLET] = "greenlet",
    [CF_SKIP_BUFFER] = "memoryview",
    [CF_SKIP_LOCK] = "lock",
    [CF_SKIP_THREAD] = "thread state",
    [CF_SKIP_FILE] = "file",
    [CF_SKIP_SOCKET] = "socket",
    [CF_SKIP_HANDLE] = "open handle",
    [CF_SKIP_FINALIZER] = "object with a finalizer",
    [CF_SKIP_TASK] = "task or future",
    [CF_SKIP_CONTEXT] = "context",
    [CF_SKIP_EXCEPTION] = "exception with a traceback",
    [CF_SKIP_UNFINISHED] = "tuple in use by C code",
    [CF_SKIP_WEAKREF] = "weak reference to what is not frozen",
    [CF_SKIP_LIFE] = "C object with a life of its own",
    [CF_SKIP_NAME] = "special method's name (debug build)",
    [CF_SKIP_REQUESTED] = "skip=",
};

const char *
cf_decision_name(cf_decision decision)
{
    return decision_names[decision];
}

static bool
is_subtype(PyTypeObject *type, PyTypeObject *base)
{
    /* Along tp_base only: no MRO look-up, and layouts follow tp_base. */
    for (; type != NULL; type = type->tp_base) {
        if (type == base) {
            return true;
        }
    }
    return false;
}

static bool
is_weakref_type(PyTypeObject *type)
{
    return is_subtype(type, &_PyWeakref_RefType) || type == &_PyWeakref_ProxyType
           || type == &_PyWeakref_CallableProxyType;
}

static cf_decision
decision_of(PyTypeObject *type, PyTypeObject *const *skip)
{
    for (; skip != NULL && *skip != NULL; skip++) {
        if (is_subtype(type, *skip)) {
            return CF_SKIP_REQUESTED;
        }
    }
    if (type == &PyFrame_Type) {
        return CF_SKIP_FRAME;
    }
    if (type == &PyTraceBack_Type) {
        return CF_SKIP_TRACEBACK;
    }
    if (type == &PyGen_Type || type == &PyCoro_Type || type == &PyAsyncGen_Type) {
        return CF_SKIP_GENERATOR;
    }
    if (type == &PyMemoryView_Type || type == cf_layout.managed_buffer) {
        return CF_SKIP_BUFFER;
    }
    for (PyTypeObject *t = type; t != NULL; t = t->tp_base) {
        for (size_t i = 0; i < Py_ARRAY_LENGTH(named_decisions); i++) {
            if (strcmp(t->tp_name, named_decisions[i].name) == 0) {
                return named_decisions[i].decision;
            }
        }
    }
    /* Inherited by subclasses; of Python classes it is __del__. */
    return type->tp_finalize != NULL || type->tp_del != NULL ? CF_SKIP_FINALIZER : CF_TAKE;
}

static cf_sizing
sizing_of(PyTypeObject *type)
{
    if (type == &PyUnicode_Type) {
        return CF_SIZE_STR;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)) {
        return CF_SIZE_TYPE;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_LONG_SUBCLASS)) {
        return CF_SIZE_INT;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_LIST_SUBCLASS)) {
        return CF_SIZE_LIST;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_DICT_SUBCLASS) || cf_is_frozendict_type(type)) {
        return CF_SIZE_DICT;
    }
    if (is_subtype(type, &PySet_Type) || is_subtype(type, &PyFrozenSet_Type)) {
        return CF_SIZE_SET;
    }
    if (type->tp_itemsize == 0) {
        return CF_SIZE_FIXED;
    }
    /* An extension may set tp_itemsize for a reason of its own (msgspec.Raw 0.22: there is no
     * ob_size in it). */
    return type == &PyCode_Type
                   || PyType_HasFeature(type, Py_TPFLAGS_TUPLE_SUBCLASS | Py_TPFLAGS_BYTES_SUBCLASS)
               ? CF_SIZE_VAR
               : CF_SIZE_SAID;
}

static cf_warmth
warmth_of(PyTypeObject *type)
{
    if (type == &PyUnicode_Type) {
        return CF_WARM_STR;
    }
    if (type == &PyBytes_Type) {
        return CF_WARM_BYTES;
    }
    if (CF_TUPLE_CACHES_HASH && type->tp_hash == PyTuple_Type.tp_hash) {
        return CF_WARM_TUPLE; /* named tuples too */
    }
    if (type == &PyFrozenSet_Type) {
        return CF_WARM_FROZENSET;
    }
    if (cf_is_frozendict_type(type)) {
        return CF_WARM_FROZENDICT;
    }
    if (type == cf_layout.datetime || type == cf_layout.time) {
        return CF_WARM_DATETIME;
    }
    if (type == cf_layout.date || type == cf_layout.timedelta || type == cf_layout.decimal) {
        return CF_WARM_HASH;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)) {
        return CF_WARM_TYPE;
    }
    return CF_WARM_NONE;
}

static cf_plainness
plainness_of(PyTypeObject *type)
{
    if (type == &PyUnicode_Type) {
        return CF_PLAIN_STR;
    }
    if (type == &PyLong_Type || type == &PyBool_Type) {
        return CF_PLAIN_INT;
    }
    return type == &PyFloat_Type ? CF_PLAIN_FIXED : CF_NOT_PLAIN;
}

static uint16_t
edges_of(PyTypeObject *type)
{
    if (PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)) {
        return CF_EDGE_TYPE;
    }
    if (type == &PyList_Type || type == &PyTuple_Type) {
        return CF_EDGE_ITEMS;
    }
    if (type == &PyDict_Type || cf_is_frozendict_type(type)) {
        return CF_EDGE_DICT;
    }
    if (type == &PyCode_Type) {
        return CF_EDGE_CODE;
    }
    uint16_t edges = 0;
    if (PyType_HasFeature(type, Py_TPFLAGS_DICT_SUBCLASS)) {
        edges |= CF_EDGE_DICT; /* the keys; the rest by tp_traverse */
    }
    if ((PyType_IS_GC(type) && type->tp_traverse != NULL) || cf_packtypes_traverses(type)) {
        edges |= CF_EDGE_TRAVERSE;
    }
    if (CF_HAS_MANAGED_DICT(type) && cf_layout.managed_dict) {
        edges |= CF_EDGE_MANAGED_DICT;
    }
    for (PyTypeObject *t = type; t != NULL; t = t->tp_base) {
        if (!PyType_IS_GC(t) && t->tp_members != NULL) {
            edges |= CF_EDGE_MEMBERS;
        }
        for (int i = 0; i < cf_layout.n_hidden; i++) {
            if (cf_layout.hidden[i].type == t) {
                edges |= CF_EDGE_HIDDEN;
            }
        }
        if (t == cf_layout.ndarray) {
            edges |= CF_EDGE_NDARRAY;
        }
        if (t == cf_layout.datetime || t == cf_layout.time) {
            edges |= CF_EDGE_TZINFO;
        }
        if (t == &PyMethodDescr_Type || t == &PyClassMethodDescr_Type
            || t == &PyGetSetDescr_Type || t == &PyMemberDescr_Type
            || t == &PyWrapperDescr_Type) {
            edges |= CF_EDGE_DESCR;
        }
    }
    return edges;
}

uint16_t
cf_policy_edges(PyTypeObject *type)
{
    return edges_of(type);
}

void
cf_policy_classify(cf_typeinfo *info, PyTypeObject *type, PyTypeObject *const *skip,
                   const cf_own_code *own)
{
    memset(info, 0, sizeof(*info));
    info->type = type;
    info->decision = (uint8_t)decision_of(type, skip);
    if (info->decision == CF_TAKE && !cf_dies_unseen(type, own)) {
        info->decision = CF_SKIP_LIFE;
    }
    info->edges = edges_of(type);
    info->warmth = (uint8_t)warmth_of(type);
    info->sizing = (uint8_t)sizing_of(type);
    info->gc = PyType_IS_GC(type);
    info->prefix = (uint8_t)(info->gc ? 2 * sizeof(void *) + cf_type_prefix(type) : 0);
    info->basic_size = type->tp_basicsize;
    if (cf_layout.shared_keys) {
        info->basic_size += (Py_ssize_t)cf_type_inline_size(type);
    }
    info->item_size = type->tp_itemsize;
    info->boundary = (info->edges & (CF_EDGE_TYPE | CF_EDGE_CODE)) != 0
                     || type == &PyFunction_Type || is_subtype(type, &PyModule_Type);
    info->function = type == &PyFunction_Type;
    if (info->decision != CF_TAKE && info->decision != CF_SKIP_BUFFER
        && info->decision != CF_SKIP_FINALIZER && info->decision != CF_SKIP_LIFE) {
        info->edges = 0; /* what is skipped is not looked into either */
    }
    if (info->decision == CF_TAKE) {
        info->plain = (uint8_t)plainness_of(type);
    }
    info->check_object = info->decision == CF_TAKE
                         && (type == &PyTuple_Type || is_weakref_type(type)
                             || type == &PyCapsule_Type
                             || PyType_HasFeature(type, Py_TPFLAGS_BASE_EXC_SUBCLASS));
}

cf_decision
cf_policy_object(const cf_typeinfo *info, PyObject *op)
{
    if (info->type == &PyTuple_Type) {
        /* Still being filled (see cf_walk_collector): its free end is NULL. */
        Py_ssize_t size = PyTuple_GET_SIZE(op);
        if (size > 0
            && (PyTuple_GET_ITEM(op, size - 1) == NULL || PyTuple_GET_ITEM(op, 0) == NULL)) {
            return CF_SKIP_UNFINISHED;
        }
        return CF_TAKE;
    }
    if (is_weakref_type(info->type)) {
        return ((PyWeakReference *)op)->wr_callback != NULL ? CF_SKIP_WEAKREF : CF_TAKE;
    }
    if (info->type == &PyCapsule_Type) {
        return PyCapsule_GetDestructor(op) != NULL ? CF_SKIP_LIFE : CF_TAKE;
    }
    if (((PyBaseExceptionObject *)op)->traceback != NULL) {
        return CF_SKIP_EXCEPTION;
    }
    return CF_TAKE;
}

bool
cf_policy_is_buffered_file(PyTypeObject *type)
{
    static const char *const names[] = {"_io.TextIOWrapper", "_io.BufferedWriter", "_io.BufferedRandom",
                                        "_io.BufferedRWPair"};
    for (; type != NULL; type = type->tp_base) {
        for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
            if (strcmp(type->tp_name, names[i]) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* A frozen str only looks interned there (cf_str_prepare), so it is not exchanged for
 * its interned twin when it becomes an attribute's name, and update_slot (typeobject.c)
 * finds special methods by identity: a `__len__` that was computed before the freeze
 * and is set after it would be missed. Such names must stay mortal. */
bool
cf_policy_is_special_name(PyObject *op)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(op);
    if (PyUnicode_CHECK_INTERNED(op) || !PyUnicode_IS_ASCII(op) || length < 5) {
        return false;
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(op);
    return memcmp(text, "__", 2) == 0 && memcmp(text + length - 2, "__", 2) == 0;
}
