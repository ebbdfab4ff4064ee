# The end of a process: csrc/exit/finish.c for Python, and an audit behind everything. Included by _core.pyx.
from libc.stdio cimport fflush, stdout as c_stdout
from libc.stdlib cimport atexit as c_atexit, exit as c_exit


cdef extern from "Python.h":
    void Py_Exit(int status)
    void PyErr_SetObject(object type, object value)
    void PyErr_WriteUnraisable(object where)


cdef extern from "exit/finish.h":
    ctypedef struct cf_finish_result:
        size_t holders
        size_t modules
        size_t strings
        bint swapped
    int cf_finish_prepare() except -1
    void cf_finish_run(cf_finish_result *result)
    void cf_finish_flush()


cdef extern from "exit/exit_functions.h":
    bint cf_exit_functions_call()


cdef extern from "objects/kept.h":
    bint cf_kept_is_inherited()


cdef cf_finish_result _finish_result
cdef Witness _last_witness = None
cdef cf_audit _last_audit
cdef int _last_fd = -1
cdef uint64_t _last_process = 0


def prepare_finish() -> None:
    """In the process that is going to freeze: get ready for its end, and its children's."""
    cf_finish_prepare()


def is_inherited() -> bool:
    """Was what is frozen here frozen by another process, from which this one was forked?"""
    return cf_kept_is_inherited()


def write_unraisable(error, where) -> None:
    """Tell that ERROR happened in WHERE, as CPython does where nobody can catch it."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(where)


def flush_c_stdout() -> None:
    """What CPython does when it meets SystemExit: what C code has printed comes before all that follows."""
    fflush(c_stdout)


def leave(int status, bint only_functions=False) -> None:
    """What CPython does behind its finalisation: the functions of Py_AtExit, and exit() of the C library.

    STATUS is the process's. Returns if ONLY_FUNCTIONS. Where these functions cannot be found the
    interpreter is finalised before, unless ONLY_FUNCTIONS.
    """
    found = cf_exit_functions_call()
    if only_functions:
        return
    if not found:
        Py_Exit(status)
    c_exit(status)


cdef class ExitHook:
    """What is to be done at the end happens when it dies during the interpreter's finalisation (csrc/exit/finish.c).

    It is put where finalisation drops it first. At any other time its death does nothing.
    """

    def __call__(self) -> None:
        """It stands in for sys.__interactivehook__, which is called without arguments."""

    def __dealloc__(self):
        cf_finish_run(&_finish_result)


cdef class LastFlush:
    """Flushes the streams that CPython began with when it dies, as their own death would.

    They die when sys is emptied, unless a frozen object refers to them: stdout as the default of
    an argument, say. And files that are left to the parent: what sys kept may have written to them.
    """

    cdef tuple streams

    def __cinit__(self, *streams):
        self.streams = streams

    def __dealloc__(self):
        cf_finish_flush()
        for stream in self.streams:
            try:
                stream.flush()
            except BaseException:
                pass


cdef void _measure_last() noexcept nogil:
    cdef cf_record record
    if _last_fd < 0 or cf_process_id() != _last_process:
        return
    cf_audit_measure(&_last_audit, &record, NULL)
    write(_last_fd, &record, sizeof(record))
    write(_last_fd, &_finish_result, sizeof(_finish_result))


def measure_at_exit(Witness witness not None, int fd) -> None:
    """For tests and benchmarks: measure this process when its interpreter is gone.

    Writes one record, and behind it a cf_finish_result (three words, one bool), to FD. The C
    library calls it in exit(), so it also counts what Py_FinalizeEx copied; os._exit() passes it by.
    """
    global _last_witness, _last_fd, _last_process
    _last_witness = witness
    cf_audit_start(&_last_audit, &witness.witness)
    _last_fd = fd
    _last_process = cf_process_id()
    if c_atexit(_measure_last) != 0:
        raise MemoryError("no room for another function at exit")
