"""Children that do nothing but start, wait and end: what a fork costs and what an exit copies."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import struct
import sys
import time
from types import FrameType
from typing import NamedTuple

from cowfreeze._errors import CowfreezeError

_LIMIT = 300.0  # seconds; a child that takes longer to end hangs
_NAP = 0.05  # seconds that a waiting child sleeps at most before it looks for its signal
_FORM = struct.Struct("=q")


def measure_forks(seconds: float, least: int) -> tuple[float, float]:
    """Fork, exit at once and wait, for about SECONDS and at least LEAST times.

    Returns:
        Medians in seconds: of os.fork() in the parent, and of the whole cycle.
    """
    forks: list[float] = []
    cycles: list[float] = []
    until = time.perf_counter() + seconds
    while len(cycles) < least or time.perf_counter() < until:
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        forked = time.perf_counter()
        os.waitpid(pid, 0)
        cycles.append(time.perf_counter() - start)
        forks.append(forked - start)
    return statistics.median(forks), statistics.median(cycles)


class Exit(NamedTuple):
    """How a child ended.

    Attributes:
        faults: minor page faults from SIGTERM to its end: at least as many as pages copied.
        status: exit status, negative for a signal.
        seconds: from SIGTERM to the end of the process.
    """

    faults: int
    status: int
    seconds: float


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def measure_exits(count: int) -> list[Exit]:
    """Fork COUNT children that wait, and end them by SIGTERM and sys.exit(), one after another.

    A child leaves this function by SystemExit and must reach the end of the program: only an
    ordinary end of the interpreter is what is measured here. So callers do not catch it.

    Raises:
        CowfreezeError: a child does not end.
    """
    previous = signal.signal(signal.SIGTERM, _leave)  # inherited, so that no child has to set it
    found: list[Exit] = []
    ready: list[tuple[int, int]] = []
    parent = os.getpid()
    try:
        for _ in range(count):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writer, _FORM.pack(resource.getrusage(resource.RUSAGE_SELF).ru_minflt))
                while True:
                    # Not signal.pause(): a signal between the last bytecode and that call would be
                    # noted, and its handler run only when the next signal ends the pause.
                    time.sleep(_NAP)
            os.close(writer)
            with open(reader, "rb", buffering=0) as pipe:
                ready.append((pid, _FORM.unpack(pipe.read(_FORM.size))[0]))
        while ready:
            pid, before = ready.pop(0)
            found.append(_end(pid, before))
    finally:
        if os.getpid() == parent:
            signal.signal(signal.SIGTERM, previous)
            for pid, _ in ready:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return found


def _end(pid: int, before: int) -> Exit:
    start = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            return Exit(usage.ru_minflt - before, os.waitstatus_to_exitcode(status), seconds)
        if seconds > _LIMIT:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise CowfreezeError(f"a child did not end within {_LIMIT:.0f} s after SIGTERM")
        time.sleep(0.002)
