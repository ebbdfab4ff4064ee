"""Small questions about processes, and small services for both sides of the fork."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from cowfreeze import _core

# All signals that can be blocked without harm: a thread that faults while it blocks SIGSEGV is
# killed, also by a write that a trap would have caught.
BLOCKABLE = signal.valid_signals() - {
    signal.SIGSEGV, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
}  # fmt: skip
POLL_SECONDS = 0.02  # between looks at a child where nothing reports its end


class Memory(NamedTuple):
    uss: int
    pss: int


def room_for_pages() -> int:
    """How many pages a worker of this process may note: all those that are there, and a GiB of
    new ones. Only address space until it is used."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) + (1 << 30) // os.sysconf("SC_PAGE_SIZE")


def read_memory(pid: int) -> tuple[Memory | None, str]:
    """USS and PSS of a process in bytes, or why not. Reading smaps writes no page of it."""
    if not _core.proc_is_ours():
        return None, "/proc was mounted in another PID namespace"
    try:
        process = psutil.Process(pid)
        # psutil 8 renames memory_full_info and deprecates the old name.
        read = getattr(process, "memory_footprint", None) or process.memory_full_info
        memory = read()
        return Memory(memory.uss, memory.pss), ""
    except (psutil.Error, OSError) as error:
        return None, error_text(error)


def thread_count() -> int:
    """Threads of this process, also those that Python does not know."""
    if not _core.proc_is_ours():
        return threading.active_count()
    try:
        return psutil.Process().num_threads()
    except (psutil.Error, OSError):
        return threading.active_count()


def fork(threads: int, forked: list[int]) -> int:
    """Fork; the child's pid is in FORKED before any handler of a signal can raise.

    Blocking signals is not enough for that: another thread takes them, and the main thread
    runs the handler.
    """
    if threads <= 1:
        _core.fork_into(forked)
        return forked[-1]
    # 3.12+ warns when a process with threads forks. The result's notes say it better, and
    # with -W error the warning would cost us the pid. Both processes leave the block, so
    # the target sees the application's filters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _core.fork_into(forked)
    return forked[-1]


@contextlib.contextmanager
def handlers_later(threads: int) -> Iterator[None]:
    """Python's handlers of signals run after the block, not in it; see fork()."""
    if threads <= 1 or threading.current_thread() is not threading.main_thread():
        yield  # blocked signals stay away, or handlers run in another thread
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in BLOCKABLE}
    taken = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in taken:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
        for caught in dict.fromkeys(came):
            os.kill(os.getpid(), caught)


def open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def descendants(pid: int) -> list[psutil.Process]:
    """Processes below a worker. It adopts its children's orphans (the audit makes it a
    subreaper), so a double fork does not hide one while the worker lives. None where /proc numbers
    the processes of another PID namespace: a number from there must not be killed here."""
    if not _core.proc_is_ours():
        return []
    try:
        return psutil.Process(pid).children(recursive=True)
    except (psutil.Error, OSError):
        return []


def end_family(family: list[psutil.Process], grace: float) -> int:
    """Give processes GRACE seconds to end, then kill them. Returns how many were killed."""
    deadline = time.monotonic() + grace
    while True:
        family = [process for process in family if _is_running(process)]
        if not family or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    killed = len(family)
    # SIGKILL takes effect a moment later. No longer than that: one that hangs in the kernel
    # does not end at all.
    deadline = time.monotonic() + 1
    while any(map(_is_running, family)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 10)
    return killed


def _is_running(process: psutil.Process) -> bool:
    try:
        # A zombie belongs to whoever adopted it.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def error_text(error: BaseException) -> str:
    """One line: type and message."""
    lines = traceback.TracebackException(type(error), error, None)
    vars(lines)["__notes__"] = None  # from 3.11 on they would be the last lines
    text = list(lines.format_exception_only())[-1].strip()
    return text if len(text) <= 300 else text[:297] + "..."


def flush_streams() -> str:
    """Flush Python's output streams; returns "" or what went wrong, as a sentence's end.

    pytest and others put streams of their own in the place of sys.stdout, so the original
    ones are flushed too. A stream that is closed or missing holds nothing.
    """
    streams = {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}
    problems = []
    for stream in streams.values():
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            problems.append(f"{getattr(stream, 'name', 'a stream')}: {error}")
    if not problems:
        return ""
    return f"could not write its buffered output ({', '.join(problems)}); that output is lost"
