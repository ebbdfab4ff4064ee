"""The parent's side of one worker: its channel, its exit status, what is known of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any

import psutil

from cowfreeze import _core
from cowfreeze._workers.channel import END, HEADER, MEASURED, make_channel
from cowfreeze._workers.processes import error_text

_RECV_BYTES = 1 << 20
_ENDS_OF_A_WILD_WRITE = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


class Worker:
    """Made before the fork; its end of the channel is used after it."""

    def __init__(self, index: int, call: tuple[Any, ...]) -> None:
        self.index = index
        self.call = call
        self.here, self.there = make_channel()
        there = os.fstat(self.there.fileno())
        self.identity = (there.st_dev, there.st_ino)
        self.pid = 0
        self.pidfd: int | None = None
        self.buffer = bytearray()
        self.parsed = 0
        self.messages: dict[bytes, bytes] = {}
        self.channel_error = ""  # why nothing more can be read from it
        self.ended = False
        self.exitcode: int | None = None
        self.core_dumped = False
        self.repaired: int | None = None  # headers of packed data; None: nobody looked
        self.terminated_at: float | None = None
        self.timed_out_in = ""
        self.sigkilled = False
        self.family: list[psutil.Process] = []  # started by the target, alive after it
        self.uss: int | None = None
        self.pss: int | None = None
        self.pages: _core.PageList | None = None  # what it copied; None: no room for that
        self.memory: int | None = None  # descriptor of its /proc/PID/mem, likewise
        self.trapped: _core.TrapBuffer | None = None  # its first writes, if they are noted
        self.trap_backend = 0

    @property
    def is_measured(self) -> bool:
        return MEASURED in self.messages

    def receive(self) -> bool:
        """Take what has arrived. False at the end of the stream."""
        while True:
            try:
                data = self.here.recv(_RECV_BYTES)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False  # killed with our byte unread: how it ended is in its status
            except OSError as error:
                # It would wait for its release for ever: the kernel says to it that we are gone.
                self.channel_error = error_text(error)
                with contextlib.suppress(OSError):
                    self.here.shutdown(socket.SHUT_RDWR)
                return False
            if not data:
                return False
            self.buffer += data
            self._parse()

    def _parse(self) -> None:
        while len(self.buffer) - self.parsed >= HEADER.size and END not in self.messages:
            tag, length = HEADER.unpack_from(self.buffer, self.parsed)
            start = self.parsed + HEADER.size
            if len(self.buffer) - start < length:
                return
            with memoryview(self.buffer) as view:
                # A copy: as long as a view exists, the buffer cannot grow.
                self.messages[tag] = bytes(view[start : start + length])
            self.parsed = start + length

    def send(self, byte: bytes) -> None:
        """To a worker that may be gone; that one is seen elsewhere."""
        with contextlib.suppress(OSError):
            self.here.send(byte, socket.MSG_NOSIGNAL)

    def reap(self, block: bool = False) -> bool:
        """Has the worker ended? Takes its exit status when it has."""
        if self.ended or self.pid == 0:
            return True
        try:
            pid, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
        except ChildProcessError:
            # The application's own handler, or a SIGCHLD that is ignored, was faster.
            self.ended = True
        else:
            if pid != 0:
                self.ended = True
                self.exitcode = os.waitstatus_to_exitcode(status)
                self.core_dumped = os.WIFSIGNALED(status) and os.WCOREDUMP(status)
                if self.exitcode in _ENDS_OF_A_WILD_WRITE and _core.packed_bytes():
                    # Its siblings may still read the packed data: at once.
                    self.repaired = _core.repair_packed()
        return self.ended

    def signal(self, number: signal.Signals) -> None:
        if self.ended or self.pid == 0:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                # Unlike a pid, it never names a stranger after somebody else reaped it.
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)

    def close(self) -> None:
        self.here.close()
        self.there.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None
