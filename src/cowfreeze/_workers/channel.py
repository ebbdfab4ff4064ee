"""The two ways between a worker and its parent: a socket pair, and the mailbox.

    parent                                                worker
    worker.here  <--- socket pair: GO, RELEASE ------->   worker.there
                 <--- MEASURED, VALUE payload, END payload
    mailbox      <--- one slot of shared memory per worker

A message to the worker is one byte. A message from it is

    | tag, 1 byte | length of the payload, 8 bytes | payload |
"""

from __future__ import annotations

import fcntl
import inspect  # noqa: F401  contextlib.ExitStack imports it on first use (3.15): not after a freeze
import mmap
import signal
import socket
import struct
from contextlib import ExitStack
from typing import NamedTuple

from cowfreeze import _core

GO = b"G"
RELEASE = b"R"

HEADER = struct.Struct("=cQ")
MEASURED = b"M"  # empty: the figures are in the mailbox
VALUE = b"V"  # pickled result or exception, if there is one
END = b"E"  # pickled dict: how the target ended; the last message

_ABOVE_STDIO = 3
_OUT_OF_THE_WAY = 200  # above what targets usually close in a loop (closerange(3, 64))


class Figures(NamedTuple):
    stage: int
    children: bool  # has the worker child processes, also orphaned ones of its children?
    records: bytes  # the audit's two, start and end; empty when it could not measure
    text: str  # why not, or what broke
    minor_faults: int  # counted here when there is no record; -1 unknown
    seconds: float


class Mailbox:
    """One slot per worker in shared memory; written by the worker, read by the parent.

    slot:  stage u8 | children u8 | records u16 | text u16 | minflt i64 | seconds f64 |
           record bytes | text bytes

    The mapping is MAP_SHARED, so a write to it is seen by the parent and copies no page,
    and the audit does not scan it.
    """

    # What the worker has reached. TOLD: the channel is gone, `text` is "outcome: status".
    WAITING, RUNNING, MEASURED, TOLD, BROKEN = range(5)
    _HEAD = struct.Struct("=BBHHqd")
    _TEXT = 2000  # bytes
    _RECORDS = 2 * _core.RECORD_SIZE

    def __init__(self, workers: int) -> None:
        self._slot = self._HEAD.size + self._RECORDS + self._TEXT
        self._memory = mmap.mmap(-1, self._slot * workers)

    def start(self, index: int) -> None:
        self._memory[index * self._slot] = self.RUNNING

    def put(self, index: int, figures: Figures) -> None:
        text = figures.text.encode("utf-8", "replace")[: self._TEXT]
        head = self._HEAD.pack(
            figures.stage, figures.children, len(figures.records), len(text),
            figures.minor_faults, figures.seconds,
        )  # fmt: skip
        slot = head + figures.records + text
        start = index * self._slot
        self._memory[start : start + len(slot)] = slot

    def get(self, index: int) -> Figures:
        start = index * self._slot
        stage, children, records, text, faults, seconds = self._HEAD.unpack_from(
            self._memory, start
        )
        middle = start + self._HEAD.size + records
        return Figures(
            stage,
            bool(children),
            self._memory[middle - records : middle],
            self._memory[middle : middle + text].decode("utf-8", "replace"),
            faults,
            seconds,
        )

    def close(self) -> None:
        self._memory.close()


def make_channel() -> tuple[socket.socket, socket.socket]:
    """A socket pair: the parent's end does not block, the worker's does.

    A socket, because MSG_NOSIGNAL spares a parent that has SIGPIPE at its default. Both
    get high numbers: with stdout closed, a plain pair would become descriptor 1, and the
    target's first print would talk to us.
    """
    with ExitStack() as on_error:
        low = [on_error.enter_context(end) for end in socket.socketpair()]
        high = []
        for end in low:
            high.append(socket.socket(fileno=_raise_descriptor(end.fileno())))
            on_error.callback(high[-1].close)
        on_error.pop_all()
    for end in low:
        end.close()
    here, there = high
    here.setblocking(False)
    there.setblocking(True)  # whatever socket.setdefaulttimeout says
    fcntl.fcntl(there, fcntl.F_SETSIG, signal.SIGKILL)  # see _die_with_parent
    return here, there


def _raise_descriptor(descriptor: int) -> int:
    """A copy with a high number, close-on-exec. Raises OSError when there is none free."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    except OSError:  # above the limit of this process, or the upper numbers are taken
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STDIO)
