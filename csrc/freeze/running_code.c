/* running_code.c - references and code that were alive when the heap was frozen.
 *
 * Two things made before the freeze still count objects that are immortal now.
 *
 * 1. References on interpreter stacks (3.14 and later). A stack reference that
 *    was made while its object was mortal says "counted" in its low bits:
 *
 *       frame   [ executable | previous | function | ... | localsplus[0] [1] [2] ... )
 *                   ...                                            ... likewise
 *                                                               |
 *                 xxxx xxxx xxxx xx00  counted: using it writes the object
 *                 xxxx xxxx xxxx xx01  not counted  <- written here, if the object is frozen
 *
 *    Legal: "References to immortal objects always have their tag bit set"
 *    (pycore_stackref.h). The count that the reference held is given up, which
 *    is why freeze stores a count well above the limit. One that were forgotten would go
 *    on counting for ever: each `x = local` adds one, without a check, and after 2^30 of
 *    them a live object is freed. live_frames.c knows who may hold one.
 *
 * 2. LOAD_CONST_MORTAL (3.14 only). The first execution of LOAD_CONST rewrites
 *    itself by what its constant is then. MORTAL counts up without a check: it
 *    writes the constant's page, and after 2^30 executions would overflow the
 *    count and free the constant in use. Every one whose constant is frozen
 *    becomes LOAD_CONST_IMMORTAL.
 *
 * Code objects are not tracked by the collector. They are reached from the
 * functions that are, from the walk, from live frames, and from
 * the functions that earlier freezes untracked without walking their code.
 */
#include "freeze/running_code.h"

#include "freeze/nested_code.h"
#include "cpython/live_frames.h"
#include "cpython/layout.h"

/* Functions that a freeze with roots has untracked; for ever, as they live. Under the GIL. */
#define MAX_FUNCTIONS ((size_t)1 << 16)
static cf_stack functions;

cf_opcodes cf_opcode;

int
cf_live_reserve(void)
{
    if (CF_HAS_LOAD_CONST_MORTAL && functions.words == NULL) {
        return cf_stack_reserve(&functions, MAX_FUNCTIONS);
    }
    return 0;
}

bool
cf_live_remember(PyObject *function)
{
    if (functions.used == functions.capacity) {
        return false;
    }
    cf_stack_push(&functions, (uintptr_t)function);
    return true;
}

/* -- references on stacks ------------------------------------------------ */

#if CF_HAS_STACKREFS
static bool
is_counted(uintptr_t reference)
{
    PyObject *op = (PyObject *)reference;
    /* With a tag it is NULL, not counted already, or a tagged int. */
    return op != NULL && (reference & CF_REF_TAG_BITS) == 0 && cf_header_untouched(op);
}

static size_t
look_at(uintptr_t *reference, bool tag)
{
    if (!is_counted(*reference)) {
        return 0;
    }
    *reference |= tag ? CF_REF_UNCOUNTED : 0;
    return 1;
}

/* How many references of FRAME to frozen objects are counted. TAG: no longer. */
static size_t
counted_in(cf_frame *frame, bool tag)
{
    if (frame->stackpointer == NULL || frame->owner >= CF_FRAME_OF_INTERPRETER) {
        return 0;
    }
    size_t n = look_at(&frame->f_executable, tag) + look_at(&frame->f_funcobj, tag);
    for (uintptr_t *slot = frame->localsplus; slot < frame->stackpointer; slot++) {
        n += look_at(slot, tag);
    }
    return n;
}

static void
tag_frame(cf_frame *frame, void *arg)
{
    *(size_t *)arg += counted_in(frame, true);
}

static void
count_frame(cf_frame *frame, void *arg)
{
    *(size_t *)arg += counted_in(frame, false);
}
#endif

size_t
cf_live_tag_references(void)
{
    size_t tagged = 0;
#if CF_HAS_STACKREFS
    if (cf_layout.frames) {
        cf_live_frames_visit(tag_frame, &tagged);
    }
#endif
    return tagged;
}

size_t
cf_live_counted_references(void)
{
    size_t counted = 0;
#if CF_HAS_STACKREFS
    if (cf_layout.frames) {
        cf_live_frames_visit(count_frame, &counted);
    }
#endif
    return counted;
}

/* -- constants ----------------------------------------------------------- */

#if CF_HAS_LOAD_CONST_MORTAL

typedef struct {
    size_t patched;
    size_t unreadable;
} patching;

static void
patch_instructions(PyCodeObject *code, void *arg)
{
    patching *state = arg;
    uint8_t *units = (uint8_t *)code->co_code_adaptive; /* pairs: opcode, oparg */
    Py_ssize_t n = Py_SIZE(code);
    Py_ssize_t n_consts = PyTuple_GET_SIZE(code->co_consts);
    size_t oparg = 0;
    for (Py_ssize_t i = 0; i < n;) {
        uint8_t *unit = units + 2 * i;
        uint8_t op = unit[0];
        if (cf_opcode.opaque[op]) {
            state->unreadable++;
            return; /* how long the instruction is cannot be told from here */
        }
        oparg = oparg << 8 | unit[1];
        if (op == cf_opcode.load_const_mortal && (Py_ssize_t)oparg < n_consts
            && cf_header_untouched(PyTuple_GET_ITEM(code->co_consts, oparg))) {
            unit[0] = cf_opcode.load_const_immortal;
            state->patched++;
        }
        uint8_t base = cf_opcode.base[op];
        if (base != cf_opcode.extended_arg) {
            oparg = 0;
        }
        i += 1 + cf_opcode.caches[base];
    }
}

static void
patch_frame(cf_frame *frame, void *arg)
{
    PyObject *code = (PyObject *)(frame->f_executable & ~(uintptr_t)CF_REF_TAG_BITS);
    if (code != NULL && PyCode_Check(code)) {
        cf_codes_visit((PyCodeObject *)code, patch_instructions, arg);
    }
}

static int
patch_function(PyObject *op, void *arg)
{
    if (PyFunction_Check(op)) {
        cf_codes_visit((PyCodeObject *)PyFunction_GET_CODE(op), patch_instructions, arg);
    }
    return 1;
}
#endif

size_t
cf_live_patch_constants(const cf_stack *codes, size_t *unreadable)
{
    *unreadable = 0;
#if CF_HAS_LOAD_CONST_MORTAL
    patching state = {0, 0};
    if (!cf_opcode.known) {
        return 0;
    }
    for (size_t i = 0; i < codes->used; i++) {
        patch_instructions((PyCodeObject *)codes->words[i], &state);
    }
    for (size_t i = 0; i < functions.used; i++) {
        (void)patch_function((PyObject *)functions.words[i], &state);
    }
    cf_gc_visit_objects(patch_function, &state);
    if (cf_layout.frames) {
        cf_live_frames_visit(patch_frame, &state);
    }
    *unreadable = state.unreadable;
    return state.patched;
#else
    (void)codes;
    return 0;
#endif
}
