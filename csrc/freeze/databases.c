/* databases.c - what open databases keep for themselves.
 *
 *   Connection --> lru_cache --.--> dict --> links --> Statement    (3.10: sqlite3.Cache)
 *                              `--> __dict__
 *
 * A connection keeps its last statements for reuse, and SQLite does not close a database before
 * its last statement is gone: the file stays open, and its log (-wal) lies beside it. Connections
 * and statements are not frozen, but the cache between them is made of objects like any other.
 * Only the connection refers to them, so they are left to it.
 */
#include "freeze/databases.h"

#include "cpython/compat.h"

#include <string.h>

typedef struct {
    cf_plan *plan;
    PyTypeObject *connection;
} search;

static bool
has_name(PyObject *op, const char *name)
{
    return strcmp(Py_TYPE(op)->tp_name, name) == 0;
}

static int
visit_cached(PyObject *op, void *arg)
{
    if (op != NULL && (PyDict_CheckExact(op) || has_name(op, "sqlite3.Node"))) {
        cf_plan_exclude(arg, op);
    }
    return 0;
}

static int
visit_held(PyObject *op, void *arg)
{
    if (op != NULL && (has_name(op, "functools._lru_cache_wrapper") || has_name(op, "sqlite3.Cache"))) {
        cf_plan_exclude(arg, op);
        (void)Py_TYPE(op)->tp_traverse(op, visit_cached, arg);
    }
    return 0;
}

static int
visit_collected(PyObject *op, void *arg)
{
    search *s = arg;
    if (PyType_IsSubtype(Py_TYPE(op), s->connection)) {
        (void)s->connection->tp_traverse(op, visit_held, s->plan);
    }
    return 1;
}

void
cf_databases_exclude(cf_plan *plan, PyObject *all)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = modules != NULL ? PyDict_GetItemString(modules, "_sqlite3") : NULL; /* borrowed */
    PyObject *dict = module != NULL && PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
    PyObject *connection = dict != NULL ? PyDict_GetItemString(dict, "Connection") : NULL;
    if (connection == NULL || !PyType_Check(connection) || ((PyTypeObject *)connection)->tp_traverse == NULL) {
        return;
    }
    search s = {plan, (PyTypeObject *)connection};
    if (all == NULL) {
        cf_gc_visit_objects(visit_collected, &s);
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all); i++) {
        (void)visit_collected(PyList_GET_ITEM(all, i), &s);
    }
}
