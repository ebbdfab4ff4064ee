"""The worker's side of fork_workers, from the fork to os._exit.

The order is the point (W1, W2): audit, target, audit, and only then everything that
allocates, formats, pickles or imports.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pickle
import resource
import signal
import socket
import sys
import time
import traceback
import types

# The function behind signal.pthread_sigmask. The public one turns the old mask into enum
# members, which writes to dozens of pages; that is too much for a worker (W1).
from _signal import pthread_sigmask as set_signal_mask  # type: ignore[import-not-found]
from typing import TYPE_CHECKING, Any, NoReturn

from cowfreeze import _core
from cowfreeze._workers import report
from cowfreeze._workers.channel import END, GO, HEADER, MEASURED, RELEASE, VALUE, Figures, Mailbox
from cowfreeze._workers.processes import BLOCKABLE, error_text, flush_streams

if TYPE_CHECKING:
    from cowfreeze._workers.state import State
    from cowfreeze._workers.worker import Worker

_BROKEN = 70  # exit status of a worker that failed in our code (EX_SOFTWARE)
_FLUSH_FAILED = 120  # what Python itself exits with when it cannot flush


def work(state: State, worker: Worker) -> NoReturn:
    """Be the worker. Never returns (W4): the caller's frames belong to the parent."""
    status = _BROKEN
    process = _core.process_id()
    try:
        status = _work_until_exit(state, worker, process)
    except BaseException as error:
        if _core.process_id() == process:
            figures = Figures(Mailbox.BROKEN, False, b"", error_text(error), -1, 0.0)
            state.mailbox.put(worker.index, figures)
    finally:
        os._exit(status)


def _work_until_exit(state: State, worker: Worker, process: int) -> int:
    """Returns the exit status."""
    audit, why, faults = _start_audit(state)
    # After this only the parent holds the other end: it hangs up when the parent ends.
    for here, there in state.ends:
        os.close(here)
        if there != worker.there.fileno():
            os.close(there)
    if worker.there.recv(1) != GO:
        return _BROKEN
    _die_with_parent(worker.there, True)
    # 0: the parent stands outside of the PID namespace that this worker was forked into.
    if os.getppid() not in (state.parent, 0):
        return _BROKEN
    before = b""
    trapped = worker.trapped
    if trapped is not None and not trapped.prepare(True, worker.trap_backend):
        trapped = None  # its buffer tells the parent why
    if audit is not None:
        before, why = _measure(audit, worker, False)
    if trapped is not None:
        trapped.arm()  # here, so that no first write lies between the measuring and it
    state.mailbox.start(worker.index)
    outcome = report.RETURNED
    value: Any = None
    failure: BaseException | None = None
    started = time.perf_counter()
    try:
        if state.children_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        set_signal_mask(signal.SIG_SETMASK, state.mask)
        value = state.target(*worker.call)
    except SystemExit as error:
        outcome, failure = report.EXITED, error
    except BaseException as error:
        outcome, failure = report.RAISED, error
    seconds = time.perf_counter() - started
    if trapped is not None:
        trapped.disarm()
    if _core.process_id() != process:
        return _leave_as_grandchild(failure)

    records = b""
    if audit is not None and before:
        after, why = _measure(audit, worker, True)
        records = before + after if after else b""
    # From here on pages do not count (W1 ends). A signal would lose the report.
    set_signal_mask(signal.SIG_BLOCK, BLOCKABLE)
    minor_faults = _minor_faults() - faults
    if worker.pages is not None:
        worker.pages.collections = gc.get_stats()[2]["collections"]
    figures = Figures(Mailbox.MEASURED, _has_children(), records, why, minor_faults, seconds)
    state.mailbox.put(worker.index, figures)
    told = _send(worker, MEASURED, b"") and _wait_for_release(worker)
    return _tell_and_flush(state, worker, told, figures, outcome, value, failure)


def _start_audit(state: State) -> tuple[_core.WorkerAudit | None, str, int]:
    """The audit, or why there is none, and the minor faults so far."""
    faults = _minor_faults()
    if state.witness is None:
        return None, state.no_witness, faults
    try:
        return _core.WorkerAudit(state.witness), "", faults
    except Exception as error:
        return None, f"The audit could not start in the worker: {error_text(error)}.", faults


def _measure(audit: _core.WorkerAudit, worker: Worker, since: bool) -> tuple[bytes, str]:
    """The audit's record, or why there is none; SINCE: of what the target did.

    It goes through a pipe that is made only now: the target may have closed, or put
    something else on, any descriptor that was open before. The record fits into an empty
    pipe (PIPE_BUF), so writing it does not block.
    """
    try:
        read_end, write_end = os.pipe()
        try:
            audit.measure_into(write_end, worker.pages, since)
            return os.read(read_end, _core.RECORD_SIZE), ""
        finally:
            os.close(read_end)
            os.close(write_end)
    except Exception as error:
        return b"", f"The worker could not measure its pages: {error_text(error)}."


def _die_with_parent(channel: socket.socket, on: bool) -> None:
    """Let the kernel kill this process when the parent's end of CHANNEL closes.

    A parent that is killed cannot end its workers, and a target may run forever. The
    channel is silent while the target runs, so the only event on it then is the hang-up;
    O_ASYNC turns that into the signal set with F_SETSIG, SIGKILL. It must be off before
    the parent writes to the channel again.
    """
    flags = fcntl.fcntl(channel, fcntl.F_GETFL)
    if on:
        fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)
    else:
        fcntl.fcntl(channel, fcntl.F_SETFL, flags & ~os.O_ASYNC)


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _has_children() -> bool:
    """Running or ended; as a subreaper the worker also has its children's orphans."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _is_ours(worker: Worker) -> bool:
    """Is the channel still there? The target may have closed it and opened a file of its
    own under the same number; a report must not end up in that file."""
    try:
        stat = os.fstat(worker.there.fileno())
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == worker.identity


def _send(worker: Worker, tag: bytes, payload: bytes) -> bool:
    if not _is_ours(worker):
        return False
    try:
        _die_with_parent(worker.there, False)
        worker.there.setblocking(True)
        worker.there.sendall(HEADER.pack(tag, len(payload)), socket.MSG_NOSIGNAL)
        worker.there.sendall(payload, socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def _wait_for_release(worker: Worker) -> bool:
    try:
        return worker.there.recv(1) == RELEASE
    except OSError:
        return False


def _tell_and_flush(
    state: State,
    worker: Worker,
    told: bool,
    figures: Figures,
    outcome: str,
    value: Any,
    failure: BaseException | None,
) -> int:
    """Send outcome and result, flush the streams, return the exit status."""
    status, text, trace = _describe(outcome, failure)
    shipped: bytes | None = None
    try:
        if outcome != report.EXITED:
            shipped = pickle.dumps(value if failure is None else failure, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        if failure is None:
            outcome, status = report.RESULT_LOST, 1
            text = (
                f"returned a {type(value).__name__} that cannot be pickled: "
                f"{error_text(error)}. Return plain data, or None"
            )
            trace = "".join(_format_exception(error))
    flush_error = flush_streams()
    if flush_error and status == 0:
        status = _FLUSH_FAILED
    end = {"outcome": outcome, "status": text, "traceback": trace, "flush_error": flush_error}
    if told and shipped is not None:
        told = _send(worker, VALUE, shipped)
    if told:
        told = _send(worker, END, pickle.dumps(end, pickle.HIGHEST_PROTOCOL))
    if not told:
        # Without a channel the mailbox takes the outcome; "outcome: status".
        if outcome == report.RETURNED:
            outcome, status = report.RESULT_LOST, 1
            text = (
                "returned, but the target had closed the descriptors through which its result "
                "is sent. Leave descriptors alone that the target has not opened"
            )
        state.mailbox.put(
            worker.index, figures._replace(stage=Mailbox.TOLD, text=f"{outcome}: {text}")
        )
    return status


def _describe(outcome: str, failure: BaseException | None) -> tuple[int, str, str | None]:
    """Exit status, status text and traceback of what the target did."""
    if failure is None:
        return 0, "returned", None
    if outcome == report.EXITED:
        assert isinstance(failure, SystemExit)
        code = failure.code
        if code is None:
            return 0, "exited with status 0 (sys.exit)", None
        if isinstance(code, int):
            return code & 0xFF, f"exited with status {code & 0xFF} (sys.exit)", None
        return 1, f"exited with status 1 (sys.exit): {str(code)[:300]}", None
    return 1, f"raised {error_text(failure)}", "".join(_format_exception(failure))


def _format_exception(error: BaseException) -> list[str]:
    """The traceback without our own frame, which is the first."""
    frames: types.TracebackType | None = error.__traceback__
    return traceback.format_exception(type(error), error, frames.tb_next if frames else None)


def _leave_as_grandchild(failure: BaseException | None) -> int:
    """The target forked, and its child came back from the target too. It ends as a script
    would: message, flush, status. It reports nothing, the worker does."""
    status = 0
    if isinstance(failure, SystemExit):
        status, text, _ = _describe(report.EXITED, failure)
        if failure.code is not None and not isinstance(failure.code, int):
            print(failure.code, file=sys.stderr)
    elif failure is not None:
        status = 1
        with contextlib.suppress(Exception):
            sys.excepthook(type(failure), failure, failure.__traceback__)
    return _FLUSH_FAILED if flush_streams() and status == 0 else status
