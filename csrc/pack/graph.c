/* graph.c - the walk of a pack: each object of the source, and its copy.
 *
 *   frames   [ dict dst, key, i ][ list dst, i ][ tuple dst, i ]     the containers that are
 *                                                 ^ top: being filled    open, outermost first
 *   memo     source -> copy          of what is referred to more than once
 *            source -> itself        what is not copied: interned str, classes, enum members
 *
 * A copy is put into its container before it is filled, so that cycles close by
 * themselves. Keys and elements are complete before they are entered, under the
 * hash that the source stores beside them: nothing is hashed by Python code.
 * That hash is right for the copy too unless it comes from an identity: a NaN stays
 * the object that it is, and an instance is refused as a key.
 *
 *   dst in packed memory   stores pointers            nobody ever drops them
 *   dst outside of it      stores counted references  an ordinary object drops them
 *
 * clone/clone.c is its twin, on purpose: the same frames and the same order, but there each copy
 * is an object of the interpreter, counted, and nothing is found again that is not the same. One
 * walk for both would ask at every step which of the two it is. Who mends one looks at the other.
 */
#include "pack/graph.h"

#include "pack/containers.h"
#include "pack/dict.h"
#include "pack/kinds.h"
#include "pack/leaves.h"
#include "pack/outside.h"
#include "pack/sets.h"

#include <string.h>

#define HASHABLE 1u /* memo: made for a key */

/* What is asked of a copy. */
enum {
    IN_KEY = 1,   /* it will be found by its hash */
    DELIVER = 2,  /* a key or element: the frame below enters it once it is complete */
    ORDINARY = 4, /* a container: it stays one that can be written */
};

/* -- one value ----------------------------------------------------------- */

static PyObject *
new_container(cf_packer *p, PyObject *op, cf_copy_kind kind, bool ordinary, PyObject **set,
              bool *outside)
{
    ordinary = ordinary || !p->readonly;
    switch (kind) {
    case CF_COPY_LIST:
        *outside = ordinary;
        p->outcome->source_bytes += 16 + sizeof(PyListObject)
                                    + (size_t)PyList_GET_SIZE(op) * sizeof(PyObject *);
        return *outside ? cf_pack_outside(p, PyList_New(PyList_GET_SIZE(op)))
                        : cf_pack_list(p, op);
    case CF_COPY_TUPLE:
        return cf_pack_tuple(p, op);
    case CF_COPY_DICT:
        *outside = ordinary;
        p->outcome->source_bytes += 16 + sizeof(PyDictObject);
        return *outside ? cf_pack_outside(p, PyDict_New()) : cf_pack_dict(p, op);
    case CF_COPY_SET:
        *set = cf_pack_set(p, op);
        /* Packed frozensets of 3.12 and later are of the exact type. */
        *outside = ordinary && !(CF_HAS_IMMORTAL && cf_pack_is_frozenset(op));
        if (*set == NULL || !*outside) {
            return *set;
        }
        return cf_pack_outside(p, cf_pack_is_frozenset(op) ? PyFrozenSet_New(NULL)
                                                           : PySet_New(NULL));
    default:
        return cf_pack_instance(p, op, outside);
    }
}

/* The copy of OP. If it is a container, it is still empty, and a frame for it
 * is on top (*OPENED). NULL: an exception, or work.refused. */
static PyObject *
make(cf_packer *p, PyObject *op, int flags, bool *opened)
{
    bool in_key = flags & IN_KEY;
    cf_copy_work *w = &p->work;
    cf_copy_kind kind = cf_pack_kind_of(op);
    if (kind == CF_COPY_REFUSED || (in_key && !cf_pack_keeps_hash(op, kind))) {
        w->refused = op;
        w->refused_key = kind != CF_COPY_REFUSED;
        return NULL;
    }
    /* The hash under which a key is stored comes from the NaN in it: so that stays. A tuple may be
     * a key elsewhere. */
    if (cf_copy_is_nan(op, kind)
        && (in_key || Py_REFCNT(op) != 1
            || (w->n > 0 && w->frames[w->n - 1].kind == CF_COPY_TUPLE))) {
        kind = CF_COPY_REFERENCE;
    }
    if (kind <= CF_COPY_LEAF) {
        return cf_pack_leaf(p, op, kind);
    }
    bool remember = w->n == 0 || Py_REFCNT(op) != 1;
    if (remember) {
        uintptr_t word = cf_memo_get(&w->memo, op);
        if (word != 0 && (!in_key || (word & HASHABLE))) {
            p->outcome->references++;
            return (PyObject *)(word & ~(uintptr_t)HASHABLE);
        }
    }
    PyObject *set = NULL;
    bool outside = false;
    PyObject *copy = new_container(p, op, kind, flags & ORDINARY, &set, &outside);
    if (copy == NULL || (PyTuple_CheckExact(op) && PyTuple_GET_SIZE(op) == 0)) {
        return copy;
    }
    if (remember
        && cf_memo_set(&w->memo, op, (uintptr_t)copy | (in_key ? HASHABLE : 0)) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    if (w->n == w->capacity && cf_copy_grow_frames(w) < 0) {
        return NULL;
    }
    w->frames[w->n++] = (cf_copy_frame){
        .src = op, .dst = copy, .set = set, .kind = (uint8_t)kind, .in_key = in_key,
        .deliver = flags & DELIVER, .outside = outside};
    *opened = true;
    return copy;
}

/* -- filling ------------------------------------------------------------- */

typedef enum { FILLED, OPENED, FAILED } progress;

/* F may move when a frame is pushed: it is not used after make() opened one. */
static progress
fill_items(cf_packer *p, cf_copy_frame *f)
{
    bool list = f->kind == CF_COPY_LIST, outside = f->outside, in_key = f->in_key;
    PyObject **from = list ? ((PyListObject *)f->src)->ob_item : ((PyTupleObject *)f->src)->ob_item;
    PyObject **to = list ? ((PyListObject *)f->dst)->ob_item : ((PyTupleObject *)f->dst)->ob_item;
    Py_ssize_t n = Py_SIZE(f->src);
    bool opened = false;
    while (f->i < n) {
        Py_ssize_t i = f->i++;
        if (from[i] == NULL) {
            p->work.refused = f->src; /* a tuple that C code is still filling */
            return FAILED;
        }
        PyObject *copy = make(p, from[i], in_key ? IN_KEY : 0, &opened);
        if (copy == NULL) {
            return FAILED;
        }
        to[i] = copy;
        if (outside) {
            Py_INCREF(copy);
        }
        if (opened) {
            return OPENED;
        }
    }
    return FILLED;
}

static progress
fill_dict(cf_packer *p, cf_copy_frame *f)
{
    PyObject *key, *value;
    Py_hash_t hash;
    size_t mine = p->work.n - 1;
    for (;;) {
        Py_ssize_t before = f->i;
        bool opened = false;
        if (!cf_pack_dict_next(f->src, &f->i, &key, &value, &hash)) {
            return FILLED;
        }
        f->at = key;
        if (!f->key_ready) {
            PyObject *copy = make(p, key, IN_KEY | DELIVER, &opened);
            if (copy == NULL) {
                return FAILED;
            }
            if (opened) {
                p->work.frames[mine].i = before; /* the same entry again, for its value */
                return OPENED;
            }
            f->key = copy;
        }
        f->key_ready = false;
        PyObject *dict = f->dst, *entered = f->key, **place = NULL;
        if (!f->outside) {
            place = cf_pack_dict_add(dict, entered, hash, Py_None);
        }
        PyObject *copy = make(p, value, 0, &opened);
        if (copy == NULL) {
            return FAILED;
        }
        if (place != NULL) {
            *place = copy;
        }
        else if (_PyDict_SetItem_KnownHash(dict, entered, copy, hash) < 0) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
}

static progress
fill_set(cf_packer *p, cf_copy_frame *f)
{
    const PySetObject *set = (const PySetObject *)f->src;
    bool opened = false;
    for (;;) {
        if (f->key_ready) {
            f->key_ready = false;
            cf_pack_set_add(f->set, f->key, f->hash);
        }
        if (f->i > set->mask) {
            return cf_pack_set_finish(f) < 0 ? FAILED : FILLED;
        }
        const setentry *entry = &set->table[f->i++];
        if (entry->key == NULL || entry->hash == -1) {
            continue; /* free, or deleted */
        }
        f->at = entry->key;
        f->hash = entry->hash;
        PyObject *copy = make(p, entry->key, IN_KEY | DELIVER, &opened);
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

/* Slots first, then attributes: see fill_instance() in clone.c. */
#define ATTRIBUTES ((Py_ssize_t)1 << 48)

static progress
fill_attributes(cf_packer *p, cf_copy_frame *f)
{
    PyObject *name, *value;
    Py_ssize_t position = f->i - ATTRIBUTES;
    bool opened = false;
    while (cf_copy_attribute(f->src, &position, &name, &value)) {
        f->i = ATTRIBUTES + position;
        f->at = name;
        PyObject *instance = f->dst;
        if (!PyUnicode_CheckExact(name)) {
            p->work.refused = name;
            return FAILED;
        }
        PyObject *key = make(p, name, 0, &opened);
        PyObject *copy = key != NULL ? make(p, value, 0, &opened) : NULL;
        if (copy == NULL || cf_pack_set_attribute(instance, key, copy) < 0) {
            return FAILED;
        }
        if (opened) {
            return OPENED;
        }
    }
    return FILLED;
}

/* What lies in a slot of such a name is no data but the class's own book-keeping, as a __dict__
 * is: pydantic notes in __pydantic_fields_set__ which attributes were set, and writes it. */
static bool
is_machinery(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strncmp(name, "__", 2) == 0 && strcmp(name + n - 2, "__") == 0;
}

static progress
fill_instance(cf_packer *p, cf_copy_frame *f)
{
    bool opened = false, outside = f->outside;
    const char *name;
    PyObject **from;
    while (f->i < ATTRIBUTES && (from = cf_copy_slot(f->src, f->i, &name)) != NULL) {
        f->i++;
        f->at = NULL;
        if (*from == NULL) {
            continue;
        }
        PyObject **to = (PyObject **)((char *)f->dst + ((char *)from - (char *)f->src));
        PyObject *copy = make(p, *from, is_machinery(name) ? ORDINARY : 0, &opened);
        if (copy == NULL) {
            return FAILED;
        }
        *to = copy;
        if (outside) {
            Py_INCREF(copy);
        }
        if (opened) {
            return OPENED;
        }
    }
    if (Py_TYPE(f->src)->tp_dictoffset == 0) {
        return FILLED;
    }
    f->i = f->i < ATTRIBUTES ? ATTRIBUTES : f->i;
    return fill_attributes(p, f);
}

static progress
fill(cf_packer *p, cf_copy_frame *f)
{
    switch ((cf_copy_kind)f->kind) {
    case CF_COPY_DICT:
        return fill_dict(p, f);
    case CF_COPY_SET:
        return fill_set(p, f);
    case CF_COPY_INSTANCE:
        return fill_instance(p, f);
    default:
        return fill_items(p, f);
    }
}

static void
close_frame(cf_packer *p)
{
    cf_copy_frame *f = &p->work.frames[--p->work.n];
    if (f->kind == CF_COPY_TUPLE) {
        cf_pack_warm_tuple(f->dst);
    }
    if (f->deliver) {
        (f - 1)->key = f->dst;
        (f - 1)->key_ready = true;
    }
}

PyObject *
cf_pack_graph(cf_packer *p, PyObject *root)
{
    bool opened = false;
    PyObject *copy = make(p, root, 0, &opened);
    while (copy != NULL && p->work.n > 0) {
        progress done = fill(p, &p->work.frames[p->work.n - 1]);
        if (done == FAILED) {
            return NULL;
        }
        if (done == FILLED) {
            close_frame(p);
        }
    }
    return copy;
}
