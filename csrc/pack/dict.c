/* dict.c - dicts of packed data: a header, and a table of its own making.
 *
 *   header   [ gc 16 x 0 ][ count, type | used | version | keys* | values: NULL ]
 *   table    [ dk_refcnt 1 | sizes, kind | usable | entries ][ indices ][ hash, key, value ] ...
 *                                                                       or [ key, value ] ...
 *
 * The table is built here and not copied: dense, in the order of iteration, as
 * small as its entries allow, whatever the source looks like (split, deleted
 * entries, grown too large). The probing is that of dictobject.c.
 *
 *   D1  dk_refcnt is 1: dict.copy() copies it into the table of the copy.
 *   D2  dk_usable + dk_nentries is what the table has room for: the same.
 *   D3  Where headers are shared by processes (3.10, 3.11), a C function that
 *       stores into a packed dict must die before it writes the header. Hence
 *       dk_usable > 0: a full table would be replaced first. And no table for
 *       str keys only on 3.11, where another key would replace it.
 *   D4  3.10, 3.11: the version tag is this dict's alone.
 *   D5  Where headers are private, an empty dict has the interpreter's table for empty dicts, which
 *       is never written: C code that stores into it gets a new one, for this dict alone.
 */
#include "pack/dict.h"

#include "cpython/layout.h"
#include "objects/packed_types.h"

#include <string.h>

/* Looked up once, under the GIL. */
#if CF_HAS_SHARED_KEYS
typedef cf_dict_keys table;
static table *empty_table;
#else
typedef cf_dict_keys_310 table;
static void *lookup_str, *lookup_any;
#endif

int
cf_pack_dict_init(void)
{
#if CF_HAS_SHARED_KEYS
    PyObject *a = PyDict_New(), *b = a != NULL ? PyDict_New() : NULL;
    if (b != NULL && ((PyDictObject *)a)->ma_keys == ((PyDictObject *)b)->ma_keys) {
        empty_table = (table *)((PyDictObject *)a)->ma_keys;
    }
    int ret = b != NULL ? 0 : -1;
    Py_XDECREF(a);
    Py_XDECREF(b);
    return ret;
#else
    int ret = -1;
    PyObject *strings = Py_BuildValue("{s:i}", "probe", 1);
    PyObject *numbers = Py_BuildValue("{i:i}", 1, 1);
    if (strings == NULL || numbers == NULL) {
        goto done;
    }
    const table *a = (const table *)((PyDictObject *)strings)->ma_keys;
    const table *b = (const table *)((PyDictObject *)numbers)->ma_keys;
    if (a->dk_size == 8 && b->dk_size == 8 && a->dk_nentries == 1 && a->dk_usable == 4
        && a->dk_refcnt == 1) {
        lookup_str = a->dk_lookup;
        lookup_any = b->dk_lookup;
    }
    ret = 0;
done:
    Py_XDECREF(strings);
    Py_XDECREF(numbers);
    return ret;
#endif
}

/* Are tables of this interpreter as they are written here? */
static bool
tables_known(void)
{
#if CF_HAS_SHARED_KEYS
    return cf_layout.dict_tables && empty_table != NULL;
#else
    return lookup_str != NULL && lookup_any != NULL;
#endif
}

/* -- geometry ------------------------------------------------------------ */

typedef struct {
    unsigned log2;        /* of the number of indices */
    unsigned log2_index;  /* of the bytes of one */
    Py_ssize_t room;      /* entries */
    bool strings;         /* entries without hash */
    size_t size;          /* bytes of all */
} geometry;

static void
plan_table(geometry *g, Py_ssize_t n, bool strings)
{
    g->strings = strings;
    g->log2 = 3;
    while ((((Py_ssize_t)1 << g->log2) << 1) / 3 < n + CF_HEADERS_ARE_SHARED) {
        g->log2++;
    }
    g->log2_index = g->log2 < 8 ? 0 : g->log2 < 16 ? 1 : g->log2 < 32 ? 2 : 3;
    g->room = (((Py_ssize_t)1 << g->log2) << 1) / 3;
    bool wide = !strings || !CF_HAS_SHARED_KEYS;
    g->size = sizeof(table) + ((size_t)1 << (g->log2 + g->log2_index))
              + (size_t)g->room * (wide ? 3 : 2) * sizeof(PyObject *);
}

/* The table of a packed dict, taken apart. */
typedef struct {
    table *keys;
    unsigned log2;
    unsigned log2_index;
    PyObject **entries;
    size_t width;
} view;

static void
look(view *v, PyObject *dict)
{
    v->keys = (table *)((PyDictObject *)dict)->ma_keys;
#if CF_HAS_SHARED_KEYS
    v->log2 = v->keys->dk_log2_size;
    v->log2_index = v->keys->dk_log2_index_bytes - v->log2;
    v->width = v->keys->dk_kind == 0 ? 3 : 2;
#else
    v->log2 = (unsigned)__builtin_ctzll((unsigned long long)v->keys->dk_size);
    v->log2_index = v->log2 < 8 ? 0 : v->log2 < 16 ? 1 : v->log2 < 32 ? 2 : 3;
    v->width = 3;
#endif
    v->entries = (PyObject **)(v->keys->dk_indices + ((size_t)1 << (v->log2 + v->log2_index)));
}

static void
start_table(table *keys, const geometry *g)
{
    keys->dk_refcnt = 1;
    keys->dk_usable = g->room;
    keys->dk_nentries = 0;
#if CF_HAS_SHARED_KEYS
    keys->dk_log2_size = (uint8_t)g->log2;
    keys->dk_log2_index_bytes = (uint8_t)(g->log2 + g->log2_index);
    keys->dk_kind = g->strings ? 1 : 0;
    keys->dk_version = 0;
#else
    keys->dk_size = (Py_ssize_t)1 << g->log2;
    keys->dk_lookup = g->strings ? lookup_str : lookup_any;
#endif
    memset(keys->dk_indices, 0xFF, (size_t)1 << (g->log2 + g->log2_index));
}

static bool
only_str_keys(PyObject *src)
{
    if (CF_HEADERS_ARE_SHARED && CF_STR_TABLES_ARE_CONVERTED) {
        return false; /* D3 */
    }
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(src, &position, &key, &value)) {
        if (!PyUnicode_CheckExact(key)) {
            return false;
        }
    }
    return true;
}

/* -- making -------------------------------------------------------------- */

/* Bytes of SRC's table; where that is not known, those of ours. */
static size_t
source_size(PyObject *src, size_t ours)
{
    cf_dict_table theirs;
    return PyDict_CheckExact(src) && cf_layout_dict_table(&theirs, src) ? theirs.size : ours;
}

static table *
new_table(cf_packer *p, PyObject *dict, PyObject *src)
{
    Py_ssize_t n = PyDict_GET_SIZE(src);
#if !CF_HEADERS_ARE_SHARED
    if (n == 0) {
        return empty_table; /* D5 */
    }
#endif
    geometry g;
    plan_table(&g, n, only_str_keys(src));
    table *keys = cf_pack_table(p, dict, n, g.size);
    if (keys != NULL) {
        start_table(keys, &g);
        p->outcome->source_bytes += source_size(src, g.size);
    }
    return keys;
}

PyObject *
cf_pack_dict(cf_packer *p, PyObject *src)
{
    if (!tables_known()) {
        PyErr_SetString(PyExc_NotImplementedError,
                        "cowfreeze.pack(): the dict tables of this CPython are not known");
        return NULL;
    }
    PyObject *dict = cf_pack_object(p, &cf_packed_dict_type, sizeof(PyDictObject), true);
    table *keys = dict != NULL ? new_table(p, dict, src) : NULL;
    if (keys == NULL) {
        return NULL;
    }
    ((PyDictObject *)dict)->ma_keys = (PyDictKeysObject *)keys;
#if CF_DICT_HAS_VERSION
    PyObject *fresh = PyDict_New(); /* D4 */
    if (fresh == NULL) {
        return NULL;
    }
    ((PyDictObject *)dict)->ma_version_tag = ((PyDictObject *)fresh)->ma_version_tag;
    Py_DECREF(fresh);
#endif
    return dict;
}

bool
cf_pack_dict_next(PyObject *dict, Py_ssize_t *position, PyObject **key, PyObject **value,
                  Py_hash_t *hash)
{
#if CF_HAS_DICT_NEXT_HASH
    return _PyDict_Next(dict, position, key, value, hash);
#else
    if (!PyDict_Next(dict, position, key, value)) {
        return false;
    }
    if (PyUnicode_CheckExact(*key)) {
        *hash = ((PyASCIIObject *)*key)->hash;
        return true;
    }
    /* Only a table with hashes holds such a key; it was found as expected at import. */
    view v;
    look(&v, dict);
    *hash = ((const Py_hash_t *)v.entries)[(size_t)(*position - 1) * 3];
    return true;
#endif
}

static bool
slot_is_free(const view *v, size_t i)
{
    const void *at = v->keys->dk_indices + (i << v->log2_index);
    switch (v->log2_index) {
    case 0:
        return *(const int8_t *)at == -1;
    case 1:
        return *(const int16_t *)at == -1;
    case 2:
        return *(const int32_t *)at == -1;
    default:
        return *(const int64_t *)at == -1;
    }
}

static void
set_index(view *v, size_t i, Py_ssize_t entry)
{
    void *at = v->keys->dk_indices + (i << v->log2_index);
    switch (v->log2_index) {
    case 0:
        *(int8_t *)at = (int8_t)entry;
        break;
    case 1:
        *(int16_t *)at = (int16_t)entry;
        break;
    case 2:
        *(int32_t *)at = (int32_t)entry;
        break;
    default:
        *(int64_t *)at = (int64_t)entry;
    }
}

PyObject **
cf_pack_dict_add(PyObject *dict, PyObject *key, Py_hash_t hash, PyObject *value)
{
    view v;
    look(&v, dict);
    size_t mask = ((size_t)1 << v.log2) - 1;
    size_t perturb = (size_t)hash;
    size_t i = (size_t)hash & mask;
    while (!slot_is_free(&v, i)) {
        perturb >>= 5; /* PERTURB_SHIFT */
        i = (i * 5 + perturb + 1) & mask;
    }
    Py_ssize_t n = v.keys->dk_nentries;
    set_index(&v, i, n);
    PyObject **entry = v.entries + (size_t)n * v.width;
    if (v.width == 3) {
        *(Py_hash_t *)entry++ = hash;
    }
    entry[0] = key;
    entry[1] = value;
    v.keys->dk_nentries = n + 1;
    v.keys->dk_usable--;
    ((PyDictObject *)dict)->ma_used = n + 1;
    return entry + 1;
}
