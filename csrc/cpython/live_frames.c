/* live_frames.c - every frame that may go on running, or be cleared, after this moment.
 *
 *   interpreter -> thread state -> frame -> frame -> ...         threads, this one too
 *   collector   -> generator, coroutine, async generator         the frame is in the object
 *               -> greenlet -> gr_frame -> frame -> frame ...    suspended
 *               -> frame object                                  kept by a traceback, if it has
 *                                                                outlived its call
 *
 * None of these objects is ever frozen (type_info.c), so the collector still knows them all, and it is
 * not running (freeze.c), so it has none of them on lists of its own. There is no other interpreter
 * (freeze.c).
 *
 * A greenlet that waits has its frames in memory of its own, and no thread state leads there. The
 * getter of `gr_frame` gives the topmost one as a frame object; it neither allocates nor runs Python
 * code. Between frames may lie C frames that are swapped out with the greenlet's C stack; greenlet
 * links around them while it is suspended (expose_frames), so the chain can be followed. A greenlet
 * that runs in another thread has no gr_frame and is found by that thread.
 */
#include "cpython/live_frames.h"

#include "cpython/layout.h"

#include <string.h>

#if CF_HAS_STACKREFS

/* Found at a freeze, under the GIL; greenlet may be imported late. */
static PyTypeObject *greenlet;
static PyGetSetDef *gr_frame;
static Py_ssize_t frame_in_object; /* offset of f_frame in a frame object; 0: unknown */

/* Where a frame object points to its frame: seen in that of the running function. */
static Py_ssize_t
find_frame_in_object(void)
{
    PyThreadState *tstate = PyThreadState_Get();
    PyFrameObject *running = PyThreadState_GetFrame(tstate);
    Py_ssize_t found = 0;
    int matches = 0;
    for (Py_ssize_t offset = sizeof(PyObject);
         running != NULL
         && offset + (Py_ssize_t)sizeof(void *) <= PyFrame_Type.tp_basicsize;
         offset += sizeof(void *)) {
        if (*(cf_frame **)((char *)running + offset) == cf_current_frame(tstate)) {
            found = offset;
            matches++;
        }
    }
    Py_XDECREF(running);
    return matches == 1 ? found : 0;
}

void
cf_live_frames_init(void)
{
    if (frame_in_object == 0) {
        frame_in_object = find_frame_in_object();
    }
}

bool
cf_live_frames_set_greenlet(PyObject *type)
{
    cf_live_frames_init();
    if (!PyType_Check(type) || frame_in_object == 0 || !cf_layout.frames) {
        return false;
    }
    PyGetSetDef *getter = ((PyTypeObject *)type)->tp_getset;
    while (getter != NULL && getter->name != NULL && strcmp(getter->name, "gr_frame") != 0) {
        getter++;
    }
    if (getter == NULL || getter->name == NULL || getter->get == NULL) {
        return false;
    }
    greenlet = (PyTypeObject *)type;
    gr_frame = getter;
    return true;
}

typedef struct {
    void (*visit)(cf_frame *, void *);
    void *arg;
} visiting;

static void
visit_chain(const visiting *to, cf_frame *frame)
{
    for (; frame != NULL; frame = frame->previous) {
        to->visit(frame, to->arg);
    }
}

static bool
is_greenlet(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    while (type != NULL && type != greenlet) {
        type = type->tp_base;
    }
    return type != NULL;
}

static cf_frame *
frame_of(PyObject *frame_object)
{
    return *(cf_frame **)((char *)frame_object + frame_in_object);
}

static int
visit_owner(PyObject *op, void *arg)
{
    const visiting *to = arg;
    if (PyGen_CheckExact(op) || PyCoro_CheckExact(op) || PyAsyncGen_CheckExact(op)) {
        /* A finished one has an empty frame. */
        to->visit((cf_frame *)((char *)op + cf_layout.generator_frame), to->arg);
    }
    else if (PyFrame_Check(op)) {
        cf_frame *frame = frame_in_object != 0 ? frame_of(op) : NULL;
        if (frame != NULL && frame->owner == CF_FRAME_OF_FRAME_OBJECT) {
            to->visit(frame, to->arg);
        }
    }
    else if (greenlet != NULL && is_greenlet(op)) {
        PyObject *top = gr_frame->get(op, gr_frame->closure);
        if (top != NULL && PyFrame_Check(top)) {
            visit_chain(to, frame_of(top));
        }
        Py_XDECREF(top); /* the greenlet has another reference */
    }
    return 1;
}

void
cf_live_frames_visit(void (*visit)(cf_frame *, void *), void *arg)
{
    visiting to = {visit, arg};
    PyThreadState *tstate = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; tstate != NULL; tstate = PyThreadState_Next(tstate)) {
        visit_chain(&to, cf_current_frame(tstate));
    }
    cf_gc_visit_objects(visit_owner, &to);
}

#else

void
cf_live_frames_init(void)
{
}

bool
cf_live_frames_set_greenlet(PyObject *type)
{
    (void)type;
    return true;
}

#endif
