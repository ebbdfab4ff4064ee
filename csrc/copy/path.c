/* path.c - follow keys and indexes without counting; say where a copy failed.
 *
 *   data[17]['tags']   path (17, 'tags'): list item 17, then the dict's entry for 'tags'
 *
 *   indices  [ -1 | 2 | -1 | 0 | 1 ... ]     hash & mask, then the probing of dictobject.c
 *   entries  [ hash, key, value ] or [ key, value ] ...
 *
 * PyDict_GetItem counts the key that it compares with, unless both are str. So
 * the table is read here: from 3.11 on as cf_dict_keys describes it, elsewhere
 * entry by entry, which takes longer but finds the same.
 */
#include "copy/copy.h"

#include "cpython/layout.h"

/* -- following ----------------------------------------------------------- */

/* Does a comparison with this key run no Python code and count nothing? */
static bool
is_plain_key(PyObject *key)
{
    return PyUnicode_CheckExact(key) || PyLong_CheckExact(key) || PyBytes_CheckExact(key)
           || PyFloat_CheckExact(key) || PyBool_Check(key) || key == Py_None;
}

/* 1: equal, 0: not, -1 with an exception. */
static int
same_key(PyObject *theirs, PyObject *key)
{
    if (theirs == key) {
        return 1;
    }
    return is_plain_key(theirs) ? PyObject_RichCompareBool(theirs, key, Py_EQ) : 0;
}

#if CF_HAS_SHARED_KEYS
static int64_t
index_at(const cf_dict_keys *keys, size_t i)
{
    switch (keys->dk_log2_index_bytes - keys->dk_log2_size) {
    case 0:
        return ((const int8_t *)keys->dk_indices)[i];
    case 1:
        return ((const int16_t *)keys->dk_indices)[i];
    case 2:
        return ((const int32_t *)keys->dk_indices)[i];
    default:
        return ((const int64_t *)keys->dk_indices)[i];
    }
}

/* Probe the table of DICT. *VALUE: borrowed, NULL if there is no such key.
 * Returns 0, or -1 with an exception. */
static int
probe(PyObject *dict, const cf_dict_table *table, PyObject *key, Py_hash_t hash,
      PyObject **value)
{
    const cf_dict_keys *keys = (const cf_dict_keys *)((PyDictObject *)dict)->ma_keys;
    size_t mask = ((size_t)1 << keys->dk_log2_size) - 1;
    size_t perturb = (size_t)hash;
    size_t i = (size_t)hash & mask;
    for (;;) {
        int64_t entry = index_at(keys, i);
        if (entry == -1) { /* DKIX_EMPTY */
            return 0;
        }
        if (entry >= 0) {
            PyObject **at = table->entries + (size_t)entry * table->width;
            bool candidate = table->width == 2 || ((Py_hash_t *)at)[-1] == hash;
            int same = candidate && at[1] != NULL ? same_key(at[0], key) : 0;
            if (same != 0) {
                *value = same > 0 ? at[1] : NULL;
                return same > 0 ? 0 : -1;
            }
        }
        perturb >>= 5; /* PERTURB_SHIFT */
        i = (i * 5 + perturb + 1) & mask;
    }
}
#endif

static int
find_key(PyObject *dict, PyObject *key, PyObject **value)
{
    *value = NULL;
    Py_hash_t hash = PyObject_Hash(key); /* the caller's key: may be written */
    if (hash == -1) {
        return -1;
    }
#if CF_HAS_SHARED_KEYS
    cf_dict_table table;
    if (cf_layout_dict_table(&table, dict)) {
        return probe(dict, &table, key, hash, value);
    }
#endif
    Py_ssize_t position = 0;
    PyObject *theirs, *found;
    while (PyDict_Next(dict, &position, &theirs, &found)) {
        int same = same_key(theirs, key);
        if (same != 0) {
            *value = same > 0 ? found : NULL;
            return same > 0 ? 0 : -1;
        }
    }
    return 0;
}

/* -- the way in words ---------------------------------------------------- */

/* Append "[key]" for a key of a simple type, "[<tuple>]" for others. Nothing of
 * a graph that is only looked at is handed to Python code. */
static void
add_key(PyObject **text, PyObject *key)
{
    /* Not %R, which lets Python's signal handlers run: they may change the graph. */
    PyObject *repr = is_plain_key(key) ? Py_TYPE(key)->tp_repr(key) : NULL;
    if (repr == NULL) {
        PyErr_Clear(); /* too many digits */
    }
    PyObject *step = repr != NULL ? PyUnicode_FromFormat("[%U]", repr)
                                  : PyUnicode_FromFormat("[<%s>]", Py_TYPE(key)->tp_name);
    Py_XDECREF(repr);
    PyUnicode_AppendAndDel(text, step);
}

static void
add_index(PyObject **text, Py_ssize_t index)
{
    PyUnicode_AppendAndDel(text, PyUnicode_FromFormat("[%zd]", index));
}

static void
add_frame(PyObject **text, const cf_copy_frame *f)
{
    const char *name;
    switch ((cf_copy_kind)f->kind) {
    case CF_COPY_LIST:
    case CF_COPY_TUPLE:
        add_index(text, f->i - 1);
        break;
    case CF_COPY_DICT:
        add_key(text, f->at);
        break;
    case CF_COPY_SET:
        PyUnicode_AppendAndDel(text, PyUnicode_FromString("{element}"));
        break;
    default:
        if (f->at != NULL && !PyUnicode_CheckExact(f->at)) {
            add_key(text, f->at); /* an attribute by way of __dict__ */
        }
        else if (f->at != NULL) {
            PyUnicode_AppendAndDel(text, PyUnicode_FromFormat(".%U", f->at));
        }
        else if (f->i > 0 && cf_copy_slot(f->src, f->i - 1, &name) != NULL) {
            PyUnicode_AppendAndDel(text, PyUnicode_FromFormat(".%s", name));
        }
    }
}

/* "data[17]['tags']": the first N steps of PATH. NULL with an exception. */
static PyObject *
path_text(PyObject *path, Py_ssize_t n)
{
    PyObject *text = PyUnicode_FromString("data");
    for (Py_ssize_t i = 0; i < n; i++) {
        add_key(&text, PyTuple_GET_ITEM(path, i));
    }
    return text;
}

static PyObject *
wrong_step(PyObject *error, PyObject *path, Py_ssize_t step, const char *what)
{
    PyObject *text = path_text(path, step + 1);
    if (text != NULL) {
        PyErr_Format(error, "%U: %s", text, what);
        Py_DECREF(text);
    }
    return NULL;
}

static PyObject *
follow_index(PyObject *op, PyObject *path, Py_ssize_t step)
{
    PyObject *key = PyTuple_GET_ITEM(path, step);
    if (!PyLong_Check(key)) {
        return wrong_step(PyExc_TypeError, path, step, "a list or tuple takes an int");
    }
    Py_ssize_t i = PyLong_AsSsize_t(key);
    if (i == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return wrong_step(PyExc_IndexError, path, step, "index out of range");
    }
    i += i < 0 ? Py_SIZE(op) : 0;
    if (i < 0 || i >= Py_SIZE(op)) {
        return wrong_step(PyExc_IndexError, path, step, "index out of range");
    }
    return PyList_Check(op) ? PyList_GET_ITEM(op, i) : PyTuple_GET_ITEM(op, i);
}

PyObject *
cf_copy_follow(PyObject *root, PyObject *path)
{
    PyObject *op = root;
    for (Py_ssize_t step = 0; step < PyTuple_GET_SIZE(path); step++) {
        PyObject *key = PyTuple_GET_ITEM(path, step);
        if (PyList_Check(op) || PyTuple_Check(op)) {
            op = follow_index(op, path, step);
        }
        else if (PyDict_Check(op)) {
            if (!is_plain_key(key)) {
                return wrong_step(PyExc_TypeError, path, step,
                                  "clone() follows keys that are str, int, float, bool, bytes "
                                  "or None");
            }
            PyObject *value;
            if (find_key(op, key, &value) < 0) {
                return NULL;
            }
            op = value != NULL ? value : wrong_step(PyExc_KeyError, path, step, "no such key");
        }
        else {
            op = wrong_step(PyExc_TypeError, path, step,
                            "only lists, tuples and dicts have steps into them");
        }
        if (op == NULL) {
            return NULL;
        }
    }
    return op;
}

void
cf_copy_refuse(const cf_copy_work *w, PyObject *path, Py_ssize_t index, const char *done)
{
    PyObject *text = path_text(path, PyTuple_GET_SIZE(path));
    if (index >= 0) {
        add_index(&text, index);
    }
    for (size_t i = 0; i < w->n; i++) {
        add_frame(&text, &w->frames[i]);
    }
    if (text == NULL) {
        return; /* with the exception of what failed */
    }
    const char *type = Py_TYPE(w->refused)->tp_name;
    if (w->refused_key) {
        PyErr_Format(PyExc_TypeError,
                     "%U: %.200s as (a part of) a key or set element cannot be %s: its hash may "
                     "need Python code, or not be that of its copy",
                     text, type, done);
    }
    else {
        PyErr_Format(PyExc_TypeError, "%U: %.200s cannot be %s", text, type, done);
    }
    Py_DECREF(text);
}
