/* live_frames.h - every frame that may go on running, or be cleared, after this moment. */
#ifndef CF_LIVE_FRAMES_H
#define CF_LIVE_FRAMES_H

#include "cpython/frames.h"

/* Look where a frame object has its frame. Once, at import. */
void cf_live_frames_init(void);

/* TYPE is greenlet.greenlet. Returns false if the frames of suspended greenlets cannot be found
 * (and there are such): then cf_live_frames_visit passes over them. */
bool cf_live_frames_set_greenlet(PyObject *type);

#if CF_HAS_STACKREFS
/* Calls VISIT for each, some more than once. Needs cf_layout.frames. Allocates nothing, runs no
 * Python code. */
void cf_live_frames_visit(void (*visit)(cf_frame *, void *), void *arg);
#endif

#endif
