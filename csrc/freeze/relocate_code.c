/* relocate_code.c - move code objects that write themselves onto pages of their own.
 *
 * Inline caches are part of a code object. 3.13 and later store a branch history at each
 * conditional jump that runs; from 3.12 on every site that cannot be specialised counts down.
 * No version has a switch for it. What can be chosen is where this happens: 700 hot code
 * objects of a Django application lie on 570 pages, and fit on 90.
 *
 *   before   page [ data | hot | data ] [ cold | data | hot ] [ hot | cold ] ...
 *   after    page [ data | old | data ] [ cold | data | old ] [ old | cold ] ...   stay shared
 *            region [ hot | hot | hot | hot ] ...                                  copied
 *
 * A code object is one block without a pointer into itself, and it is immortal by now. So its
 * copy is a memcpy; who had it for its life (functions, constants of outer code) is given
 * the copy. The old one stays: frames that run, suspended generators and whoever else keeps it
 * go on with it. Both are equal and have the same hash and version, so that caches which
 * test versions stay right.
 *
 * Hot is what has run between cf_relocate_mark() and the freeze:
 *   3.13+   mark turns RESUME_CHECK back into RESUME, which the next execution undoes
 *   3.12    mark remembers a hash of the bytecode; it differs if a cache was written
 * Without a mark it is, on 3.13 and later, everything that has ever run.
 *
 * Invariants:
 *   R1  only immortal code objects are copied: a copy shares every reference of its original
 *       without owning one.
 *   R2  what is instrumented, or known by its address to somebody (monitoring data, co_extra,
 *       weak references, executors), is not copied: there must be one of it.
 *   R3  what lies in a region is not moved again, so that later freezes write nothing that
 *       workers share.
 */
#include "freeze/relocate_code.h"

#include "freeze/nested_code.h"
#include "base/mem.h"
#include "base/pageset.h"

#include <string.h>
#include <sys/mman.h>

#if CF_HAS_RELOCATION

#if CF_HAS_RESUME_CHECK
#  define cf_code_executors(co) ((co)->co_executors)
#else
#  define cf_code_executors(co) NULL
#endif
/* Instrumented, or known by its address: then there must be only one of it. */
#  define cf_code_is_watched(co)                                               \
      ((co)->_co_monitoring != NULL || (co)->co_extra != NULL                  \
       || (co)->co_weakreflist != NULL || cf_code_executors(co) != NULL)

/* Bounds of one relocation, and of all. */
#define REGION_BYTES ((size_t)64 << 20)
#define MAX_FORWARD ((size_t)1 << 17)
#define MAX_MARKS ((size_t)1 << 18)
#define MAX_REGIONS 64
#define ALIGNMENT 16

/* All under the GIL, of the main interpreter, which alone freezes. */
static int opcode_resume = -1;
static int opcode_resume_check = -1;
static uintptr_t *marks; /* 3.12: pairs of code object and hash */
static bool marked;
static struct {
    uintptr_t start, end;
} regions[MAX_REGIONS];
static size_t n_regions;

void
cf_relocate_set_opcodes(int resume, int resume_check)
{
    opcode_resume = resume;
    opcode_resume_check = resume_check;
}

/* The pair of KEY in a table of ROOM pairs, or the free one where it belongs;
 * NULL: the table is full. */
static uintptr_t *
find_pair(uintptr_t *table, size_t room, uintptr_t key)
{
    size_t i = (size_t)((key >> 4) * 0x9E3779B97F4A7C15u >> 32) % room;
    for (size_t n = 0; n < room; n++, i = (i + 1) % room) {
        if (table[2 * i] == key || table[2 * i] == 0) {
            return &table[2 * i];
        }
    }
    return NULL;
}

/* -- what is hot --------------------------------------------------------- */

/* Of the bytecode with its inline caches. */
static uintptr_t
hash_of(const PyCodeObject *code)
{
    const uint8_t *units = (const uint8_t *)code->co_code_adaptive;
    uint64_t hash = 0xCBF29CE484222325u;
    size_t size = 2 * (size_t)Py_SIZE(code);
    uint16_t unit;
    for (size_t i = 0; i < size; i += sizeof(unit)) {
        memcpy(&unit, units + i, sizeof(unit));
        hash = (hash ^ unit) * 0x100000001B3u;
    }
    return (uintptr_t)hash;
}

static uint8_t *
resume_of(PyCodeObject *code)
{
    if (code->_co_firsttraceable < 0 || code->_co_firsttraceable >= Py_SIZE(code)) {
        return NULL;
    }
    return (uint8_t *)code->co_code_adaptive + 2 * code->_co_firsttraceable;
}

static void
mark_code(PyCodeObject *code, void *arg)
{
    size_t *n = arg;
    if (CF_HAS_RESUME_CHECK) {
        uint8_t *resume = resume_of(code);
        if (resume != NULL && *resume == opcode_resume_check && !cf_code_is_watched(code)) {
            *resume = (uint8_t)opcode_resume;
        }
        ++*n;
        return;
    }
    uintptr_t *pair =
        *n < MAX_MARKS / 2 ? find_pair(marks, MAX_MARKS, (uintptr_t)code) : NULL;
    if (pair != NULL) {
        *n += pair[0] == 0;
        pair[0] = (uintptr_t)code;
        pair[1] = hash_of(code);
    }
}

static bool
is_hot(PyCodeObject *code)
{
    if (CF_HAS_RESUME_CHECK) {
        const uint8_t *resume = resume_of(code);
        return opcode_resume >= 0 && resume != NULL && *resume != opcode_resume;
    }
    if (!marked) {
        return false;
    }
    const uintptr_t *pair = find_pair(marks, MAX_MARKS, (uintptr_t)code);
    return pair != NULL && pair[0] != 0 && pair[1] != hash_of(code);
}

/* The code of FUNCTION and what is nested in it. */
static int
mark_function(PyObject *function, void *arg)
{
    if (PyFunction_Check(function)) {
        cf_codes_visit((PyCodeObject *)PyFunction_GET_CODE(function), mark_code, arg);
    }
    return 1;
}

void
cf_relocate_forget(void)
{
    cf_mem_unmap(marks, 2 * MAX_MARKS * sizeof(uintptr_t));
    marks = NULL;
    marked = false;
}

size_t
cf_relocate_mark(void)
{
    size_t n = 0;
    cf_relocate_forget();
    if (CF_HAS_RESUME_CHECK && opcode_resume < 0) {
        return 0;
    }
    if (!CF_HAS_RESUME_CHECK) {
        marks = cf_mem_reserve(2 * MAX_MARKS * sizeof(uintptr_t));
        if (marks == NULL) {
            return 0;
        }
    }
    marked = true;
    cf_gc_visit_objects(mark_function, &n);
    return n;
}

/* -- moving -------------------------------------------------------------- */

int
cf_relocate_reserve(cf_relocation *relocation)
{
    memset(relocation, 0, sizeof(*relocation));
    relocation->region = cf_mem_reserve(REGION_BYTES);
    relocation->forward = cf_mem_reserve(2 * MAX_FORWARD * sizeof(uintptr_t));
    if (relocation->region == NULL || relocation->forward == NULL) {
        cf_relocate_clear(relocation);
        return -1;
    }
    /* A huge page would be copied by the first branch that runs. */
    (void)madvise(relocation->region, REGION_BYTES, MADV_NOHUGEPAGE);
    return 0;
}

void
cf_relocate_clear(cf_relocation *relocation)
{
    if (relocation->region != NULL) {
        size_t page = cf_page_size();
        size_t kept = (relocation->used + page - 1) & ~(page - 1);
        cf_mem_unmap(relocation->region + kept, REGION_BYTES - kept);
    }
    cf_mem_unmap(relocation->forward, 2 * MAX_FORWARD * sizeof(uintptr_t));
    relocation->region = NULL;
    relocation->forward = NULL;
    cf_relocate_forget();
}

static bool
is_moved_already(const void *code)
{
    for (size_t i = 0; i < n_regions; i++) {
        if ((uintptr_t)code >= regions[i].start && (uintptr_t)code < regions[i].end) {
            return true;
        }
    }
    return false;
}

static void
move(cf_relocation *relocation, PyCodeObject *code)
{
    size_t size = offsetof(PyCodeObject, co_code_adaptive) + 2 * (size_t)Py_SIZE(code);
    size_t room = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (!PyCode_Check((PyObject *)code) || !cf_header_untouched((PyObject *)code) /* R1 */
        || is_moved_already(code) /* R3 */ || !is_hot(code)) {
        return;
    }
    if (cf_code_is_watched(code) /* R2 */ || room > REGION_BYTES - relocation->used
        || relocation->moved >= MAX_FORWARD / 2) {
        relocation->left++;
        return;
    }
    uintptr_t *pair = find_pair(relocation->forward, MAX_FORWARD, (uintptr_t)code);
    if (pair == NULL || pair[0] != 0) {
        return;
    }
    void *copy = relocation->region + relocation->used;
    memcpy(copy, code, size);
    pair[0] = (uintptr_t)code;
    pair[1] = (uintptr_t)copy;
    relocation->used += room;
    relocation->moved++;
}

/* The copy of CODE, or NULL. */
static PyObject *
copy_of(const cf_relocation *relocation, PyObject *code)
{
    const uintptr_t *pair = find_pair(relocation->forward, MAX_FORWARD, (uintptr_t)code);
    return pair != NULL && pair[0] != 0 ? (PyObject *)pair[1] : NULL;
}

/* References are replaced, not counted: both sides are immortal. */
static void
redirect_constants(const cf_relocation *relocation, PyObject *consts)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        PyObject *constant = PyTuple_GET_ITEM(consts, i);
        PyObject *copy = PyCode_Check(constant) ? copy_of(relocation, constant) : NULL;
        if (copy != NULL) {
            ((PyTupleObject *)consts)->ob_item[i] = copy;
        }
    }
}

void
cf_relocate(cf_relocation *relocation, const cf_stack *codes, const cf_stack *functions)
{
    if (n_regions < MAX_REGIONS) {
        for (size_t i = 0; i < codes->used; i++) {
            move(relocation, (PyCodeObject *)codes->words[i]);
        }
    }
    if (relocation->moved > 0) {
        uintptr_t start = (uintptr_t)relocation->region;
        regions[n_regions].start = start;
        regions[n_regions++].end = start + relocation->used;
        for (size_t i = 0; i < codes->used; i++) {
            redirect_constants(relocation, ((PyCodeObject *)codes->words[i])->co_consts);
        }
        for (size_t i = 0; i < functions->used; i++) {
            PyFunctionObject *function = (PyFunctionObject *)functions->words[i];
            PyObject *copy = copy_of(relocation, function->func_code);
            if (copy != NULL) {
                function->func_code = copy;
            }
        }
    }
}

#else

void
cf_relocate_set_opcodes(int resume, int resume_check)
{
    (void)resume;
    (void)resume_check;
}

size_t
cf_relocate_mark(void)
{
    return 0;
}

void
cf_relocate_forget(void)
{
}

int
cf_relocate_reserve(cf_relocation *relocation)
{
    memset(relocation, 0, sizeof(*relocation));
    return 0;
}

void
cf_relocate(cf_relocation *relocation, const cf_stack *codes, const cf_stack *functions)
{
    (void)relocation;
    (void)codes;
    (void)functions;
}

void
cf_relocate_clear(cf_relocation *relocation)
{
    (void)relocation;
}
#endif
