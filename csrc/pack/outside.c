/* outside.c - what packed data refers to outside of packed memory.
 *
 *              packed memory                        ordinary memory
 *   3.12 ...   [ tuple ]--------------------------> [ class | enum member | time zone ]
 *              [ instance with slots only ] ------> its class
 *              [ list ]---------------------------> [ instance | its dict ]
 *   3.10 3.11  [ list ]---------------------------> [ instance with slots ]
 *   all, readonly=False                             [ list ][ dict ][ set ]
 *
 * References to packed memory cost nothing: its counts never reach 0. The other
 * way round nothing is counted, so a keeper, which is a list that never dies,
 * holds each such object once. It is frozen afterwards (_pack.py), and the
 * objects with it.
 *
 * Why an instance may have to lie outside. Any code may set an attribute, even
 * of a frozen dataclass (object.__setattr__). Where headers are shared, that would
 * hand a pointer of one process to all (P5). From 3.12 on headers are private
 * and a slot may lie among them; an instance's __dict__ may not: the interpreter
 * replaces its table, and frees the old one, which no malloc has made.
 *
 *   O1  what an ordinary object holds is counted, wherever it lies;
 *   O2  if a pack fails, ordinary objects are emptied and dropped before packed
 *       memory is unmapped: their destructors write the counts in it.
 */
#include "pack/outside.h"

#include "pack/kinds.h"

/* Append OP to *LIST, which is made if need be. Returns 0, or -1 with an exception. */
static int
append(PyObject **list, PyObject *op)
{
    if (*list == NULL && (*list = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_Append(*list, op);
}

PyObject *
cf_pack_outside(cf_packer *p, PyObject *op)
{
    if (op == NULL) {
        return NULL;
    }
    int status = append(&p->made, op);
    Py_DECREF(op);
    p->outcome->outside += status == 0;
    return status == 0 ? op : NULL;
}

PyObject *
cf_pack_refer(cf_packer *p, PyObject *op)
{
    if (cf_memo_get(&p->work.memo, op) != 0) {
        return op;
    }
    if (append(&p->referred, op) < 0) {
        return NULL;
    }
    p->outcome->referred++;
    if (cf_memo_set(&p->work.memo, op, (uintptr_t)op) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return op;
}

PyObject *
cf_pack_keeper(const cf_packer *p)
{
    PyObject *keeper = p->made != NULL ? p->made : p->referred;
    if (keeper == NULL) {
        Py_RETURN_NONE;
    }
    if (p->made != NULL && p->referred != NULL) {
        return PyNumber_Add(p->made, p->referred);
    }
    Py_INCREF(keeper);
    return keeper;
}

void
cf_pack_keep(PyObject *keeper)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keeper); i++) {
        PyObject *op = PyList_GET_ITEM(keeper, i);
        if (!cf_header_done(op)) {
            if (PyUnicode_CheckExact(op)) {
                cf_str_prepare(op);
            }
            cf_header_freeze(op);
            if (PyObject_IS_GC(op)) {
                PyObject_GC_UnTrack(op); /* I4 */
            }
        }
    }
}

void
cf_pack_drop_outside(cf_packer *p)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; p->made != NULL && i < PyList_GET_SIZE(p->made); i++) {
        PyObject *op = PyList_GET_ITEM(p->made, i);
        inquiry clear = Py_TYPE(op)->tp_clear;
        if (clear != NULL && !cf_pack_is_frozenset(op)) { /* O2; frozensets close no cycle */
            (void)clear(op);
        }
    }
    Py_CLEAR(p->made);
    PyErr_Restore(type, value, traceback);
}

/* -- instances ----------------------------------------------------------- */

PyObject *
cf_pack_instance(cf_packer *p, PyObject *op, bool *outside)
{
    PyTypeObject *type = Py_TYPE(op);
    if (cf_pack_refer(p, (PyObject *)type) == NULL) {
        return NULL;
    }
    size_t size = (size_t)type->tp_basicsize;
    p->outcome->source_bytes += (PyType_IS_GC(type) ? 16 : 0) + cf_type_prefix(type) + size
                                + cf_type_inline_size(type);
    *outside = CF_HEADERS_ARE_SHARED || type->tp_dictoffset != 0;
    return *outside ? cf_pack_outside(p, cf_copy_empty(op))
                    : cf_pack_object(p, type, size, PyType_IS_GC(type));
}

int
cf_pack_set_attribute(PyObject *instance, PyObject *name, PyObject *value)
{
    PyObject *on_class = _PyType_Lookup(Py_TYPE(instance), name);
    if (PyUnicode_CHECK_INTERNED(name)
        && (on_class == NULL || Py_TYPE(on_class)->tp_descr_set == NULL)) {
        return PyObject_GenericSetAttr(instance, name, value); /* in the form that is smallest */
    }
    PyObject *dict = PyObject_GenericGetDict(instance, NULL);
    int status = dict != NULL ? PyDict_SetItem(dict, name, value) : -1;
    Py_XDECREF(dict);
    return status;
}
