/* frames.h - the running Python frames, read without the interpreter's help.
 *
 * For a signal handler: no lock, no allocation, no reference count. What the
 * public API does with frames (PyThreadState_GetFrame) makes objects, and an
 * object made inside of malloc is the end of the process.
 *
 *   thread state -> frame of the function that runs -> frame of its caller -> ...
 *
 *   3.10       PyFrameObject: f_back, f_code, f_lasti (public)
 *   3.11       _PyInterpreterFrame: f_code behind four words, previous, prev_instr
 *   3.12       ... f_code, previous in front
 *   3.13       ... f_executable; instr_ptr is the instruction itself
 *   3.14-3.15  cf_frame below: f_executable is a tagged reference
 *
 * These functions only follow pointers. trap/stack.c compares them with the
 * public API on real frames at import, and checks each word's type in use.
 */
#ifndef CF_FRAMES_H
#define CF_FRAMES_H

#include "cpython/compat.h"

#include <stddef.h>

/* sizeof(_Py_CODEUNIT), which is private since 3.13. */
#define CF_CODE_UNIT ((ptrdiff_t)sizeof(uint16_t))

#if CF_HAS_STACKREFS
/* struct _PyInterpreterFrame (pycore_interpframe_structs.h), with references
 * as plain words. Only used after layout.c has checked it on a throw-away
 * generator. */
typedef struct cf_frame {
    uintptr_t f_executable;
    struct cf_frame *previous;
    uintptr_t f_funcobj;
    PyObject *f_globals;
    PyObject *f_builtins;
    PyObject *f_locals;
    void *frame_obj;
    void *instr_ptr;
    uintptr_t *stackpointer;
    uint16_t return_offset;
    char owner;
    uint8_t visited;
    uintptr_t localsplus[];
} cf_frame;

/* The two low bits of a stack reference: 01 with a pointer is "not counted",
 * 01 alone is NULL, 11 is a tagged int (pycore_stackref.h). */
#  define CF_REF_TAG_BITS 3u
#  define CF_REF_UNCOUNTED 1u

/* enum _frameowner. From CF_FRAME_OF_INTERPRETER on, a frame is a C local of
 * the eval loop and its slots are not all initialised. */
#  define CF_FRAME_OF_GENERATOR 1
#  define CF_FRAME_OF_FRAME_OBJECT 2 /* of a function that has returned */
#  define CF_FRAME_OF_INTERPRETER 3

static inline cf_frame *
cf_current_frame(PyThreadState *tstate)
{
    return (cf_frame *)tstate->current_frame;
}
#endif

#if CF_FRAME_LAYOUT == 310
typedef PyFrameObject cf_any_frame;
#elif CF_FRAME_LAYOUT == 311
typedef struct cf_any_frame {
    PyObject *f_func, *f_globals, *f_builtins, *f_locals;
    PyObject *f_code;
    PyFrameObject *frame_obj;
    struct cf_any_frame *previous;
    const uint16_t *prev_instr;
    int stacktop;
    bool is_entry;
    char owner;
} cf_any_frame;
#elif CF_FRAME_LAYOUT == 312 || CF_FRAME_LAYOUT == 313
typedef struct cf_any_frame {
    PyObject *f_code;
    struct cf_any_frame *previous;
    PyObject *f_funcobj, *f_globals, *f_builtins, *f_locals;
    PyFrameObject *frame_obj;
    const uint16_t *prev_instr; /* 3.13: instr_ptr */
    int stacktop;
    uint16_t return_offset;
    char owner;
} cf_any_frame;
#else
typedef cf_frame cf_any_frame;
#endif

/* From here on, owners are frames without a Python function: C calls into the
 * eval loop (FRAME_OWNED_BY_CSTACK and, since 3.14, _BY_INTERPRETER). */
#define CF_FRAME_WITHOUT_FUNCTION 3

/* The frame that TSTATE runs, or NULL. */
static inline const cf_any_frame *
cf_frames_top(PyThreadState *tstate)
{
#if CF_FRAME_LAYOUT == 310
    return tstate->frame;
#elif CF_FRAME_LAYOUT == 311 || CF_FRAME_LAYOUT == 312
    return (const cf_any_frame *)tstate->cframe->current_frame;
#else
    return (const cf_any_frame *)tstate->current_frame;
#endif
}

static inline const cf_any_frame *
cf_frames_caller(const cf_any_frame *frame)
{
#if CF_FRAME_LAYOUT == 310
    return frame->f_back;
#else
    return frame->previous;
#endif
}

/* Is there a Python function in it? */
static inline bool
cf_frames_has_code(const cf_any_frame *frame)
{
#if CF_FRAME_LAYOUT == 310
    return frame->f_code != NULL;
#else
    return (unsigned char)frame->owner < CF_FRAME_WITHOUT_FUNCTION;
#endif
}

/* Its code object; not yet known to be one. */
static inline PyObject *
cf_frames_code(const cf_any_frame *frame)
{
#if CF_FRAME_LAYOUT == 310
    return (PyObject *)frame->f_code;
#elif CF_FRAME_LAYOUT < 314
    return frame->f_code;
#else
    return (PyObject *)(frame->f_executable & ~(uintptr_t)CF_REF_TAG_BITS);
#endif
}

/* Where in the bytecode of CODE it is, in bytes. */
static inline ptrdiff_t
cf_frames_position(const cf_any_frame *frame, PyCodeObject *code)
{
#if CF_FRAME_LAYOUT == 310
    (void)code;
    return (ptrdiff_t)frame->f_lasti * CF_CODE_UNIT;
#elif CF_FRAME_LAYOUT < 314
    return (const char *)frame->prev_instr - (const char *)code + -CF_CODE_BYTECODE;
#else
    return (const char *)frame->instr_ptr - (const char *)code + -CF_CODE_BYTECODE;
#endif
}

/* Bytes of bytecode. */
static inline ptrdiff_t
cf_frames_code_size(PyCodeObject *code)
{
#if CF_FRAME_LAYOUT == 310
    return PyBytes_GET_SIZE(code->co_code);
#else
    return Py_SIZE(code) * CF_CODE_UNIT;
#endif
}

/* The name that a person knows it by. */
static inline PyObject *
cf_frames_code_name(PyCodeObject *code)
{
#if CF_FRAME_LAYOUT == 310
    return code->co_name;
#else
    return code->co_qualname;
#endif
}

#endif
