/* refuse.c - what Python code would make C code do to packed memory that all processes share.
 *
 *   x.__class__ = C                     object's descriptor    writes the header of a named tuple
 *   x.__dict__ = packed                 each type's getset     the next attribute goes to PyDict_SetItem
 *   eval(c, packed), exec(c, packed)    builtins               they store __builtins__
 *   heapq.heapify(packed) ...           _heapq                 they move items
 *
 * On 3.10 and 3.11 headers lie in memory that all processes see, and tables are read-only, so the C
 * code behind these would end the process. Each of them is asked through one pointer in a
 * static table, in which a function of this file takes the place of the one that it calls then.
 * That is done once, at the first pack, for the types and modules of CPython that are named here.
 */
#include "pack/refuse.h"

#include "objects/packed_memory.h"
#include "objects/packed_types.h"
#include "pack/store.h"

#include <string.h>

#if CF_HEADERS_ARE_SHARED
static int
say(const char *what, const char *instead)
{
    PyErr_Format(PyExc_TypeError, "%s is packed and read-only; %s gives an ordinary one", what,
                 instead);
    return -1;
}

/* -- __class__ ----------------------------------------------------------- */

static setter set_class; /* the interpreter's; written once, under the GIL */

static int
set_class_unless_packed(PyObject *self, PyObject *value, void *closure)
{
    if (cf_packed_contains((uintptr_t)self)) {
        PyErr_Format(PyExc_TypeError,
                     "this %.200s is packed and read-only; cowfreeze.clone() gives an ordinary one",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    return set_class(self, value, closure);
}

/* `x.__class__ = C` of a named tuple writes its header. object's descriptor is
 * where all such assignments end. */
int
cf_pack_guard_class(void)
{
    PyObject *descriptor = PyDict_GetItemString(PyBaseObject_Type.tp_dict, "__class__");
    if (descriptor == NULL || Py_TYPE(descriptor) != &PyGetSetDescr_Type) {
        PyErr_SetString(PyExc_NotImplementedError,
                        "cowfreeze.pack(): object.__class__ of this CPython is not known");
        return -1;
    }
    PyGetSetDef *def = ((PyGetSetDescrObject *)descriptor)->d_getset;
    if (def->set != set_class_unless_packed) {
        set_class = def->set;
        def->set = set_class_unless_packed;
    }
    return 0;
}

/* -- __dict__ ------------------------------------------------------------ */

/* What stood in a getset before; the getters of __dict__ do not ask for the closure. */
typedef struct {
    setter set;
    void *closure;
} former;

#define MAX_FORMER 16
/* Written under the GIL when the packed types are made ready. */
static former formers[MAX_FORMER];
static int n_formers;

static int
set_dict_unless_packed(PyObject *self, PyObject *value, void *closure)
{
    const former *before = closure;
    if (value != NULL && Py_TYPE(value) == &cf_packed_dict_type) {
        return say("this dict", "dict(p)");
    }
    return before->set(self, value, before->closure);
}

static void
guard_dict_of(PyTypeObject *type)
{
    if (!PyType_Check((PyObject *)type)) {
        return; /* partial, where functools is all Python */
    }
    for (PyGetSetDef *def = type->tp_getset; def != NULL && def->name != NULL; def++) {
        if (strcmp(def->name, "__dict__") == 0 && def->set != NULL
            && def->set != set_dict_unless_packed && n_formers < MAX_FORMER) {
            former *before = &formers[n_formers++];
            *before = (former){def->set, def->closure};
            def->closure = before;
            def->set = set_dict_unless_packed;
        }
    }
}

/* The tables of CPython's own types, which can be written; those of all class statements are two. */
static int
guard_dicts(void)
{
    int ret = -1;
    PyObject *functools = PyImport_ImportModule("functools");
    PyObject *types[] = {
        PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "cowfreeze_probe"),
        PyObject_CallFunction((PyObject *)&PyType_Type, "s(){s(s)}", "cowfreeze_probe", "__slots__",
                              "__dict__"),
        functools != NULL ? PyObject_GetAttrString(functools, "partial") : NULL,
        functools != NULL ? PyObject_GetAttrString(functools, "_lru_cache_wrapper") : NULL,
        Py_NewRef((PyObject *)&PyFunction_Type),
        Py_NewRef(PyExc_BaseException),
        Py_NewRef((PyObject *)&PyODict_Type),
        Py_NewRef((PyObject *)&PyClassMethod_Type),
        Py_NewRef((PyObject *)&PyStaticMethod_Type),
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (types[i] == NULL) {
            goto done;
        }
        guard_dict_of((PyTypeObject *)types[i]);
    }
    ret = 0;

done:
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        Py_XDECREF(types[i]);
    }
    Py_XDECREF(functools);
    return ret;
}

/* -- functions ----------------------------------------------------------- */

static bool
is_packed_list(PyObject *op)
{
    return Py_TYPE(op) == &cf_packed_list_type && say("this list", "list(p)") < 0;
}

static bool
is_packed_dict(PyObject *op)
{
    return Py_TYPE(op) == &cf_packed_dict_type && say("this dict", "dict(p)") < 0;
}

/* Functions of one argument, of several, of several and names; WHICH argument must not be packed. */
#define ONE(name)                                                                              \
    static PyCFunction name;                                                                   \
    static PyObject *name##_or_not(PyObject *m, PyObject *op)                                  \
    {                                                                                          \
        return is_packed_list(op) ? NULL : name(m, op);                                        \
    }
#define SEVERAL(name, which, is_packed)                                                        \
    static PyCFunction name;                                                                   \
    static PyObject *name##_or_not(PyObject *m, PyObject *const *args, Py_ssize_t n,           \
                                   PyObject *names)                                            \
    {                                                                                          \
        return n > which && is_packed(args[which])                                             \
                   ? NULL                                                                      \
                   : ((_PyCFunctionFastWithKeywords)(void (*)(void))name)(m, args, n, names);  \
    }

ONE(heapify)
ONE(heappop)
ONE(heapify_max)
ONE(heappop_max)
SEVERAL(heappush, 0, is_packed_list)
SEVERAL(heappushpop, 0, is_packed_list)
SEVERAL(heapreplace, 0, is_packed_list)
SEVERAL(heapreplace_max, 0, is_packed_list)
SEVERAL(eval, 1, is_packed_dict)
SEVERAL(exec, 1, is_packed_dict)

#define FUNCTION(module, name, function, flags)                                                \
    {module, name, &function, (PyCFunction)(void (*)(void))function##_or_not, flags}
static const struct {
    const char *module, *name;
    PyCFunction *before;
    PyCFunction after;
    int flags;
} functions[] = {
    FUNCTION("_heapq", "heapify", heapify, METH_O),
    FUNCTION("_heapq", "heappop", heappop, METH_O),
    FUNCTION("_heapq", "_heapify_max", heapify_max, METH_O),
    FUNCTION("_heapq", "_heappop_max", heappop_max, METH_O),
    FUNCTION("_heapq", "heappush", heappush, METH_FASTCALL),
    FUNCTION("_heapq", "heappushpop", heappushpop, METH_FASTCALL),
    FUNCTION("_heapq", "heapreplace", heapreplace, METH_FASTCALL),
    FUNCTION("_heapq", "_heapreplace_max", heapreplace_max, METH_FASTCALL),
    FUNCTION("builtins", "eval", eval, METH_FASTCALL),
    FUNCTION("builtins", "exec", exec, METH_FASTCALL),
};

/* A function that takes no names is called with one argument too many, which it does not look at. */
static void
guard_function(size_t i, PyObject *function)
{
    if (function == NULL || !PyCFunction_CheckExact(function)) {
        return; /* replaced by Python code, which asks the type */
    }
    PyMethodDef *def = ((PyCFunctionObject *)function)->m_ml;
    if ((def->ml_flags & ~METH_KEYWORDS) == functions[i].flags && def->ml_meth != functions[i].after) {
        *functions[i].before = def->ml_meth;
        def->ml_meth = functions[i].after;
    }
}

static int
guard_functions(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        PyObject *module = PyImport_ImportModule(functions[i].module);
        if (module == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_ImportError)) {
                return -1;
            }
            PyErr_Clear(); /* then heapq is written in Python */
            continue;
        }
        PyObject *names = PyModule_GetDict(module);
        guard_function(i, PyDict_GetItemString(names, functions[i].name));
        Py_DECREF(module);
    }
    return 0;
}

int
cf_pack_guard_containers(void)
{
    static bool guarded;
    if (!guarded && (guard_dicts() < 0 || guard_functions() < 0)) {
        return -1;
    }
    guarded = true;
    return 0;
}
#else
int
cf_pack_guard_class(void)
{
    return 0;
}

int
cf_pack_guard_containers(void)
{
    return 0;
}
#endif
