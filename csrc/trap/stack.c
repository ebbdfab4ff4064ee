/* stack.c - the Python stack of this thread, noted in a signal handler.
 *
 *   thread state -> frame -> frame -> ...          read with frames.h
 *                     |
 *                     `-> code object: file, name, line table
 *                           |
 *                           `-> cf_trap_code, copied once
 *
 * Each word is checked before it is followed: a code object must be of the type
 * code, names must be str, the position must lie inside of the bytecode. What
 * no check can see, a pointer to memory that is not there, faults, and trap.c
 * ends the noting then. So a stack is right, or it says where it stops.
 *
 * The line is the one that the interpreter has stored last. Since 3.13 it does
 * so only before instructions that can fail or call; a plain store may be
 * reported at the line of the instruction before it.
 */
#include "trap/stack.h"

#include "cpython/frames.h"

#include <string.h>

#define MOST_COMPARED 16
#define MOST_FRAMES 4096   /* of a chain, so that a circle ends */

static bool layout_is_known; /* tried once, under the GIL, before a trap is armed */

/* -- texts --------------------------------------------------------------- */

static size_t
put_character(char *into, size_t room, Py_UCS4 c)
{
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (size > room) {
        return 0;
    }
    if (size == 1) {
        into[0] = (char)c;
        return 1;
    }
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size - 1; i > 0; i--) {
        into[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    into[0] = (char)(lead[size] | c);
    return size;
}

/* The end of TEXT as UTF-8: of a long path the end tells more. */
static uint16_t
copy_text(PyObject *text, char *into, size_t room)
{
    if (text == NULL || !PyUnicode_Check(text) || !PyUnicode_IS_COMPACT(text)) {
        return 0;
    }
    int kind = (int)PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    size_t most = kind == 1 && PyUnicode_IS_ASCII(text) ? 1 : kind == 1 ? 2 : kind == 2 ? 3 : 4;
    Py_ssize_t first = (size_t)length * most > room ? length - (Py_ssize_t)(room / most) : 0;
    size_t size = 0;
    for (Py_ssize_t i = first; i < length; i++) {
        size_t put = put_character(into + size, room - size, PyUnicode_READ(kind, data, i));
        if (put == 0) {
            break;
        }
        size += put;
    }
    return (uint16_t)size;
}

/* -- frames -------------------------------------------------------------- */

/* The code object of FRAME, or NULL when the word there is none. */
static PyCodeObject *
code_of(const cf_any_frame *frame)
{
    PyObject *code = cf_frames_code(frame);
    if (code == NULL || ((uintptr_t)code & (sizeof(void *) - 1)) != 0
        || Py_TYPE(code) != &PyCode_Type) {
        return NULL;
    }
    return (PyCodeObject *)code;
}

static int
line_of(PyCodeObject *code, ptrdiff_t position)
{
    if (position < 0) {
        return code->co_firstlineno; /* not begun */
    }
    int line = PyCode_Addr2Line(code, (int)position);
    return line > 0 ? line : 0;
}

/* Put FRAME into INTO. */
static cf_stack_end
note_frame(cf_trap_buffer *buffer, const cf_any_frame *frame, cf_trap_frame *into)
{
    PyCodeObject *code = code_of(frame);
    if (code == NULL || code->co_linetable == NULL || !PyBytes_Check(code->co_linetable)) {
        return CF_STACK_UNREADABLE;
    }
    ptrdiff_t position = cf_frames_position(frame, code);
    if (position >= cf_frames_code_size(code)) {
        return CF_STACK_UNREADABLE;
    }
    const uint64_t identity[3] = {(uintptr_t)code, (uintptr_t)code->co_linetable,
                                  (uint64_t)(unsigned)code->co_firstlineno};
    bool is_new;
    cf_trap_code *known = cf_trap_buffer_code(buffer, identity, &is_new);
    if (known == NULL) {
        return CF_STACK_CODES_FULL;
    }
    if (is_new) {
        known->file_size = copy_text(code->co_filename, known->file, CF_TRAP_TEXT);
        known->name_size = copy_text(cf_frames_code_name(code), known->name, CF_TRAP_NAME);
    }
    into->code = (uint32_t)(known - buffer->codes);
    into->line = cf_trap_buffer_line(buffer, into->code, (int32_t)position);
    if (into->line < 0) {
        into->line = line_of(code, position);
        cf_trap_buffer_keep_line(buffer, into->code, (int32_t)position, into->line);
    }
    return CF_STACK_COMPLETE;
}

/* FRAME or the first one behind it that runs a Python function. */
static const cf_any_frame *
with_function(const cf_any_frame *frame)
{
    int n = 0;
    while (frame != NULL && !cf_frames_has_code(frame)) {
        frame = ++n < MOST_FRAMES ? cf_frames_caller(frame) : NULL;
    }
    return frame;
}

void
cf_trap_frames_note(cf_trap_buffer *buffer, cf_trap_write *write)
{
    write->n_frames = 0;
    if (!layout_is_known) {
        write->stack_end = CF_STACK_LAYOUT;
        return;
    }
    write->stack_end = CF_STACK_UNREADABLE; /* stays if a read faults */
    PyThreadState *tstate = PyGILState_GetThisThreadState();
    const cf_any_frame *frame = tstate == NULL ? NULL : with_function(cf_frames_top(tstate));
    cf_stack_end end = frame == NULL ? CF_STACK_NO_THREAD : CF_STACK_COMPLETE;
    while (frame != NULL) {
        if (write->n_frames == CF_TRAP_FRAMES) {
            end = CF_STACK_LONGER;
            break;
        }
        end = note_frame(buffer, frame, &write->frames[write->n_frames]);
        if (end != CF_STACK_COMPLETE) {
            break;
        }
        write->n_frames++;
        frame = with_function(cf_frames_caller(frame));
    }
    write->stack_end = (uint16_t)end;
}

/* -- check --------------------------------------------------------------- */

/* Do the frames from TSTATE's top on say what the public API does? */
static bool
layout_fits(PyThreadState *tstate)
{
    const cf_any_frame *frame = with_function(cf_frames_top(tstate));
    PyFrameObject *truth = PyThreadState_GetFrame(tstate);
    bool fits = true;
    int compared = 0;
    while (fits && truth != NULL && compared < MOST_COMPARED) {
        PyCodeObject *code = PyFrame_GetCode(truth);
        /* Compared before it is followed: here nobody catches a fault. */
        fits = frame != NULL && cf_frames_code(frame) == (PyObject *)code
               && cf_frames_position(frame, code) < cf_frames_code_size(code)
               && line_of(code, cf_frames_position(frame, code)) == PyFrame_GetLineNumber(truth);
        Py_DECREF(code);
        PyFrameObject *caller = PyFrame_GetBack(truth);
        Py_DECREF(truth);
        truth = caller;
        frame = fits ? with_function(cf_frames_caller(frame)) : NULL;
        compared++;
    }
    Py_XDECREF(truth);
    return fits && compared > 0;
}

static PyObject *
check_here(PyObject *self, PyObject *ignored)
{
    (void)self;
    (void)ignored;
    layout_is_known = layout_fits(PyThreadState_Get());
    Py_RETURN_NONE;
}

static PyMethodDef check = {"check", check_here, METH_NOARGS, NULL};

int
cf_trap_frames_init(void)
{
    /* Functions made for this, so that there are at least three frames, with
     * calls between them that the interpreter makes in different ways. */
    static const char source[] = "def inner():\n"
                                 "    pass\n"
                                 "    return check()\n"
                                 "def items():\n"
                                 "    yield inner()\n"
                                 "def outer():\n"
                                 "    return [*map(lambda item: item, items())]\n"
                                 "outer()\n";
    int ret = -1;
    PyObject *result = NULL;
    PyObject *names = PyDict_New();
    PyObject *function = PyCFunction_New(&check, NULL);
    layout_is_known = false;
    if (names == NULL || function == NULL
        || PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) < 0
        || PyDict_SetItemString(names, "check", function) < 0) {
        goto done;
    }
    result = PyRun_String(source, Py_file_input, names, names);
    if (result == NULL) {
        goto done;
    }
    ret = 0;

done:
    Py_XDECREF(result);
    Py_XDECREF(function);
    Py_XDECREF(names);
    return ret;
}

bool
cf_trap_frames_known(void)
{
    return layout_is_known;
}
