/* clone.c - a deep copy that writes no reference count of its source.
 *
 *   frames   [ list dst, i ][ dict dst, key, i ][ tuple dst, i ]     the containers that are
 *                                                 ^ top: being filled   open, outermost first
 *   memo     source -> copy, for what is referred to more than once
 *   keys     source -> copy of dict keys: the same few, again and again
 *
 * A copy is put into its container before it is filled, so that cycles close by
 * themselves; the frame then only borrows it. Keys and set elements must be
 * hashed, hence be complete first: their frames own them and deliver them.
 *
 * Invariants:
 *   C1  no byte of the source is written. Its references are read where they
 *       lie, never counted: no function is called with a source object that
 *       counts it. (Identities are counted: see leaf.c.)
 *   C2  no Python code runs and the GIL is kept from the first pointer that is
 *       read to the last, so nobody can free what the pointers point to: the
 *       collector is off, and what only Python code can hash or make is refused.
 *   C3  no recursion: depth costs work memory, not C stack.
 *   C4  an object whose count is 1 is met once; all others are in the memo, and
 *       the root, which may be referred to by the interpreter's stack alone.
 *
 * pack/graph.c is its twin, on purpose: see there. Who mends one looks at the other.
 */
#include "clone/clone.h"

#include "base/invariants.h"
#include "objects/packed_types.h"

#define HASHABLE 1u /* memo: made for a key, so nothing in it hashes with Python code */

static cf_copy_work shared_work; /* of the call that took it, under the GIL; a call inside a call has its own */

/* -- one value ----------------------------------------------------------- */

static PyObject *
new_container(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_LIST:
        return PyList_New(PyList_GET_SIZE(op));
    case CF_COPY_TUPLE:
        if (PyTuple_CheckExact(op)) {
            return PyTuple_New(PyTuple_GET_SIZE(op));
        }
        return Py_TYPE(op)->tp_alloc(Py_TYPE(op), PyTuple_GET_SIZE(op));
    case CF_COPY_DICT:
        return PyDict_New();
    case CF_COPY_SET:
        return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type
                   ? PyFrozenSet_New(NULL)
                   : PySet_New(NULL);
    default:
        return cf_copy_empty(op);
    }
}

/* Make the copy of OP, a new reference. A container is still empty then, and
 * *OPENED says that a frame for it is on top. NULL: an exception, or w->refused. */
static PyObject *
make(cf_copy_work *w, PyObject *op, bool in_key, bool deliver, bool *opened)
{
    cf_copy_kind kind = cf_copy_kind_of(op);
    if (kind == CF_COPY_REFUSED || (in_key && !cf_copy_hashes(op, kind))) {
        w->refused = op;
        w->refused_key = in_key && kind != CF_COPY_REFUSED;
        return NULL;
    }
    bool leaf = kind <= CF_COPY_LEAF, nan = cf_copy_is_nan(op, kind);
    if (nan && Py_REFCNT(op) != 1) {
        kind = CF_COPY_REFERENCE; /* math.nan: others look for this very object */
    }
    /* C4. Numbers have no identity worth a look-up, but a NaN that is met in a value and in a key
     * is one. */
    bool remember = (nan || (kind >= CF_COPY_STR && (w->n == 0 || Py_REFCNT(op) != 1)))
                    && !(leaf && cf_header_untouched(op));
    if (remember) {
        uintptr_t word = cf_memo_get(&w->memo, op);
        if (word != 0 && (!in_key || leaf || (word & HASHABLE))) {
            PyObject *known = (PyObject *)(word & ~(uintptr_t)HASHABLE);
            Py_INCREF(known);
            return known;
        }
    }
    PyObject *copy = leaf ? cf_clone_leaf(op, kind) : new_container(op, kind);
    if (copy == NULL) {
        return NULL;
    }
    if (remember && cf_memo_set(&w->memo, op, (uintptr_t)copy | (in_key ? HASHABLE : 0)) < 0) {
        PyErr_NoMemory();
        goto failed;
    }
    if (!leaf) {
        if (w->n == w->capacity && cf_copy_grow_frames(w) < 0) {
            goto failed;
        }
        w->frames[w->n++] = (cf_copy_frame){
            .src = op, .dst = copy, .kind = (uint8_t)kind, .in_key = in_key, .deliver = deliver};
        *opened = true;
    }
    return copy;

failed:
    Py_DECREF(copy);
    return NULL;
}

/* -- filling containers -------------------------------------------------- */

typedef enum { FILLED, OPENED, FAILED } progress;

/* F may move when a frame is pushed: it is not used after make() opened one. */
static progress
fill_items(cf_copy_work *w, cf_copy_frame *f)
{
    bool list = f->kind == CF_COPY_LIST;
    PyObject **from = list ? ((PyListObject *)f->src)->ob_item : ((PyTupleObject *)f->src)->ob_item;
    PyObject **to = list ? ((PyListObject *)f->dst)->ob_item : ((PyTupleObject *)f->dst)->ob_item;
    Py_ssize_t n = Py_SIZE(f->src);
    bool opened = false;
    while (f->i < n) {
        Py_ssize_t i = f->i++;
        f->at = from[i];
        if (from[i] == NULL) {
            continue; /* a tuple that C code has not filled yet */
        }
        to[i] = make(w, from[i], f->in_key, false, &opened);
        if (to[i] == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
    return FILLED;
}

/* Enter F->key and the copy of VALUE. */
static progress
fill_value(cf_copy_work *w, cf_copy_frame *f, PyObject *value)
{
    bool opened = false;
    PyObject *dict = f->dst, *key = f->key;
    PyObject *copy = make(w, value, false, false, &opened);
    if (copy == NULL) {
        return FAILED;
    }
    int status = PyDict_SetItem(dict, key, copy);
    Py_DECREF(copy);
    if (status < 0) {
        w->n -= opened; /* its copy is gone */
        return FAILED;
    }
    return opened ? OPENED : FILLED;
}

static progress
fill_dict(cf_copy_work *w, cf_copy_frame *f)
{
    PyObject *key, *value;
    size_t mine = w->n - 1;
    for (;;) {
        Py_ssize_t before = f->i;
        if (!PyDict_Next(f->src, &f->i, &key, &value)) {
            return FILLED;
        }
        f->at = key;
        if (!f->key_ready) {
            bool opened = false;
            Py_CLEAR(f->key);
            PyObject *copy = PyUnicode_CheckExact(key)
                                 ? cf_copy_key(w, key)
                                 : make(w, key, true, true, &opened);
            if (copy == NULL) {
                return FAILED;
            }
            if (opened) {
                w->frames[mine].i = before; /* the same entry again, for its value */
                return OPENED;
            }
            f->key = copy;
        }
        f->key_ready = false;
        progress done = fill_value(w, f, value);
        if (done != FILLED) {
            return done;
        }
    }
}

static progress
fill_set(cf_copy_work *w, cf_copy_frame *f)
{
    const PySetObject *set = (const PySetObject *)f->src;
    bool opened = false;
    for (;;) {
        if (f->key_ready) {
            int status = PySet_Add(f->dst, f->key);
            Py_CLEAR(f->key);
            f->key_ready = false;
            if (status < 0) {
                return FAILED;
            }
        }
        if (f->i > set->mask) {
            return FILLED;
        }
        const setentry *entry = &set->table[f->i++];
        if (entry->key == NULL || entry->hash == -1) {
            continue; /* free, or deleted */
        }
        f->at = entry->key;
        PyObject *copy = make(w, entry->key, true, true, &opened);
        if (copy == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
        f->key = copy;
        f->key_ready = true;
    }
}

/* Slots first, then attributes: f->i is the number of a slot, or, from
 * ATTRIBUTES on, a position among the attributes. */
#define ATTRIBUTES ((Py_ssize_t)1 << 48)

static progress
fill_attributes(cf_copy_work *w, cf_copy_frame *f)
{
    PyObject *name, *value;
    Py_ssize_t position = f->i - ATTRIBUTES;
    while (cf_copy_attribute(f->src, &position, &name, &value)) {
        f->i = ATTRIBUTES + position;
        f->at = name;
        PyObject *copy = PyUnicode_CheckExact(name) ? cf_copy_key(w, name) : NULL;
        if (copy == NULL) {
            w->refused = PyErr_Occurred() ? NULL : name;
            return FAILED;
        }
        Py_XDECREF(f->key);
        f->key = copy;
        PyObject *dict = PyObject_GenericGetDict(f->dst, NULL);
        if (dict == NULL) {
            return FAILED;
        }
        cf_copy_frame as_dict = {.dst = dict, .key = f->key};
        progress done = fill_value(w, &as_dict, value);
        Py_DECREF(dict);
        if (done != FILLED) {
            return done;
        }
    }
    return FILLED;
}

static progress
fill_instance(cf_copy_work *w, cf_copy_frame *f)
{
    bool opened = false;
    const char *name;
    PyObject **from;
    while (f->i < ATTRIBUTES && (from = cf_copy_slot(f->src, f->i, &name)) != NULL) {
        f->i++;
        f->at = NULL;
        if (*from == NULL) {
            continue;
        }
        PyObject **to = (PyObject **)((char *)f->dst + ((char *)from - (char *)f->src));
        *to = make(w, *from, false, false, &opened);
        if (*to == NULL) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
    if (Py_TYPE(f->src)->tp_dictoffset == 0) {
        return FILLED;
    }
    if (f->i < ATTRIBUTES) {
        if (cf_copy_own_dict(f->dst) < 0) {
            return FAILED;
        }
        f->i = ATTRIBUTES;
    }
    return fill_attributes(w, f);
}

static progress
fill(cf_copy_work *w, cf_copy_frame *f)
{
    switch ((cf_copy_kind)f->kind) {
    case CF_COPY_LIST:
    case CF_COPY_TUPLE:
        return fill_items(w, f);
    case CF_COPY_DICT:
        return fill_dict(w, f);
    case CF_COPY_SET:
        return fill_set(w, f);
    default:
        return fill_instance(w, f);
    }
}

/* The top frame is complete: hand its copy down if it was made to be hashed. */
static void
close_frame(cf_copy_work *w)
{
    cf_copy_frame *f = &w->frames[--w->n];
    Py_CLEAR(f->key);
    if (f->deliver) {
        cf_copy_frame *below = f - 1;
        below->key = f->dst;
        below->key_ready = true;
    }
}

/* -- the operation ------------------------------------------------------- */

static PyObject *
copy_graph(cf_copy_work *w, PyObject *op)
{
    bool opened = false;
    PyObject *copy = make(w, op, false, false, &opened);
    while (copy != NULL && w->n > 0) {
        switch (fill(w, &w->frames[w->n - 1])) {
        case FILLED:
            close_frame(w);
            break;
        case OPENED:
            break;
        case FAILED:
            return copy; /* with frames left: not complete */
        }
    }
    return copy;
}

PyObject *
cf_clone(PyObject *root, PyObject *path, Py_ssize_t index, bool *end, cf_copy_work *w)
{
    if (w == NULL) {
        w = &shared_work;
    }
    if (end != NULL) {
        *end = false;
    }
    PyObject *op = cf_copy_follow(root, path);
    if (op == NULL) {
        return NULL;
    }
    if (index >= 0) {
        if (!PyList_Check(op) && !PyTuple_Check(op)) {
            PyErr_Format(PyExc_TypeError,
                         "iter_clone() goes through a list or tuple, not %.200s; clone a dict or "
                         "set as a whole, or by its keys",
                         Py_TYPE(op)->tp_name);
            return NULL;
        }
        if (index >= Py_SIZE(op)) {
            *end = true;
            return NULL;
        }
        op = PyList_Check(op) ? PyList_GET_ITEM(op, index) : PyTuple_GET_ITEM(op, index);
    }
    int was_enabled = PyGC_Disable(); /* C2: a collection would write the source's headers */
    CF_HOLDS("C2", w->n == 0 && w->memo.used == 0); /* or Python code runs in another clone */
    w->refused = NULL;
    PyObject *copy = copy_graph(w, op);
    CF_HOLDS("C2", !PyGC_IsEnabled());
    bool complete = copy != NULL && w->n == 0;
    if (w->refused != NULL) {
        cf_copy_refuse(w, path, index, "cloned");
    }
    cf_copy_finish(w);
    if (!complete) {
        Py_CLEAR(copy);
    }
    if (was_enabled) {
        PyGC_Enable();
    }
    return copy;
}
