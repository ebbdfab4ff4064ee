/* packed_types.c - the read-only containers of packed data, as types.
 *
 *                    dict                      packed dict
 *   layout           PyDictObject              the same
 *   slots            dict_repr, dict_iter ...  the same, but what writes raises TypeError
 *   tp_flags         DICT_SUBCLASS             DICT_SUBCLASS: PyDict_Check is true
 *   MRO              dict, object              object
 *   __class__        dict                      dict, by a property
 *
 * Who asks which of them decides what works:
 *
 *   C code that reads (json, ==, **kw)         PyDict_Check: the flag       works
 *   isinstance, match, ABCs                    the MRO, then __class__      works
 *   dict.__setitem__(p, ...), list.sort(p)     the MRO                      TypeError
 *   C code that writes (PyDict_SetItem)        PyDict_Check: the flag       see pack.c, P6
 *   type(p) is dict, PyDict_CheckExact         the type                     no
 *
 * Sets have no flag: PyAnySet_Check goes through the MRO, so theirs has
 * frozenset in it, whose methods only read, and PySet_Add refuses a frozenset
 * that somebody else may know. Weak references to them would be a list whose
 * head lies in shared memory: they have no place for it.
 *
 * Reading methods are dict's and list's own C functions, taken from their
 * method descriptors. Copies (copy, pickle, p | q) are ordinary and mutable.
 */
#include "objects/packed_types.h"

#include "objects/packed_refusals.h"

#include <string.h>

static void
never_freed(PyObject *Py_UNUSED(self))
{
}

/* What they refer to, for explanations. That the sets have a function of their
 * own also keeps the collector's flag from being inherited from frozenset:
 * nothing in packed memory can be part of garbage. */
static int
traverse_list(PyObject *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(self); i++) {
        Py_VISIT(PyList_GET_ITEM(self, i));
    }
    return 0;
}

/* C code that stores into a packed dict of 3.12 or 3.13 makes the collector know it. */
static int
traverse_dict(PyObject *self, visitproc visit, void *arg)
{
    return PyDict_Type.tp_traverse(self, visit, arg);
}

static int
traverse_set(PyObject *self, visitproc visit, void *arg)
{
    const PySetObject *set = (const PySetObject *)self;
    for (Py_ssize_t i = 0; i <= set->mask; i++) {
        if (set->table[i].key != NULL) {
            Py_VISIT(set->table[i].key);
        }
    }
    return 0;
}

#define REFUSED(name) \
    {name, (PyCFunction)(void (*)(void))cf_packed_refuse_call, METH_VARARGS | METH_KEYWORDS, NULL}

/* -- what it says it is -------------------------------------------------- */

static PyObject *
get_class(PyObject *self, void *Py_UNUSED(closure))
{
    PyTypeObject *type = Py_TYPE(self) == &cf_packed_dict_type   ? &PyDict_Type
                         : Py_TYPE(self) == &cf_packed_list_type ? &PyList_Type
                         : Py_TYPE(self) == &cf_packed_set_type  ? &PySet_Type
                                                                 : &PyFrozenSet_Type;
    Py_INCREF(type);
    return (PyObject *)type;
}

static PyGetSetDef class_getset[] = {
    {.name = "__class__", .get = get_class},
    {.name = NULL},
};

/* -- copies -------------------------------------------------------------- */

static PyObject *
reduce_dict(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyObject *items = PyObject_CallMethod(self, "items", NULL);
    PyObject *iterator = items != NULL ? PyObject_GetIter(items) : NULL;
    Py_XDECREF(items);
    return iterator != NULL ? Py_BuildValue("O()OON", &PyDict_Type, Py_None, Py_None, iterator)
                            : NULL;
}

static PyObject *
reduce_list(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyObject *iterator = PyObject_GetIter(self);
    return iterator != NULL ? Py_BuildValue("O()ON", &PyList_Type, Py_None, iterator) : NULL;
}

static PyObject *
reduce_set(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyObject *list = PySequence_List(self);
    PyTypeObject *type = Py_TYPE(self) == &cf_packed_set_type ? &PySet_Type : &PyFrozenSet_Type;
    return list != NULL ? Py_BuildValue("O(N)", type, list) : NULL;
}

static PyObject *
plain_set(PyObject *self)
{
    return Py_TYPE(self) == &cf_packed_set_type         ? PySet_New(self)
           : Py_TYPE(self) == &cf_packed_frozenset_type ? PyFrozenSet_New(self)
                                                        : Py_NewRef(self);
}

static PyObject *
copy_set(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return plain_set(self);
}

static PyObject *
repr_set(PyObject *self)
{
    PyObject *set = plain_set(self);
    PyObject *text = set != NULL ? PyObject_Repr(set) : NULL;
    Py_XDECREF(set);
    return text;
}

/* An operator between plain sets in place of packed ones. */
static PyObject *
operate(PyObject *left, PyObject *right, binaryfunc operation)
{
    PyObject *result = NULL;
    PyObject *a = plain_set(left), *b = a != NULL ? plain_set(right) : NULL;
    if (b != NULL) {
        result = operation(a, b);
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}

static PyObject *or_sets(PyObject *a, PyObject *b) { return operate(a, b, PyNumber_Or); }
static PyObject *and_sets(PyObject *a, PyObject *b) { return operate(a, b, PyNumber_And); }
static PyObject *xor_sets(PyObject *a, PyObject *b) { return operate(a, b, PyNumber_Xor); }
static PyObject *subtract_sets(PyObject *a, PyObject *b) { return operate(a, b, PyNumber_Subtract); }

/* set.NAME(set(self), *args) */
static PyObject *
call_plain(PyObject *self, const char *name, PyObject *args)
{
    PyObject *set = plain_set(self);
    PyObject *method = set != NULL ? PyObject_GetAttrString(set, name) : NULL;
    PyObject *result = method != NULL ? PyObject_CallObject(method, args) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(set);
    return result;
}

static PyObject *set_union(PyObject *s, PyObject *a) { return call_plain(s, "union", a); }
static PyObject *set_common(PyObject *s, PyObject *a) { return call_plain(s, "intersection", a); }
static PyObject *set_minus(PyObject *s, PyObject *a) { return call_plain(s, "difference", a); }
static PyObject *
set_either(PyObject *s, PyObject *a)
{
    return call_plain(s, "symmetric_difference", a);
}

/* `type(x)(items)`, which generic code such as dataclasses.asdict() writes, makes
 * an ordinary container. */
static PyObject *new_dict(PyTypeObject *Py_UNUSED(t), PyObject *args, PyObject *kwargs)
{
    return PyObject_Call((PyObject *)&PyDict_Type, args, kwargs);
}

static PyObject *new_list(PyTypeObject *Py_UNUSED(t), PyObject *args, PyObject *kwargs)
{
    return PyObject_Call((PyObject *)&PyList_Type, args, kwargs);
}

static PyObject *new_set(PyTypeObject *Py_UNUSED(t), PyObject *args, PyObject *kwargs)
{
    return PyObject_Call((PyObject *)&PySet_Type, args, kwargs);
}

static PyObject *new_frozenset(PyTypeObject *Py_UNUSED(t), PyObject *args, PyObject *kwargs)
{
    return PyObject_Call((PyObject *)&PyFrozenSet_Type, args, kwargs);
}

/* -- tables -------------------------------------------------------------- */

/* Filled once, by cf_packtypes_init, under the GIL; read only from then on. */
static PyNumberMethods dict_number, set_number, frozenset_number;
static PySequenceMethods dict_sequence, list_sequence;
static PyMappingMethods dict_mapping, list_mapping;

/* The rooms with no function are filled with the built-in's (borrow_methods). */
static PyMethodDef dict_methods[] = {
    {.ml_name = "get"}, {.ml_name = "keys"}, {.ml_name = "items"}, {.ml_name = "values"},
    {.ml_name = "copy"}, {.ml_name = "__reversed__"}, {.ml_name = "__getitem__"},
    {.ml_name = "__contains__"},
    {"__reduce_ex__", reduce_dict, METH_O, NULL},
    REFUSED("clear"), REFUSED("pop"), REFUSED("popitem"), REFUSED("setdefault"),
    REFUSED("update"),
    {.ml_name = NULL},
};
static PyMethodDef list_methods[] = {
    {.ml_name = "copy"}, {.ml_name = "index"}, {.ml_name = "count"},
    {.ml_name = "__reversed__"}, {.ml_name = "__getitem__"},
    {"__reduce_ex__", reduce_list, METH_O, NULL},
    REFUSED("append"), REFUSED("clear"), REFUSED("extend"), REFUSED("insert"), REFUSED("pop"),
    REFUSED("remove"), REFUSED("reverse"), REFUSED("sort"),
    {.ml_name = NULL},
};
static PyMethodDef set_methods[] = {
    {"copy", copy_set, METH_NOARGS, NULL},
    {"union", set_union, METH_VARARGS, NULL},
    {"intersection", set_common, METH_VARARGS, NULL},
    {"difference", set_minus, METH_VARARGS, NULL},
    {"symmetric_difference", set_either, METH_VARARGS, NULL},
    {"__reduce_ex__", reduce_set, METH_O, NULL},
    REFUSED("add"), REFUSED("clear"), REFUSED("discard"), REFUSED("pop"), REFUSED("remove"),
    REFUSED("update"), REFUSED("difference_update"), REFUSED("intersection_update"),
    REFUSED("symmetric_difference_update"),
    {.ml_name = NULL},
};
static PyMethodDef frozenset_methods[] = {
    {"copy", copy_set, METH_NOARGS, NULL},
    {"union", set_union, METH_VARARGS, NULL},
    {"intersection", set_common, METH_VARARGS, NULL},
    {"difference", set_minus, METH_VARARGS, NULL},
    {"symmetric_difference", set_either, METH_VARARGS, NULL},
    {"__reduce_ex__", reduce_set, METH_O, NULL},
    {.ml_name = NULL},
};

#define PACKED_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE)

PyTypeObject cf_packed_dict_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cowfreeze.packed_dict",
    .tp_basicsize = sizeof(PyDictObject),
    .tp_new = new_dict,
    .tp_dealloc = never_freed,
    .tp_flags = PACKED_FLAGS | Py_TPFLAGS_DICT_SUBCLASS | Py_TPFLAGS_MAPPING,
    .tp_doc = "A read-only dict in packed memory.",
    .tp_traverse = traverse_dict,
    .tp_as_number = &dict_number,
    .tp_as_sequence = &dict_sequence,
    .tp_as_mapping = &dict_mapping,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_methods = dict_methods,
    .tp_getset = class_getset,
};
PyTypeObject cf_packed_list_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cowfreeze.packed_list",
    .tp_basicsize = sizeof(PyListObject),
    .tp_new = new_list,
    .tp_dealloc = never_freed,
    .tp_flags = PACKED_FLAGS | Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_SEQUENCE,
    .tp_doc = "A read-only list in packed memory.",
    .tp_traverse = traverse_list,
    .tp_as_sequence = &list_sequence,
    .tp_as_mapping = &list_mapping,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_methods = list_methods,
    .tp_getset = class_getset,
};
PyTypeObject cf_packed_set_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cowfreeze.packed_set",
    .tp_basicsize = sizeof(PySetObject),
    .tp_new = new_set,
    .tp_dealloc = never_freed,
    .tp_flags = PACKED_FLAGS,
    .tp_doc = "A read-only set in packed memory.",
    .tp_as_number = &set_number,
    .tp_repr = repr_set,
    .tp_traverse = traverse_set,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_methods = set_methods,
    .tp_getset = class_getset,
};
PyTypeObject cf_packed_frozenset_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cowfreeze.packed_frozenset",
    .tp_basicsize = sizeof(PySetObject),
    .tp_new = new_frozenset,
    .tp_dealloc = never_freed,
    .tp_flags = PACKED_FLAGS,
    .tp_doc = "A frozenset in packed memory.",
    .tp_as_number = &frozenset_number,
    .tp_repr = repr_set,
    .tp_traverse = traverse_set,
    .tp_methods = frozenset_methods,
    .tp_getset = class_getset,
};

/* -- readiness ----------------------------------------------------------- */

/* Fill each room of METHODS that has no function with BASE's. */
static int
borrow_methods(PyMethodDef *methods, PyTypeObject *base)
{
    for (PyMethodDef *m = methods; m->ml_name != NULL; m++) {
        if (m->ml_meth != NULL) {
            continue;
        }
        PyObject *descriptor = PyObject_GetAttrString((PyObject *)base, m->ml_name);
        if (descriptor == NULL) {
            return -1;
        }
        bool fits = Py_TYPE(descriptor) == &PyMethodDescr_Type;
        if (fits) {
            *m = *((PyMethodDescrObject *)descriptor)->d_method;
        }
        Py_DECREF(descriptor);
        if (!fits) {
            PyErr_Format(PyExc_SystemError, "cowfreeze: %s.%s is no method descriptor",
                         base->tp_name, m->ml_name);
            return -1;
        }
    }
    return 0;
}

static void
borrow_slots(PyTypeObject *type, const PyTypeObject *base)
{
    type->tp_repr = base->tp_repr;
    type->tp_richcompare = base->tp_richcompare;
    type->tp_iter = base->tp_iter;
}

bool
cf_packtypes_traverses(PyTypeObject *type)
{
    return type == &cf_packed_list_type || type == &cf_packed_set_type
           || type == &cf_packed_frozenset_type;
}

static int
ready(PyTypeObject *type, PyTypeObject *base)
{
    type->tp_base = base;
    if (PyType_Ready(type) < 0) {
        return -1;
    }
    type->tp_weaklistoffset = 0;
    if (CF_HAS_IMMORTAL) {
        cf_header_freeze((PyObject *)type); /* type(x) counts it */
    }
    return 0;
}

int
cf_packtypes_init(void)
{
    dict_number = *PyDict_Type.tp_as_number;
    dict_number.nb_inplace_or = cf_packed_refuse_operand;
    dict_sequence = *PyDict_Type.tp_as_sequence;
    dict_mapping = *PyDict_Type.tp_as_mapping;
    dict_mapping.mp_ass_subscript = cf_packed_refuse_item;
    list_sequence = *PyList_Type.tp_as_sequence;
    list_sequence.sq_ass_item = cf_packed_refuse_index;
    list_sequence.sq_inplace_concat = cf_packed_refuse_operand;
    list_sequence.sq_inplace_repeat = cf_packed_refuse_repeat;
    list_mapping = *PyList_Type.tp_as_mapping;
    list_mapping.mp_ass_subscript = cf_packed_refuse_item;
    frozenset_number = (PyNumberMethods){.nb_or = or_sets,
                                         .nb_and = and_sets,
                                         .nb_xor = xor_sets,
                                         .nb_subtract = subtract_sets};
    set_number = frozenset_number;
    set_number.nb_inplace_or = cf_packed_refuse_operand;
    set_number.nb_inplace_and = cf_packed_refuse_operand;
    set_number.nb_inplace_xor = cf_packed_refuse_operand;
    set_number.nb_inplace_subtract = cf_packed_refuse_operand;
    borrow_slots(&cf_packed_dict_type, &PyDict_Type);
    borrow_slots(&cf_packed_list_type, &PyList_Type);
    cf_packed_set_type.tp_richcompare = PySet_Type.tp_richcompare;
    cf_packed_frozenset_type.tp_richcompare = PyFrozenSet_Type.tp_richcompare;
    cf_packed_frozenset_type.tp_hash = PyFrozenSet_Type.tp_hash;
    if (borrow_methods(dict_methods, &PyDict_Type) < 0
        || borrow_methods(list_methods, &PyList_Type) < 0
        || ready(&cf_packed_dict_type, &PyBaseObject_Type) < 0
        || ready(&cf_packed_list_type, &PyBaseObject_Type) < 0
        || ready(&cf_packed_set_type, &PyFrozenSet_Type) < 0
        || ready(&cf_packed_frozenset_type, &PyFrozenSet_Type) < 0) {
        return -1;
    }
    return 0;
}
