/* kinds.c - what kind of value an object is, by its type alone.
 *
 *   exact built-in types       leaf or container, one comparison each
 *   classes, enums, time zones identities: the same object serves both
 *   instances                  if every byte is accounted for, see below: fields.c finds all of it
 *   everything else            refused: C code may keep state that nobody sees
 *
 *   instance   [ header ][ slots of `class` statements ][ dict* ][ weak references* ]
 *               object    ht_slots of each level         3.10      before 3.12
 *
 * A class may have C types above it that look as if `class` had made them (PyType_FromSpec
 * gives them the same functions), and whose bytes mean something to C code alone: the state of
 * random.Random. So no type is believed. What each level adds to the size of its base must be
 * the slots that its `class` statement names and the two pointers, to the byte; the one C type
 * that may stand between is typing.Generic, which adds nothing.
 *
 * Nothing is called here that could run Python code or count a reference.
 */
#include "copy/copy.h"

#include "objects/packed_types.h"

#include <datetime.h>
#include <string.h>
#include <structmember.h>

/* Looked up once, under the GIL. */
static PyTypeObject *enum_type;
static PyTypeObject *generic_type; /* written in C from 3.12 on */
static destructor python_class_dealloc; /* what every class made by `class` has */

int
cf_copy_init(PyObject *Enum, PyObject *Generic)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL) {
        return -1;
    }
    if (!PyType_Check(Enum) || !PyType_Check(Generic)) {
        PyErr_SetString(PyExc_TypeError, "cf_copy_init takes enum.Enum and typing.Generic");
        return -1;
    }
    Py_INCREF(Enum);
    Py_INCREF(Generic);
    generic_type = (PyTypeObject *)Generic;
    enum_type = (PyTypeObject *)Enum;
    python_class_dealloc = enum_type->tp_dealloc;
    return 0;
}

/* -- kinds --------------------------------------------------------------- */

/* Bytes that a `class` statement has added to the instances of TYPE's base: its slots, a pointer
 * to a __dict__, one to weak references. -1: there are fields of another kind. */
static Py_ssize_t
added_by_class(PyTypeObject *type)
{
    const PyTypeObject *base = type->tp_base;
    PyObject *slots = ((PyHeapTypeObject *)type)->ht_slots; /* a class statement's only */
    Py_ssize_t named = slots != NULL ? PyTuple_GET_SIZE(slots) : 0, found = 0;
    for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++) {
        if (m->type != T_OBJECT_EX || m->offset < base->tp_basicsize) {
            return -1;
        }
        found++;
    }
    if (found != named) {
        return -1;
    }
    found += type->tp_dictoffset > 0 && base->tp_dictoffset == 0;
    found += type->tp_weaklistoffset > 0 && base->tp_weaklistoffset == 0;
    return found * (Py_ssize_t)sizeof(PyObject *);
}

/* Do instances of TYPE hold nothing but what BASE's do and what class statements gave them? */
static bool
is_explained(PyTypeObject *type, PyTypeObject *base)
{
    for (; type != base; type = type->tp_base) {
        if (type == NULL || type->tp_base == NULL || type->tp_alloc != PyType_GenericAlloc) {
            return false;
        }
        Py_ssize_t added = type->tp_basicsize - type->tp_base->tp_basicsize;
        if (type == generic_type ? added != 0
                                 : !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
                                       || type->tp_dealloc != python_class_dealloc
                                       || added_by_class(type) != added) {
            return false;
        }
    }
    return true;
}

static cf_copy_kind
kind_of_other(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_Check(op) || PyType_IsSubtype(type, enum_type)
        || PyType_IsSubtype(type, PyDateTimeAPI->TZInfoType)) {
        return CF_COPY_REFERENCE;
    }
    if (type == PyDateTimeAPI->DateTimeType || type == PyDateTimeAPI->DateType
        || type == PyDateTimeAPI->TimeType || type == PyDateTimeAPI->DeltaType) {
        return CF_COPY_DATETIME;
    }
    if (type->tp_finalize != NULL || type->tp_del != NULL) {
        return CF_COPY_REFUSED; /* the copy would run it once more */
    }
    if (PyTuple_Check(op)) {
        return type->tp_dictoffset == 0 && is_explained(type, &PyTuple_Type)
                   ? CF_COPY_TUPLE
                   : CF_COPY_REFUSED;
    }
    if (is_explained(type, &PyBaseObject_Type) && type->tp_itemsize == 0
        && cf_copy_readable(type)) {
        return CF_COPY_INSTANCE;
    }
    if (strcmp(type->tp_name, "decimal.Decimal") == 0
        && type->tp_dealloc != python_class_dealloc) {
        return CF_COPY_DECIMAL;
    }
    return CF_COPY_REFUSED;
}

cf_copy_kind
cf_copy_kind_of(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == &PyUnicode_Type) {
        return CF_COPY_STR;
    }
    if (type == &PyLong_Type) {
        return CF_COPY_INT;
    }
    if (type == &PyDict_Type || type == &cf_packed_dict_type) {
        return CF_COPY_DICT;
    }
    if (type == &PyList_Type || type == &cf_packed_list_type) {
        return CF_COPY_LIST;
    }
    if (type == &PyTuple_Type) {
        return CF_COPY_TUPLE;
    }
    if (type == &PyFloat_Type) {
        return CF_COPY_FLOAT;
    }
    if (op == Py_None || type == &PyBool_Type || op == Py_Ellipsis || op == Py_NotImplemented) {
        return CF_COPY_SINGLETON;
    }
    if (type == &PyBytes_Type) {
        return CF_COPY_BYTES;
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type || type == &cf_packed_set_type
        || type == &cf_packed_frozenset_type) {
        return CF_COPY_SET;
    }
    if (type == &PyComplex_Type) {
        return CF_COPY_COMPLEX;
    }
    if (type == &PyByteArray_Type) {
        return CF_COPY_BYTEARRAY;
    }
    if (type == &PyRange_Type) {
        return CF_COPY_RANGE;
    }
    return kind_of_other(op);
}

/* Are hash and comparison of OP those of the built-in TYPE? (An IntEnum's are.) */
static bool
hashes_like(PyObject *op, PyTypeObject *type)
{
    return Py_TYPE(op)->tp_hash == type->tp_hash
           && Py_TYPE(op)->tp_richcompare == type->tp_richcompare;
}

bool
cf_copy_hashes(PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_TUPLE:
        return hashes_like(op, &PyTuple_Type);
    case CF_COPY_SET:
        return Py_TYPE(op) == &PyFrozenSet_Type || Py_TYPE(op) == &cf_packed_frozenset_type;
    case CF_COPY_REFERENCE:
        return hashes_like(op, &PyType_Type) || hashes_like(op, &PyLong_Type)
               || hashes_like(op, &PyUnicode_Type);
    case CF_COPY_DATETIME:
        /* Of an aware one, the time zone is asked, which may be Python code. */
        return Py_TYPE(op) == PyDateTimeAPI->DateType || Py_TYPE(op) == PyDateTimeAPI->DeltaType
               || !((PyDateTime_Time *)op)->hastzinfo;
    case CF_COPY_BYTEARRAY:
    case CF_COPY_INSTANCE:
        return false;
    default:
        return kind != CF_COPY_REFUSED && kind <= CF_COPY_LEAF;
    }
}
