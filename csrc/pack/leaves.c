/* leaves.c - what has no parts that are met one after the other.
 *
 *   range      [ header | start* | stop* | step* | length* ]
 *   date       [ header | hash | 0 | 4 bytes ]
 *   datetime   [ header | hash | aware | 10 bytes | fold ][ time zone* if aware ]
 *   timezone   [ header | offset* | name* or NULL ]          timezone.utc: by reference
 *   Decimal    [ header | hash | sign, exponent, digits, length, room | words* | 4 words ]
 *                                                                       `- ^ or, if more, behind it
 *
 * An image of the copy is put together on the C stack, its references replaced
 * by packed ones; then it is stored, unless an equal one was stored before.
 *
 * The hash of an aware datetime asks its time zone. That is C code if the zone
 * is a datetime.timezone or zoneinfo.ZoneInfo of C; any other may be Python code
 * (P2), and then a reader fills the hash in. On 3.10 and 3.11 all processes see
 * it, which is right: it is the same in all.
 *
 * No layout is believed: datetime.h declares its types; the others are compared
 * with a probe or with what their fields must be, and refused if they differ.
 */
#include "pack/leaves.h"

#include "pack/arrays.h"
#include "pack/kinds.h"
#include "pack/outside.h"
#include "pack/values.h"

#include <datetime.h>
#include <string.h>
#include <structmember.h>

int
cf_pack_leaves_init(void)
{
    PyDateTime_IMPORT;
    return PyDateTimeAPI == NULL ? -1 : 0;
}

/* A value that is part of a leaf, itself a leaf; NULL: an exception, or work.refused. A date has
 * a time zone, which has a difference, and that has no part: so deep does this go. */
static PyObject *pack_part(cf_packer *p, PyObject *op);

/* -- range --------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *parts[4];
} range_image;

static bool
range_is_known(void)
{
    size_t found = 0;
    for (PyMemberDef *m = PyRange_Type.tp_members; m != NULL && m->name != NULL; m++) {
        found += m->offset == (Py_ssize_t)(sizeof(PyObject) + found * sizeof(PyObject *));
    }
    return found == 3 && PyRange_Type.tp_basicsize == sizeof(range_image);
}

static PyObject *
pack_range(cf_packer *p, PyObject *op)
{
    range_image image = *(range_image *)op;
    if (!range_is_known()) {
        p->work.refused = op;
        return NULL;
    }
    for (int i = 0; i < 4; i++) {
        image.parts[i] = pack_part(p, image.parts[i]);
        if (image.parts[i] == NULL) {
            return NULL;
        }
    }
    return cf_pack_find_or_store(p, (PyObject *)&image, CF_COPY_RANGE);
}

/* -- datetime ------------------------------------------------------------ */

static PyObject *
pack_timezone(cf_packer *p, PyObject *op)
{
    cf_timezone_image image = *(cf_timezone_image *)op;
    image.offset = pack_part(p, image.offset);
    if (image.offset != NULL && image.name != NULL) {
        image.name = pack_part(p, image.name);
        if (image.name == NULL) {
            return NULL;
        }
    }
    return image.offset != NULL
               ? cf_pack_find_or_store(p, (PyObject *)&image, CF_COPY_TIMEZONE) : NULL;
}

static PyObject *
pack_datetime(cf_packer *p, PyObject *op)
{
    PyDateTime_DateTime image; /* the largest of the four */
    memset(&image, 0, sizeof(image));
    memcpy(&image, op, cf_pack_datetime_size(op));
    image.hashcode = -1;
    PyObject **zone = cf_pack_zone_of((PyObject *)&image);
    if (zone != NULL) {
        *zone = pack_part(p, *zone);
        if (*zone == NULL) {
            return NULL;
        }
    }
    PyObject *copy = cf_pack_find_or_store(p, (PyObject *)&image, CF_COPY_DATETIME);
    if (copy == NULL || ((PyDateTime_Date *)copy)->hashcode != -1) {
        return copy;
    }
    if (zone == NULL || Py_TYPE(*zone) == Py_TYPE(PyDateTime_TimeZone_UTC)
        || strcmp(Py_TYPE(*zone)->tp_name, "zoneinfo.ZoneInfo") == 0) {
        (void)PyObject_Hash(copy);
        PyErr_Clear();
    }
    return copy;
}

/* -- Decimal ------------------------------------------------------------- */

#define DIGITS_PER_WORD 19
#define SIGN_AND_KIND 0x0F /* sign, infinity, NaN, signalling NaN */
#define NOT_TO_FREE 0x30   /* MPD_STATIC | MPD_STATIC_DATA */

static bool
decimal_is_known(PyObject *op)
{
    const cf_decimal_image *d = (const cf_decimal_image *)op;
    return Py_TYPE(op)->tp_basicsize == sizeof(cf_decimal_image) && d->digits >= 0
           && d->length == (d->digits + DIGITS_PER_WORD - 1) / DIGITS_PER_WORD
           && d->room >= d->length && (d->words != d->own ? d->words != NULL : d->room == 4);
}

static bool
same_decimal(PyObject *stored, const cf_decimal_image *mine)
{
    const cf_decimal_image *d = (const cf_decimal_image *)stored;
    return Py_TYPE(stored) == Py_TYPE((PyObject *)mine) && d->flags == mine->flags
           && d->exponent == mine->exponent && d->digits == mine->digits
           && memcmp(d->words, mine->words, (size_t)d->length * sizeof(uint64_t)) == 0;
}

static PyObject *
pack_decimal(cf_packer *p, PyObject *op)
{
    if (!decimal_is_known(op)) {
        p->work.refused = op;
        return NULL;
    }
    PyTypeObject *type = Py_TYPE(op);
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) && cf_pack_refer(p, (PyObject *)type) == NULL) {
        return NULL;
    }
    cf_decimal_image image = *(cf_decimal_image *)op;
    size_t words = (size_t)image.length * sizeof(uint64_t);
    image.flags = (image.flags & SIGN_AND_KIND) | NOT_TO_FREE;
    uint64_t hash = (uint64_t)image.exponent * UINT64_C(0x9E3779B97F4A7C15) + image.flags;
    for (Py_ssize_t i = 0; i < image.length; i++) {
        hash = (hash ^ image.words[i]) * UINT64_C(0x9E3779B97F4A7C15);
    }
    hash ^= hash >> 32;
    cf_pack_value *place = &p->values[hash % CF_PACK_VALUES];
    bool nan = cf_copy_is_nan(op, CF_COPY_DECIMAL);
    if (!nan && place->op != NULL && place->hash == hash && same_decimal(place->op, &image)) {
        p->outcome->references++;
        return place->op;
    }
    size_t behind = words > sizeof(image.own) ? words : 0;
    PyObject *copy = cf_pack_object(p, type, sizeof(cf_decimal_image) + behind, false);
    if (copy == NULL) {
        return NULL;
    }
    cf_decimal_image *made = (cf_decimal_image *)copy;
    made->hash = -1;
    made->flags = image.flags;
    made->exponent = image.exponent;
    made->digits = image.digits;
    made->length = image.length;
    made->words = behind > 0 ? (uint64_t *)(made + 1) : made->own;
    made->room = behind > 0 ? image.length : 4;
    memcpy(made->words, image.words, words);
    (void)PyObject_Hash(copy); /* a signalling NaN has none */
    PyErr_Clear();
    p->outcome->source_bytes += sizeof(cf_decimal_image) + behind;
    if (!nan) {
        *place = (cf_pack_value){copy, hash};
    }
    return copy;
}

/* -- all leaves ---------------------------------------------------------- */

/* An object that the interpreter has one of and never frees: packed memory need
 * not count it. Takes over a reference. */
static PyObject *
own(PyObject *op)
{
    Py_XDECREF(op);
    return op;
}

/* An interned str stays the same object, so that looking up a literal finds it
 * by identity. It is made immortal once nothing can fail any more (pack.c). */
static PyObject *
keep(cf_packer *p, PyObject *op)
{
    if (cf_memo_set(&p->work.memo, op, (uintptr_t)op) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return op;
}

PyObject *
cf_pack_leaf(cf_packer *p, PyObject *op, cf_copy_kind kind)
{
    switch (kind) {
    case CF_COPY_SINGLETON:
        return op;
    case CF_COPY_REFERENCE:
        return cf_pack_refer(p, op);
    case CF_COPY_ARRAY:
        return cf_pack_array(p, op);
    case CF_COPY_RANGE:
        return pack_range(p, op);
    case CF_COPY_DATETIME:
        return pack_datetime(p, op);
    case CF_COPY_TIMEZONE:
        return pack_timezone(p, op);
    case CF_COPY_DECIMAL:
        return pack_decimal(p, op);
    default:
        break;
    }
    if (kind == CF_COPY_INT) {
        int overflow;
        long value = PyLong_AsLongAndOverflow(op, &overflow);
        if (!overflow && value >= -5 && value <= 256) {
            return own(PyLong_FromLong(value));
        }
    }
    else if (kind == CF_COPY_STR) {
        if (PyObject_Hash(op) == -1) {
            return NULL;
        }
        if (PyUnicode_GET_LENGTH(op) == 0) {
            return own(PyUnicode_New(0, 0));
        }
        if (PyUnicode_CHECK_INTERNED(op)) {
            return keep(p, op);
        }
        if (!PyUnicode_IS_COMPACT(op)) {
            PyObject *compact = cf_copy_str(op);
            PyObject *copy = compact != NULL && PyObject_Hash(compact) != -1
                                 ? cf_pack_find_or_store(p, compact, kind)
                                 : NULL;
            Py_XDECREF(compact);
            return copy;
        }
    }
    else if (kind == CF_COPY_BYTES) {
        if (PyBytes_GET_SIZE(op) == 0) {
            return own(PyBytes_FromStringAndSize(NULL, 0));
        }
        if (PyObject_Hash(op) == -1) {
            return NULL;
        }
    }
    return cf_pack_find_or_store(p, op, kind);
}

static PyObject *
pack_part(cf_packer *p, PyObject *op)
{
    cf_copy_kind kind = cf_pack_kind_of(op);
    if (kind == CF_COPY_REFUSED || kind > CF_COPY_LEAF) {
        p->work.refused = op;
        return NULL;
    }
    return cf_pack_leaf(p, op, kind);
}
