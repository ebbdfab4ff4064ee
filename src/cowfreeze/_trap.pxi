"""Binding of trap.h: who writes a watched page first."""

cdef extern from "trap/stack.h":
    int cf_trap_frames_init() except -1
    bint cf_trap_frames_known()


cdef extern from "trap/record.h":
    enum:
        CF_TRAP_NONE
        CF_TRAP_PERF
        CF_TRAP_PROTECT
        CF_TRAP_NOT_RUN
        CF_TRAP_RAN
        CF_TRAP_FAILED
        CF_STACK_COMPLETE
        CF_STACK_LONGER
        CF_STACK_NO_THREAD
        CF_STACK_LAYOUT
        CF_STACK_UNREADABLE
        CF_STACK_CODES_FULL
    ctypedef struct cf_trap_frame:
        uint32_t code
        int32_t line
    ctypedef struct cf_trap_write:
        uint64_t address
        uint64_t old_value
        int32_t thread
        unsigned short n_frames
        unsigned short stack_end
        cf_trap_frame *frames
    ctypedef struct cf_trap_code:
        unsigned short file_size
        unsigned short name_size
        char *file
        char *name
    ctypedef struct cf_trap_buffer:
        uint32_t backend
        uint32_t why
        int32_t error
        int32_t pid
        uint32_t state
        int32_t failure
        uint64_t watched
        uint64_t exclusive
        uint64_t ranges
        uint64_t joined
        uint64_t signals
        uint64_t unseen
        uint64_t given_up
        uint64_t lost
        uint64_t room
        uint64_t n
        uint64_t n_codes
        cf_trap_code *codes
        cf_trap_write *writes
    cf_trap_buffer *cf_trap_buffer_new(size_t n, bint shared)
    void cf_trap_buffer_free(cf_trap_buffer *buffer)


cdef extern from "trap/trap.h":
    enum:
        CF_TRAP_USES_PERF
        CF_TRAP_ASKED
        CF_TRAP_FORBIDDEN
        CF_TRAP_SILENT
        CF_WATCH_FROZEN
        CF_WATCH_ALL
    ctypedef int cf_watch_scope
    ctypedef int cf_trap_backend
    ctypedef struct cf_trap_request:
        cf_watch_scope scope
        cf_trap_backend backend
        const cf_pageset *frozen
    int cf_trap_init()
    int cf_trap_prepare(cf_trap_buffer *buffer, const cf_trap_request *request)
    int cf_trap_arm()
    void cf_trap_disarm()
    bint cf_trap_is_armed()


if cf_trap_init() < 0:
    raise OSError(errno, "the trap cannot be told of forks: " + _reason_text(errno))
cf_trap_frames_init()

_BACKENDS = {CF_TRAP_NONE: None, CF_TRAP_PERF: "perf", CF_TRAP_PROTECT: "mprotect"}
_WHY = {CF_TRAP_USES_PERF: "perf", CF_TRAP_ASKED: "asked", CF_TRAP_FORBIDDEN: "forbidden",
        CF_TRAP_SILENT: "silent"}
_STATES = {CF_TRAP_NOT_RUN: "not run", CF_TRAP_RAN: "ran", CF_TRAP_FAILED: "failed"}
_STACK_ENDS = {
    CF_STACK_COMPLETE: None,
    CF_STACK_LONGER: "longer",
    CF_STACK_NO_THREAD: "no thread",
    CF_STACK_LAYOUT: "layout",
    CF_STACK_UNREADABLE: "unreadable",
    CF_STACK_CODES_FULL: "codes full",
}


cdef class TrapBuffer:
    """Room for the writes of one trap.

    room: for how many writes; only address space until it is used. shared: a child writes into
    the same memory, so that its parent can read what its trap has seen.
    """

    cdef cf_trap_buffer *buffer

    def __cinit__(self, size_t room, bint shared=False):
        self.buffer = cf_trap_buffer_new(room, shared)
        if self.buffer == NULL:
            raise MemoryError(f"no room for {room} trapped writes")

    def __dealloc__(self):
        cf_trap_buffer_free(self.buffer)

    def prepare(self, bint everything, int backend) -> bool:
        """Do all that can be done before the trap counts; False: `failure` says why not.

        everything: all pages that are there instead of those with frozen objects. backend: 0
        chooses, 1 is perf, 2 is mprotect. Makes no object: for a worker's hot path.
        """
        cdef cf_trap_request request
        request.scope = CF_WATCH_ALL if everything else CF_WATCH_FROZEN
        request.backend = CF_TRAP_PERF if backend == 1 else CF_TRAP_PROTECT if backend == 2 else CF_TRAP_NONE
        request.frozen = cf_frozen_pages
        return cf_trap_prepare(self.buffer, &request) == 0

    def arm(self) -> bool:
        """Begin; False: `failure` says why not, and nothing is watched."""
        return cf_trap_arm() == 0

    def disarm(self) -> None:
        """End, and put everything back. May be called again; does nothing in a forked child."""
        cf_trap_disarm()

    @property
    def failure(self) -> int:
        """The errno with which prepare or arm failed, or 0."""
        return self.buffer.failure if self.buffer.state == <uint32_t>CF_TRAP_FAILED else 0

    @property
    def figures(self) -> dict:
        """All but the writes. None is unknown."""
        return {
            "state": _STATES[self.buffer.state],
            "backend": _BACKENDS[self.buffer.backend],
            "why": _WHY[self.buffer.why],
            "error": self.buffer.error,
            "pid": self.buffer.pid,
            "watched": self.buffer.watched,
            "exclusive": None if self.buffer.exclusive == <uint64_t>-1 else self.buffer.exclusive,
            "ranges": self.buffer.ranges,
            "joined": self.buffer.joined,
            "unseen": None if self.buffer.unseen == <uint64_t>-1 else self.buffer.unseen,
            "given_up": self.buffer.given_up,
            "lost": self.buffer.lost,
            "writes": self.buffer.n,
        }

    cdef object text(self, const char *text, size_t size):
        return text[:size].decode("utf-8", "replace") if size else "?"

    def addresses(self) -> list:
        """(address of the written word, number of the write), as they came."""
        cdef size_t i
        return [(self.buffer.writes[i].address, i) for i in range(self.buffer.n)]

    def write(self, size_t number) -> tuple:
        """(thread, address, old word, ((file, line or None, function), ...), why no more)."""
        cdef cf_trap_write *made
        cdef cf_trap_code *code
        cdef size_t i
        cdef list frames = []
        if number >= self.buffer.n:
            raise IndexError(number)
        made = &self.buffer.writes[number]
        for i in range(made.n_frames):
            code = &self.buffer.codes[made.frames[i].code]
            frames.append((self.text(code.file, code.file_size), made.frames[i].line or None,
                           self.text(code.name, code.name_size)))
        return made.thread, made.address, made.old_value, tuple(frames), _STACK_ENDS[made.stack_end]


def trap_is_armed() -> bool:
    """Does a trap run in this process?"""
    return cf_trap_is_armed()


def frames_are_known() -> bool:
    """Can stacks be read in this interpreter?"""
    return cf_trap_frames_known()
