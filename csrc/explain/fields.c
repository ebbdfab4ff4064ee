/* fields.c - which field of an object is this word?
 *
 *   -32  -24  -16       0          8         16 ...
 *   [weak|dict| GC head ][ count   ][ type   ][ fields of the type ... ][ values ]
 *                                                                       ^ tp_basicsize, 3.13+
 *
 * Kinds of objects are told by exact type where the layout is a public struct
 * (unicodeobject.h, listobject.h, ...); everything else is "contents".
 */
#include "explain/fields.h"

#include "cpython/layout.h"

#include <stddef.h>

#define WORD ((ptrdiff_t)sizeof(void *))
#define WORD_OF(offset) ((ptrdiff_t)(offset) & ~(WORD - 1))

static const char *const names[CF_N_FIELDS] = {
    [CF_FIELD_NONE] = "none",
    [CF_FIELD_COUNT] = "reference count",
    [CF_FIELD_TYPE] = "class",
    [CF_FIELD_GC] = "GC header",
    [CF_FIELD_DICT_POINTER] = "instance dict or weak references",
    [CF_FIELD_HASH] = "cached hash",
    [CF_FIELD_STR_STATE] = "string state",
    [CF_FIELD_STR_UTF8] = "UTF-8 cache",
    [CF_FIELD_LIST] = "list contents",
    [CF_FIELD_DICT] = "dict contents",
    [CF_FIELD_KEYS_HEADER] = "dict table header",
    [CF_FIELD_SET] = "set contents",
    [CF_FIELD_VALUES] = "instance values",
    [CF_FIELD_SHARED_KEYS] = "attribute names of the class",
    [CF_FIELD_TYPE_VERSION] = "type version tag",
    [CF_FIELD_TYPE_CACHE] = "type cache",
    [CF_FIELD_TYPE_OTHER] = "type contents",
    [CF_FIELD_CODE_CACHE] = "inline cache or counter",
    [CF_FIELD_CODE_OTHER] = "code contents",
    [CF_FIELD_FUNCTION_VERSION] = "function version",
    [CF_FIELD_FUNCTION_OTHER] = "function contents",
    [CF_FIELD_FRAME] = "frame",
    [CF_FIELD_BUFFER] = "buffer",
    [CF_FIELD_CONTENTS] = "contents",
};

const char *
cf_field_name(cf_field field)
{
    return names[field];
}

static cf_field
str_field(ptrdiff_t offset)
{
    if (offset == WORD_OF(offsetof(PyASCIIObject, hash))) {
        return CF_FIELD_HASH;
    }
    if (offset == WORD_OF(offsetof(PyASCIIObject, state))) {
        return CF_FIELD_STR_STATE;
    }
    if (offset >= (ptrdiff_t)sizeof(PyASCIIObject)
        && offset < (ptrdiff_t)sizeof(PyCompactUnicodeObject)) {
        return CF_FIELD_STR_UTF8; /* of an ASCII str these are characters: never written */
    }
    return CF_FIELD_CONTENTS;
}

static cf_field
type_field(const cf_owner *owner)
{
    ptrdiff_t offset = owner->offset;
    if (offset == WORD_OF(offsetof(PyTypeObject, tp_version_tag))
        || offset == WORD_OF(offsetof(PyTypeObject, tp_flags))) {
        return CF_FIELD_TYPE_VERSION;
    }
    if (offset > WORD_OF(offsetof(PyTypeObject, tp_vectorcall))
        && offset < (ptrdiff_t)sizeof(PyTypeObject)) {
        return CF_FIELD_TYPE_VERSION; /* how many versions it had (3.13) */
    }
    if (PyType_HasFeature((PyTypeObject *)owner->op, Py_TPFLAGS_HEAPTYPE)
        && offset > WORD_OF(offsetof(PyHeapTypeObject, ht_module))
        && offset < (ptrdiff_t)sizeof(PyHeapTypeObject)) {
        return CF_FIELD_TYPE_CACHE;
    }
    return CF_FIELD_TYPE_OTHER;
}

static bool
is_date_or_time(PyTypeObject *type)
{
    return type != NULL
           && (type == cf_layout.datetime || type == cf_layout.date || type == cf_layout.time
               || type == cf_layout.timedelta);
}

/* A word of an instance that no rule for its exact type knows: does a base
 * written in C own it, or is it a slot of a Python class? */
static cf_field
instance_field(const cf_owner *owner)
{
    PyTypeObject *type = owner->info->type;
    ptrdiff_t offset = owner->offset;
    if (offset >= type->tp_basicsize && owner->info->sizing == CF_SIZE_FIXED) {
        return CF_FIELD_VALUES;
    }
    if (offset == type->tp_dictoffset || offset == type->tp_weaklistoffset) {
        return CF_FIELD_DICT_POINTER;
    }
    while (type->tp_base != NULL && offset < type->tp_base->tp_basicsize) {
        type = type->tp_base;
    }
    bool has_slots = PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
                     && ((PyHeapTypeObject *)type)->ht_slots != NULL;
    return has_slots ? CF_FIELD_VALUES : CF_FIELD_CONTENTS;
}

static cf_field
body_field(const cf_owner *owner)
{
    PyTypeObject *type = owner->info->type;
    ptrdiff_t offset = owner->offset;
    if (type == &PyUnicode_Type) {
        return str_field(offset);
    }
    if ((type == &PyBytes_Type && offset == WORD_OF(2 * WORD + WORD))
        || (type == &PyFrozenSet_Type && offset == WORD_OF(offsetof(PySetObject, hash)))
        || (type == &PyTuple_Type && CF_TUPLE_HASH_OFFSET != 0
            && offset == CF_TUPLE_HASH_OFFSET)
        || (is_date_or_time(type) && offset == WORD_OF(sizeof(PyObject)))) {
        return CF_FIELD_HASH;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)) {
        return type_field(owner);
    }
    if (type == &PyCode_Type) {
        return CF_CODE_BYTECODE != 0 && offset >= CF_CODE_BYTECODE ? CF_FIELD_CODE_CACHE
                                                                   : CF_FIELD_CODE_OTHER;
    }
    if (type == &PyFunction_Type) {
        /* func_version is the last field but padding (3.11). */
        return CF_CODE_BYTECODE != 0 && offset == type->tp_basicsize - WORD
                   ? CF_FIELD_FUNCTION_VERSION
                   : CF_FIELD_FUNCTION_OTHER;
    }
    if (owner->info->decision == CF_SKIP_FRAME || owner->info->decision == CF_SKIP_GENERATOR) {
        return CF_FIELD_FRAME;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_LIST_SUBCLASS)
        && offset < (ptrdiff_t)sizeof(PyListObject)) {
        return CF_FIELD_LIST;
    }
    if (owner->info->sizing == CF_SIZE_DICT && offset < (ptrdiff_t)sizeof(PyDictObject)) {
        return CF_FIELD_DICT;
    }
    if (owner->info->sizing == CF_SIZE_SET && offset < (ptrdiff_t)sizeof(PySetObject)) {
        return CF_FIELD_SET;
    }
    return instance_field(owner);
}

cf_field
cf_field_of(const cf_owner *owner)
{
    switch (owner->part) {
    case CF_PART_BODY:
        break;
    case CF_PART_ITEMS:
        return CF_FIELD_LIST;
    case CF_PART_KEYS:
        return CF_HAS_SHARED_KEYS && owner->offset < WORD + WORD ? CF_FIELD_KEYS_HEADER
                                                                 : CF_FIELD_DICT;
    case CF_PART_SET:
        return CF_FIELD_SET;
    case CF_PART_VALUES:
        return CF_FIELD_VALUES;
    case CF_PART_SHARED_KEYS:
        return CF_FIELD_SHARED_KEYS;
    case CF_PART_BUFFER:
        return CF_FIELD_BUFFER;
    }
    if (owner->offset == 0) {
        return CF_FIELD_COUNT;
    }
    if (owner->offset == WORD) {
        return CF_FIELD_TYPE;
    }
    if (owner->offset < 0) {
        return owner->offset >= -2 * WORD ? CF_FIELD_GC : CF_FIELD_DICT_POINTER;
    }
    return body_field(owner);
}
