/* stack.h - the Python stack of this thread, noted in a signal handler. */
#ifndef CF_TRAP_STACK_H
#define CF_TRAP_STACK_H

#include "trap/record.h"

/* Once, at import, with the GIL: compare what cf_trap_frames_note reads with
 * what the public API says of the frames that run. Returns 0, or -1 with an
 * exception; a layout that does not fit is no error, stacks are then unknown. */
int cf_trap_frames_init(void);

/* Did the layout pass? */
bool cf_trap_frames_known(void);

/* Fill in the frames of WRITE for the calling thread. Async-signal-safe: reads
 * memory of the interpreter only. A pointer that leads nowhere faults: the
 * caller must be ready for that (frames noted so far stay). */
void cf_trap_frames_note(cf_trap_buffer *buffer, cf_trap_write *write);

#endif
