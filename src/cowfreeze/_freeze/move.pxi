"""Binding of remap.h and huge_pages.h: memory of frozen objects, moved for cheaper forks."""

cdef extern from "move/frozen_spans.h":
    ctypedef enum cf_move_why:
        CF_MOVE_DONE
        CF_MOVE_NOTHING
        CF_MOVE_THREADS
        CF_MOVE_SHARERS
        CF_MOVE_UNKNOWN
        CF_MOVE_MERGED
        CF_MOVE_LOCKED
        CF_MOVE_PINNED
        CF_MOVE_MAPPINGS
        CF_MOVE_MEMFD
        CF_MOVE_MEMORY
        CF_MOVE_MALLOC
        CF_MOVE_NO_HUGE
    ctypedef struct cf_moved:
        cf_move_why why
        int error
        long who
        size_t bytes
        size_t pieces
        size_t failed_bytes
        double seconds


cdef extern from "move/remap.h":
    bint cf_remap_check(cf_moved *moved)
    void cf_remap(cf_moved *moved)
    size_t cf_remap_total()
    void cf_remap_fail_at(long n)


cdef extern from "move/huge_pages.h":
    bint cf_collapse_check(cf_moved *moved)
    void cf_collapse(cf_moved *moved)


_MOVE_REASONS = {
    <int>CF_MOVE_DONE: "",
    <int>CF_MOVE_NOTHING: "nothing",
    <int>CF_MOVE_THREADS: "threads",
    <int>CF_MOVE_SHARERS: "sharers",
    <int>CF_MOVE_UNKNOWN: "unknown",
    <int>CF_MOVE_MERGED: "merged",
    <int>CF_MOVE_LOCKED: "locked",
    <int>CF_MOVE_PINNED: "registered",
    <int>CF_MOVE_MAPPINGS: "mappings",
    <int>CF_MOVE_MEMFD: "memfd",
    <int>CF_MOVE_MEMORY: "memory",
    <int>CF_MOVE_MALLOC: "malloc",
    <int>CF_MOVE_NO_HUGE: "no-huge-pages",
}


cdef class MoveCounts:
    """What was done to the memory of frozen objects, in C.

    Made before the freeze, like FreezeCounts: nothing needs to be allocated afterwards.
    """

    cdef cf_moved c

    def check(self, bint huge) -> bool:
        """Could `run` do it? Changes nothing; False: `reason` says why not."""
        return cf_collapse_check(&self.c) if huge else cf_remap_check(&self.c)

    def run(self, bint huge) -> None:
        """Put frozen objects on huge pages, or move them to memfds. Raises nothing."""
        if huge:
            cf_collapse(&self.c)
        else:
            cf_remap(&self.c)

    @property
    def reason(self): return _MOVE_REASONS[<int>self.c.why]
    @property
    def error(self): return self.c.error
    @property
    def who(self): return self.c.who
    @property
    def bytes(self): return self.c.bytes
    @property
    def pieces(self): return self.c.pieces
    @property
    def failed_bytes(self): return self.c.failed_bytes
    @property
    def seconds(self): return self.c.seconds


def remapped_bytes() -> int:
    """Bytes of memory that this process, or one that it was forked from, has moved to memfds."""
    return cf_remap_total()


def fail_remap(long n) -> None:
    """For tests: let the N-th step of the next remap fail as if there were no memory."""
    cf_remap_fail_at(n)
