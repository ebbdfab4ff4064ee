"""A quick end of a process, for who asks for it by name: fast_exit, fast_exit_guard.

    ordinary exit   atexit, threads, finalisation: all of it, by CPython      _freeze/at_exit.py
    fast_exit()     atexit, threads, flush, Py_AtExit, exit() of C            here
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any, NoReturn

try:
    from cowfreeze import _core
except ImportError:  # a platform without it: there is nothing to save there
    _core = None  # type: ignore[assignment]
from cowfreeze._errors import CowfreezeError
from cowfreeze._origin import is_forked

__all__ = ["fast_exit", "fast_exit_guard"]

_FLUSH_FAILED = 120  # what Python itself exits with when it cannot flush



def fast_exit(status: int | str | None = 0) -> NoReturn:
    """End this process as ``sys.exit(status)`` would, without tearing the interpreter down.

    Other non-daemon threads are joined, atexit handlers run, ``sys.stdout`` and ``sys.stderr`` are
    flushed, the functions that C code gave to ``Py_AtExit`` and to the C library's ``atexit`` are
    called; then the kernel takes the memory back in one piece. Not done, because only tear-down
    does it: finalizers of objects that are still alive. A file that the worker has open must be
    closed before, or what stands in its buffer is lost.

    Args:
        status: as ``sys.exit`` takes it: a number; None for 0; a text is printed to ``sys.stderr``
            and the status is 1. 120 if a stream cannot be flushed, whatever it would be.

    Raises:
        CowfreezeError: called in another thread than the main one, which cannot be joined then.
    """
    if threading.current_thread() is not threading.main_thread():
        raise CowfreezeError(
            "fast_exit() was called in a thread. It joins all others, so call it in the main thread "
            "of the process; os._exit() ends a process from anywhere"
        )
    code = _status(status)
    _end_quietly(code)


def _status(status: object) -> int:
    """The exit status of SystemExit(status); prints what is no number."""
    for stream in (sys.stderr, sys.stdout):  # as CPython does behind a script, before it looks at the exception
        with contextlib.suppress(Exception):
            stream.flush()
    if _core is not None:
        _core.flush_c_stdout()
    if status is None:
        return 0
    if isinstance(status, int):
        # What does not fit into a C long counts as -1 there.
        return status & 0xFF if -(1 << 63) <= status < 1 << 63 else 0xFF
    with contextlib.suppress(Exception):
        if sys.stderr is not None:
            print(status, file=sys.stderr)
    return 1


def _end_quietly(code: int, number: int | None = None) -> NoReturn:
    """Threads, handlers, streams, in the order of Py_FinalizeEx; then the end, by CODE or signal."""
    try:
        # The interpreter calls this one by name, so every version has it.
        threading._shutdown()  # type: ignore[attr-defined]
        # Prints what handlers raise, as at an ordinary exit. If one forks, its child ends below, too.
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        if not _flush():
            code = _FLUSH_FAILED
        if _core is not None:
            _core.leave(code, only_functions=number is not None)
        if number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(code)


def _flush() -> bool:
    """False: a stream cannot be flushed. What cannot be told of stderr is told of stdout."""
    done = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except Exception as error:
            done = False
            if stream is sys.stdout and _core is not None:
                _core.write_unraisable(error.with_traceback(None), stream)
    return done


class fast_exit_guard(contextlib.ContextDecorator):  # noqa: N801  # it is used like a function
    """A forked process that leaves this block, or the decorated function, ends there.

    For workers that somebody else forks and ends with an ordinary exit. Put it around what the
    parent runs (``with cowfreeze.fast_exit_guard(): manager.main()``) or around what a worker runs:
    in the process that imported cowfreeze it does nothing at all, in one forked from it leaving the
    block by any way ends the process like the end of a script would:

    ======================= ======================================= =======================
    left by                 printed                                 exit status
    ======================= ======================================= =======================
    its end                 nothing                                 0
    SystemExit              its text, if it carries one             its code
    KeyboardInterrupt       the traceback, by sys.excepthook        killed by SIGINT
    any other exception     the traceback, by sys.excepthook        1
    ======================= ======================================= =======================

    Threads, handlers and streams are treated as by `fast_exit`. What stands behind the block is not
    reached in a worker, and `finally` clauses around it do not run there.
    """

    def __enter__(self) -> fast_exit_guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not is_forked() or threading.current_thread() is not threading.main_thread():
            return
        if error is None:
            _end_quietly(0)
        if isinstance(error, SystemExit):
            _end_quietly(_status(error.code))
        try:
            sys.excepthook(type(error), error, traceback)
        except BaseException:
            # CPython prints both; what matters here is that the process ends.
            sys.__excepthook__(*_exception())
        _end_quietly(1, signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)


def _exception() -> Any:
    return sys.exc_info()
