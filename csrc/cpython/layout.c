/* layout.c - layouts that no public header gives, checked before use.
 *
 * Each check makes a throw-away object whose contents are known and looks for
 * them where compat.h says they are:
 *
 *   class with two attributes   -> ht_cached_keys: two entries, keys "a" and "b"; the
 *                                  __dict__ of an instance, the order of another's values
 *   dicts of several kinds      -> entries: those that PyDict_Next gives
 *   suspended generator         -> somewhere in it a cf_frame: executable == its code,
 *                                  globals == its globals, a local == the marker
 *   the running frame           -> tstate->current_frame: executable == its code
 *   range, timezone, ...        -> the word that equals a known member
 *
 * A patch release that moves a field makes its check fail; the feature is then
 * off and the report says so. Nothing here is ever guessed.
 */
#include "cpython/layout.h"

#include "cpython/frames.h"

#define _PY_DATETIME_IMPL /* the structs only, not a static pointer to the API */
#include <datetime.h>
#include <stddef.h>
#include <string.h>

cf_layouts cf_layout;

/* Run SOURCE in a fresh namespace and return that namespace, or NULL. */
static PyObject *
run(const char *source)
{
    PyObject *names = PyDict_New(), *result = NULL;
    if (names != NULL && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0) {
        result = PyRun_String(source, Py_file_input, names, names);
    }
    if (result == NULL) {
        Py_CLEAR(names);
    }
    Py_XDECREF(result);
    return names;
}

/* -- shared keys --------------------------------------------------------- */

static int
check_shared_keys(void)
{
#if CF_HAS_SHARED_KEYS
    int ret = -1;
    PyObject *names = run("class Probe:\n"
                          "    def __init__(self):\n"
                          "        self.probe_a = 1\n"
                          "        self.probe_b = 2\n"
                          "instance = Probe()\n"
                          "values = vars(instance)\n"
                          "other = Probe.__new__(Probe)\n"
                          "other.probe_b = b = object()\n"
                          "other.probe_a = 'a'\n");
    if (names == NULL) {
        goto done;
    }
    ret = 0;
    PyHeapTypeObject *type = (PyHeapTypeObject *)PyDict_GetItemString(names, "Probe");
    cf_dict_keys *keys = type != NULL ? (cf_dict_keys *)type->ht_cached_keys : NULL;
    if (keys == NULL || keys->dk_kind == 0 || keys->dk_nentries != 2
        || keys->dk_log2_index_bytes > 8) {
        goto done;
    }
    PyObject **entries = (PyObject **)(keys->dk_indices
                                       + ((size_t)1 << keys->dk_log2_index_bytes));
    /* A split table's entries are {key, unused value} pairs. */
    cf_layout.shared_keys = entries[0] != NULL && PyUnicode_CheckExact(entries[0])
                            && entries[2] != NULL && PyUnicode_CheckExact(entries[2])
                            && PyUnicode_CompareWithASCIIString(entries[0], "probe_a") == 0
                            && PyUnicode_CompareWithASCIIString(entries[2], "probe_b") == 0;
    PyObject *instance = PyDict_GetItemString(names, "instance");
    cf_layout.managed_dict =
        instance != NULL && CF_HAS_MANAGED_DICT(Py_TYPE(instance))
        && cf_managed_dict(instance) == PyDict_GetItemString(names, "values");
    PyObject *other = PyDict_GetItemString(names, "other"), *dict = NULL;
    PyObject *const *values = other != NULL && Py_TYPE(other)->tp_dictoffset < 0
                                  ? cf_instance_values(other, &dict) : NULL;
    cf_layout.values_order =
        values != NULL && dict == NULL && (!CF_HAS_INLINE_VALUES || cf_layout.managed_dict)
        && cf_value_index(values, 0) == 1 && cf_value_index(values, 1) == 0
        && cf_value_index(values, 2) == -1 && values[1] == PyDict_GetItemString(names, "b");

done:
    Py_XDECREF(names);
    return ret;
#else
    return 0;
#endif
}

#if CF_HAS_SHARED_KEYS
/* Does the table of DICT list exactly what PyDict_Next does? */
static bool
table_fits(PyObject *dict)
{
    cf_dict_table table;
    if (dict == NULL || !PyDict_CheckExact(dict) || !cf_layout_dict_table(&table, dict)) {
        return false;
    }
    Py_ssize_t position = 0, i = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &position, &key, &value)) {
        while (i < table.n && table.entries[(size_t)i * table.width + 1] == NULL) {
            i++;
        }
        if (i == table.n || table.entries[(size_t)i * table.width] != key
            || table.entries[(size_t)i * table.width + 1] != value) {
            return false;
        }
        i++;
    }
    return i == table.n;
}
#endif

static int
check_dict_tables(void)
{
#if CF_HAS_SHARED_KEYS
    PyObject *names = run("few = {'a': 1, 'b': 2}\n"
                          "mixed = {1: 'a', 'b': 2, 3.5: ()}\n"
                          "many = {str(i): i for i in range(1000)}\n"
                          "del many['7']\n"
                          "many_mixed = {i: str(i) for i in range(70000)}\n"
                          "del many_mixed[9]\n");
    if (names == NULL) {
        return -1;
    }
    cf_layout.dict_tables = true; /* for cf_layout_dict_table itself */
    cf_layout.dict_tables = table_fits(PyDict_GetItemString(names, "few"))
                            && table_fits(PyDict_GetItemString(names, "mixed"))
                            && table_fits(PyDict_GetItemString(names, "many"))
                            && table_fits(PyDict_GetItemString(names, "many_mixed"));
    Py_DECREF(names);
#endif
    return 0;
}

/* -- frames -------------------------------------------------------------- */

#if CF_HAS_STACKREFS
static bool
is_reference_to(uintptr_t word, PyObject *op)
{
    return (word & ~(uintptr_t)CF_REF_TAG_BITS) == (uintptr_t)op;
}

static bool
frame_fits(cf_frame *frame, PyCodeObject *code, PyObject *globals, PyObject *marker)
{
    if (!is_reference_to(frame->f_executable, (PyObject *)code)
        || frame->f_globals != globals || frame->stackpointer == NULL
        || frame->owner != CF_FRAME_OF_GENERATOR) {
        return false;
    }
    Py_ssize_t depth = frame->stackpointer - frame->localsplus;
    if (depth < code->co_nlocalsplus || depth > code->co_framesize) {
        return false;
    }
    return is_reference_to(frame->localsplus[0], marker);
}
#endif

static int
check_frames(void)
{
#if CF_HAS_STACKREFS
    int ret = -1;
    PyCodeObject *code = NULL;
    PyObject *names = run("def probe(marker):\n"
                          "    yield marker\n"
                          "marker = object()\n"
                          "generator = probe(marker)\n"
                          "next(generator)\n");
    if (names == NULL) {
        goto done;
    }
    PyObject *generator = PyDict_GetItemString(names, "generator");
    PyObject *marker = PyDict_GetItemString(names, "marker");
    if (generator == NULL || marker == NULL || !PyGen_CheckExact(generator)) {
        ret = 0;
        goto done;
    }
    code = PyGen_GetCode((PyGenObject *)generator);
    Py_ssize_t size = Py_TYPE(generator)->tp_basicsize;
    Py_ssize_t found = 0;
    int matches = 0;
    for (Py_ssize_t offset = sizeof(PyObject);
         offset + (Py_ssize_t)sizeof(cf_frame) <= size; offset += sizeof(void *)) {
        if (frame_fits((cf_frame *)((char *)generator + offset), code, names, marker)) {
            found = offset;
            matches++;
        }
    }
    /* The running frame is the one that called into this file. */
    PyThreadState *tstate = PyThreadState_Get();
    PyFrameObject *running = PyThreadState_GetFrame(tstate);
    bool current_fits = running == NULL;
    if (running != NULL) {
        PyCodeObject *running_code = PyFrame_GetCode(running);
        cf_frame *frame = cf_current_frame(tstate);
        current_fits = frame != NULL && frame->owner < CF_FRAME_OF_INTERPRETER
                       && is_reference_to(frame->f_executable, (PyObject *)running_code);
        Py_DECREF(running_code);
        Py_DECREF(running);
    }
    if (matches == 1 && current_fits) {
        cf_layout.frames = true;
        cf_layout.generator_frame = found;
    }
    ret = 0;

done:
    Py_XDECREF(code);
    Py_XDECREF(names);
    return ret;
#else
    return 0;
#endif
}

/* -- types without a public name ----------------------------------------- */

static int
remember_type(PyObject *op, void *arg)
{
    PyTypeObject **type = arg;
    if (strcmp(Py_TYPE(op)->tp_name, "managedbuffer") == 0) {
        *type = Py_TYPE(op);
    }
    return 0;
}

static int
find_managed_buffer(void)
{
    PyObject *bytes = PyBytes_FromString("probe");
    PyObject *view = bytes != NULL ? PyMemoryView_FromObject(bytes) : NULL;
    Py_XDECREF(bytes);
    if (view == NULL) {
        return -1;
    }
    Py_TYPE(view)->tp_traverse(view, remember_type, &cf_layout.managed_buffer);
    Py_DECREF(view);
    if (cf_layout.managed_buffer == NULL) {
        PyErr_SetString(PyExc_ImportError,
                        "cowfreeze does not know this CPython: the buffer behind a memoryview "
                        "was not found, and freezing one by mistake would crash later");
        return -1;
    }
    return 0;
}

static int
add_range(void)
{
    int ret = -1;
    PyObject *names = run("sample = range(100003, 200003, 7)\n"
                          "length = len(sample) + 0\n");
    if (names == NULL) {
        return -1;
    }
    /* range.length is private: it is an int of its own behind the members. */
    PyObject *sample = PyDict_GetItemString(names, "sample");
    PyObject *length = PyDict_GetItemString(names, "length");
    for (Py_ssize_t offset = sizeof(PyObject);
         sample != NULL && length != NULL
         && offset + (Py_ssize_t)sizeof(PyObject *) <= Py_TYPE(sample)->tp_basicsize;
         offset += sizeof(PyObject *)) {
        PyObject *word = *(PyObject **)((char *)sample + offset);
        if (word != NULL && PyLong_CheckExact(word)
            && PyObject_RichCompareBool(word, length, Py_EQ) == 1) {
            ret = cf_layout_add_hidden(sample, &word, 1);
            break;
        }
    }
    Py_DECREF(names);
    return ret < 0 && PyErr_Occurred() ? -1 : 0;
}

int
cf_layout_init(void)
{
    cf_layout.name_doc = PyUnicode_InternFromString("__doc__");
    if (cf_layout.name_doc == NULL || find_managed_buffer() < 0 || check_shared_keys() < 0
        || check_dict_tables() < 0 || check_frames() < 0 || add_range() < 0) {
        return -1;
    }
    return 0;
}

int
cf_layout_add_hidden(PyObject *sample, PyObject *const *values, int n)
{
    PyTypeObject *type = Py_TYPE(sample);
    int capacity = (int)(sizeof(cf_layout.hidden) / sizeof(cf_layout.hidden[0]));
    if (n > CF_MAX_HIDDEN || cf_layout.n_hidden == capacity) {
        return 0;
    }
    for (int i = 0; i < cf_layout.n_hidden; i++) {
        if (cf_layout.hidden[i].type == type) {
            return 1;
        }
    }
    cf_hidden_slots slots = {.type = type, .n = n};
    for (int i = 0; i < n; i++) {
        int matches = 0;
        for (Py_ssize_t offset = sizeof(PyObject);
             offset + (Py_ssize_t)sizeof(PyObject *) <= type->tp_basicsize;
             offset += sizeof(PyObject *)) {
            if (*(PyObject **)((char *)sample + offset) == values[i]) {
                slots.offsets[i] = offset;
                matches++;
            }
        }
        if (matches != 1) {
            return 0;
        }
    }
    cf_layout.hidden[cf_layout.n_hidden++] = slots;
    return 1;
}

int
cf_layout_add_ndarray(PyObject *array, PyObject *view, PyObject *dtype, PyObject *marker)
{
    if (cf_layout.ndarray != NULL) {
        return 1;
    }
    PyTypeObject *type = Py_TYPE(array);
    if (type->tp_basicsize < (Py_ssize_t)sizeof(cf_ndarray)
        || Py_TYPE(dtype)->tp_basicsize < (Py_ssize_t)sizeof(cf_ndarray_descr)) {
        return 0;
    }
    cf_ndarray *a = (cf_ndarray *)array;
    cf_ndarray *v = (cf_ndarray *)view;
    if (a->nd != 1 || a->base != NULL || a->descr != dtype || v->base != array
        || v->descr != dtype || v->data != a->data + sizeof(PyObject *)) {
        return 0;
    }
    cf_ndarray_descr *descr = (cf_ndarray_descr *)dtype;
    if (a->dimensions[0] != 2 || a->strides[0] != sizeof(PyObject *) || descr->kind != 'O'
        || descr->type != 'O' || (PyObject *)descr->typeobj == NULL
        || ((PyObject **)a->data)[0] != marker || ((PyObject **)a->data)[1] != marker) {
        return 0;
    }
    cf_layout.ndarray = type;
    return 1;
}

/* NPY_ITEM_REFCOUNT, the lowest flag of a dtype, is in the byte behind the
 * byte order (numpy 1) or in a word behind the alignment (numpy 2). */
static bool
counts_items(PyObject *array, Py_ssize_t offset)
{
    return (((const char *)((cf_ndarray *)array)->descr)[offset] & 1) != 0;
}

void
cf_layout_add_records(PyObject *records, PyObject *numbers)
{
    static const Py_ssize_t candidates[] = {offsetof(cf_ndarray_descr, former_flags),
                                            sizeof(cf_ndarray_descr)};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(candidates); i++) {
        if (counts_items(records, candidates[i]) && !counts_items(numbers, candidates[i])) {
            cf_layout.dtype_flags = candidates[i];
        }
    }
}

bool
cf_layout_has_object_fields(PyObject *array)
{
    const cf_ndarray_descr *descr = (cf_ndarray_descr *)((cf_ndarray *)array)->descr;
    if (((cf_ndarray *)array)->base != NULL || descr == NULL || descr->kind != 'V') {
        return false; /* of a view, its base decides */
    }
    return cf_layout.dtype_flags == 0 || counts_items(array, cf_layout.dtype_flags);
}

/* TYPE if it is implemented in C without the collector (the layout of
 * datetime.h), else NULL. */
static PyTypeObject *
plain_c_type(PyObject *type)
{
    if (!PyType_Check(type) || PyType_IS_GC((PyTypeObject *)type)) {
        return NULL;
    }
    return (PyTypeObject *)type;
}

void
cf_layout_set_datetime(PyObject *datetime, PyObject *date, PyObject *time,
                       PyObject *timedelta, PyObject *timezone)
{
    cf_layout.datetime = plain_c_type(datetime);
    cf_layout.date = plain_c_type(date);
    cf_layout.time = plain_c_type(time);
    cf_layout.timedelta = plain_c_type(timedelta);
    cf_layout.timezone = plain_c_type(timezone);
}

void
cf_layout_set_decimal(PyObject *decimal)
{
    if (PyType_Check(decimal)) {
        cf_layout.decimal = (PyTypeObject *)decimal;
    }
}

void
cf_layout_set_zoneinfo(PyObject *zoneinfo)
{
    cf_layout.zoneinfo = PyType_Check(zoneinfo) ? (PyTypeObject *)zoneinfo : NULL;
}

PyObject *
cf_tzinfo_of(PyObject *op)
{
    for (PyTypeObject *type = Py_TYPE(op); type != NULL; type = type->tp_base) {
        if (type == cf_layout.time) {
            PyDateTime_Time *time = (PyDateTime_Time *)op;
            return time->hastzinfo ? time->tzinfo : NULL;
        }
        if (type == cf_layout.datetime) {
            PyDateTime_DateTime *datetime = (PyDateTime_DateTime *)op;
            return datetime->hastzinfo ? datetime->tzinfo : NULL;
        }
    }
    return NULL;
}
