# The end of a process: csrc/exit/finish.c for Python, and an audit behind everything. Included by _core.pyx.
from libc.stdlib cimport atexit as c_atexit


cdef extern from "exit/interned.h":
    bint cf_interned_find()


cdef extern from "exit/finish.h":
    ctypedef struct cf_finish_result:
        size_t modules
        size_t dropped
        size_t strings
        bint swapped
        bint ended
    void cf_finish_watch()
    void cf_finish_note()
    void cf_finish_run(cf_finish_result *result, bint may_end)


cdef cf_finish_result _finish_result
cdef Witness _last_witness = None
cdef cf_audit _last_audit
cdef int _last_fd = -1
cdef uint64_t _last_process = 0


def prepare_finish() -> bool:
    """In the parent: get ready to spare what is frozen at the exit.

    False: the interpreter's dict of interned strings is not known, and is torn down in full.
    """
    cf_finish_watch()
    return cf_interned_find()


def note_end() -> None:
    """Say that the process has begun to end: an exit status that comes up later is not its own."""
    cf_finish_note()


cdef class ExitHook:
    """Spares what is frozen when it dies during the interpreter's finalisation (csrc/exit/finish.c).

    It is put where finalisation drops it first. At any other time its death does nothing. With
    MAY_END the process may be ended there, if its exit status is known.
    """

    cdef bint may_end

    def __cinit__(self, bint may_end):
        self.may_end = may_end

    def __call__(self) -> None:
        """It stands in for sys.__interactivehook__, which is called without arguments."""

    def __dealloc__(self):
        cf_finish_run(&_finish_result, self.may_end)


cdef void _measure_last() noexcept nogil:
    cdef cf_record record
    if _last_fd < 0 or cf_process_id() != _last_process:
        return
    cf_audit_measure(&_last_audit, &record, NULL)
    write(_last_fd, &record, sizeof(record))
    write(_last_fd, &_finish_result, sizeof(_finish_result))


def measure_at_exit(Witness witness not None, int fd) -> None:
    """For tests and benchmarks: measure this process when its interpreter is gone.

    Writes one record, and behind it a cf_finish_result (three words, two bools), to FD. The C
    library calls it in exit(), so it also counts what Py_FinalizeEx copied; os._exit() passes it by.
    """
    global _last_witness, _last_fd, _last_process
    _last_witness = witness
    cf_audit_start(&_last_audit, &witness.witness)
    _last_fd = fd
    _last_process = cf_process_id()
    if c_atexit(_measure_last) != 0:
        raise MemoryError("no room for another function at exit")
