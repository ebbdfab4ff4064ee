/* sets.c - sets of packed data, and ordinary ones that are made from them.
 *
 *   set      [ gc 16 x 0 ][ count, type | fill, used, mask | table* | hash | 8 entries ]
 *   entry    [ key | hash ]           table*: the 8 entries, or a table in the other arena
 *
 * The table is built here, as small as setobject.c allows, with the hashes that
 * the source stores: no element is hashed or compared, so no Python code runs.
 * The probing is that of set_insert_clean() in setobject.c.
 *
 * An ordinary set (readonly=False; on 3.10 and 3.11 also such a frozenset, which
 * has a place for weak references: P5) is filled from a packed one at the end,
 * the way set_copy does it: entries, counted, and the three numbers.
 */
#include "pack/sets.h"

#include "objects/packed_types.h"
#include "pack/kinds.h"

#include <string.h>

#define LINEAR_PROBES 9 /* setobject.c */
#define PERTURB_SHIFT 5

PyObject *
cf_pack_set(cf_packer *p, PyObject *src)
{
    PyTypeObject *type = !cf_pack_is_frozenset(src) ? &cf_packed_set_type
                         : CF_HAS_IMMORTAL  ? &PyFrozenSet_Type
                                            : &cf_packed_frozenset_type;
    const PySetObject *from = (const PySetObject *)src;
    PyObject *op = cf_pack_object(p, type, sizeof(PySetObject), true);
    if (op == NULL) {
        return NULL;
    }
    PySetObject *set = (PySetObject *)op;
    size_t slots = PySet_MINSIZE;
    while ((size_t)from->used * 5 >= (slots - 1) * 3) {
        slots *= 2;
    }
    set->mask = (Py_ssize_t)slots - 1;
    set->hash = -1;
    set->table = slots == PySet_MINSIZE
                     ? set->smalltable
                     : cf_pack_table(p, op, from->used, slots * sizeof(setentry));
    p->outcome->source_bytes += 16 + sizeof(PySetObject);
    if (from->table != from->smalltable) {
        p->outcome->source_bytes += (size_t)(from->mask + 1) * sizeof(setentry);
    }
    return set->table != NULL ? op : NULL;
}

void
cf_pack_set_add(PyObject *op, PyObject *key, Py_hash_t hash)
{
    PySetObject *set = (PySetObject *)op;
    size_t mask = (size_t)set->mask, perturb = (size_t)hash, i = (size_t)hash & mask;
    for (;;) {
        setentry *entry = &set->table[i];
        size_t last = i + LINEAR_PROBES <= mask ? LINEAR_PROBES : 0;
        for (size_t probe = 0; probe <= last; probe++, entry++) {
            if (entry->key == NULL) {
                entry->key = key;
                entry->hash = hash;
                set->fill++;
                set->used++;
                return;
            }
        }
        perturb >>= PERTURB_SHIFT;
        i = (i * 5 + 1 + perturb) & mask;
    }
}

/* TO, an ordinary set and still empty, gets the entries of FROM. */
static int
fill_ordinary(PySetObject *to, const PySetObject *from)
{
    size_t slots = (size_t)from->mask + 1;
    if (slots > PySet_MINSIZE) {
        setentry *table = PyMem_Malloc(slots * sizeof(setentry)); /* as set_table_resize */
        if (table == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        to->table = table;
    }
    memcpy(to->table, from->table, slots * sizeof(setentry));
    for (size_t i = 0; i < slots; i++) {
        Py_XINCREF(to->table[i].key);
    }
    to->mask = from->mask;
    to->fill = from->fill;
    to->used = from->used;
    return 0;
}

int
cf_pack_set_finish(cf_copy_frame *f)
{
    if (f->dst != f->set
        && fill_ordinary((PySetObject *)f->dst, (const PySetObject *)f->set) < 0) {
        return -1;
    }
    /* From the stored hashes of the elements. */
    return cf_pack_is_frozenset(f->dst) && PyObject_Hash(f->dst) == -1 ? -1 : 0;
}
