"""A forked child of the pytest process that does something and hands a value up.

The child is a copy of the whole session: its open files, its temporary folders, its plugins.
It must not act as one, so it never returns into pytest's frames and ends with os._exit:
no atexit function, no finalizer and no fixture's teardown runs in it.

    parent                     child
    here  <---- socket ------  there     | length, 8 bytes | pickle |
      |                                  the kernel kills the child when `here` closes, so it
      |                                  does not outlive a pytest that was killed
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._workers.channel import make_channel
from cowfreeze._workers.child import _die_with_parent
from cowfreeze._workers.processes import (
    BLOCKABLE,
    error_text,
    flush_streams,
    fork,
    open_pidfd,
    signal_name,
    thread_count,
)

_LENGTH = struct.Struct("=Q")


class ZygoteDied(CowfreezeError):
    """The child ended before it had handed anything up."""


def run(work: Callable[[], Any], limit: float | None = None) -> Any:
    """Fork a child, call WORK in it, return what it returned (through pickle).

    After LIMIT seconds (None: never) the child is killed.

    Raises:
        ZygoteDied: the child was killed or exited, and how; or its value cannot be pickled.
        CowfreezeError: WORK raised it, or no process could be forked.
        BaseException: whatever interrupts the caller; the child is killed and reaped.
    """
    here, there = make_channel()
    flush_streams()  # what is still buffered here would be written once more by the child
    parent = os.getpid()
    forked: list[int] = []
    pidfd: int | None = None
    status: int | None = None
    answer: bytes | None = None
    # A handler that raises must not leave the child in the caller's frames, nor the parent without its pid.
    before = signal.pthread_sigmask(signal.SIG_SETMASK, BLOCKABLE)
    try:
        try:
            pid = fork(thread_count(), forked)
        except OSError as error:
            raise CowfreezeError(
                f"no zygote could be forked: {error}. Check the limits on processes (ulimit -u, the "
                "pids cgroup) and memory (overcommit)"
            ) from error
        if pid == 0:
            _be_child(here, there, parent, before, work)
        there.close()
        pidfd = open_pidfd(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        here.setblocking(True)
        answer = _receive(here, pidfd, limit)
        if answer is not None:
            # It has said everything and flushed before; nothing it still does is of use.
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    except (ChildProcessError, ProcessLookupError):
        pass  # SIGCHLD is ignored, or the application's handler took the status
    except BaseException:
        with contextlib.suppress(OSError):
            for pid in forked:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        here.close()
        there.close()
        if pidfd is not None:
            os.close(pidfd)
    if answer is None:
        raise ZygoteDied(f"the zygote {_ending(status)}. No figure is known.")
    value, failure = pickle.loads(answer)
    if failure is not None:
        raise failure
    return value


def _ending(status: int | None) -> str:
    if status is None:
        return "ended, and the application's handling of SIGCHLD took its exit status"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"was killed by {signal_name(-code)}"
    return f"ended with status {code} (os._exit in the body, in its warm-up or in the preload)"


def _receive(here: socket.socket, pidfd: int | None, limit: float | None) -> bytes | None:
    """The child's message; None when it ended without one. Raises ZygoteDied after LIMIT seconds.

    The end of the stream is no sign of the child's end: what a body has left running in the
    background holds the other end too.
    """
    buffer = bytearray()
    deadline = None if limit is None else time.monotonic() + limit
    poll = select.poll()
    poll.register(here, select.POLLIN)
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    ended = False
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise ZygoteDied(
                f"the zygote was killed after {limit:g} s: the preload or the body did not end in the warm-up, "
                "which comes before the workers and their timeout. No figure is known."
            )
        ready = {descriptor for descriptor, _ in poll.poll(0 if ended else left and left * 1000)}
        if here.fileno() in ready:
            try:
                data = here.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not data:
                return None
            buffer += data
        elif ended:
            return None
        ended = ended or pidfd in ready
        if len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if len(buffer) - _LENGTH.size >= length:
                return bytes(buffer[_LENGTH.size :])


def _be_child(
    here: socket.socket, there: socket.socket, parent: int, mask: set[int | signal.Signals], work: Callable[[], Any]
) -> None:
    status = 70  # EX_SOFTWARE
    me = os.getpid()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        here.close()
        _die_with_parent(there, True)
        if os.getppid() == parent:
            message = _message(work)
            if os.getpid() == me:
                flush_streams()
                _die_with_parent(there, False)
                there.setblocking(True)
                there.sendall(_LENGTH.pack(len(message)), socket.MSG_NOSIGNAL)
                there.sendall(message, socket.MSG_NOSIGNAL)
            status = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            print(f"cowfreeze: the zygote broke: {error_text(error)}", file=sys.__stderr__)
            flush_streams()
    finally:
        os._exit(status)


def _message(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((work(), None), pickle.HIGHEST_PROTOCOL)
    except CowfreezeError as error:
        return pickle.dumps((None, error), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        why = ZygoteDied(f"the zygote failed: {error_text(error)}")
        return pickle.dumps((None, why), pickle.HIGHEST_PROTOCOL)
