"""What the scenarios share: areas of memory whose truth is known, and workers that measure."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from cowfreeze import _core

PAGE = mmap.PAGESIZE
PAGES = 16 * (1 << 20) // PAGE  # of an area
PR_SET_DUMPABLE = 4
PR_GET_THP_DISABLE = 42
LIBC = ctypes.CDLL(None, use_errno=True)
Report = dict[str, Any]


def prctl(option: int, value: int = 0) -> int:
    return int(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


class Area:
    """Private memory whose pages are written one by one."""

    def __init__(self, huge: bool = False, fd: int = -1, pages: int = PAGES, fill: bool = True) -> None:
        flags = mmap.MAP_PRIVATE if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.map = mmap.mmap(fd, pages * PAGE, flags=flags)
        if fd < 0:
            self.map.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        pointer = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(pointer)
        del pointer
        self.pages = pages
        if fill:
            self.write(range(pages), 1)

    def write(self, pages: Iterable[int], value: int) -> None:
        for page in pages:
            self.map[page * PAGE + page % PAGE] = value

    def some(self, seed: int, count: int) -> list[int]:
        return random.Random(seed).sample(range(self.pages), count)

    def addresses(self, pages: Iterable[int]) -> set[int]:
        return {self.address + page * PAGE for page in pages}

    def copied(self, witness: _core.Witness) -> set[int]:
        end = self.address + self.pages * PAGE
        return {a for a in _core.copied_addresses(witness) if self.address <= a < end}


def record_of(
    audit: _core.WorkerAudit, pages: _core.PageList | None = None, since: bool = False
) -> Report:
    reading, writing = os.pipe()
    audit.measure_into(writing, pages, since)
    data = os.read(reading, 4096)
    os.close(reading)
    os.close(writing)
    return _core.decode_record(data)


def judged(area: Area, witness: _core.Witness, audit: _core.WorkerAudit, truth: set[int]) -> Report:
    """The worker's report. Both ways of asking must see the same."""
    record = record_of(audit)
    report: Report = {"truth": len(truth), "record": record}
    if record["copied_pages"] is not None:
        copied = area.copied(witness)
        report["false_positives"] = len(copied - truth)
        report["false_negatives"] = len(truth - copied)
    return report


class Worker:
    """A forked process that runs `target` and pipes its report up."""

    def __init__(self, target: Callable[[], Report]) -> None:
        reading, writing = os.pipe()
        self.go_read, self.go_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(reading)
                os.close(self.go_write)
                os.dup2(writing, 1)  # where also a worker that closes everything above 2 finds it
                if self.go_read != 0:
                    os.dup2(self.go_read, 0)
                data = json.dumps(target()).encode()
                while data:
                    data = data[os.write(1, data) :]
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        os.close(self.go_read)
        self.reading = reading

    def go(self) -> None:
        """Let a worker on that waits in wait_for_go()."""
        os.write(self.go_write, b"g")

    def report(self) -> Report:
        with open(self.reading, "rb") as stream:
            data = stream.read()
        _, status = os.waitpid(self.pid, 0)
        if status != 0:
            raise SystemExit(f"the worker ended with wait status {status}")
        os.close(self.go_write)
        return dict(json.loads(data))


def wait_for_go() -> None:
    if os.read(0, 1) != b"g":
        raise SystemExit("the parent is gone")


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def exists(pid: int) -> bool:
    """Is there such a process, and is it not a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def huge_bytes(area: Area) -> int:
    """How much of the area huge pages map."""
    inside = False
    total = 0
    with open("/proc/self/smaps") as stream:
        for line in stream:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                start, end = (int(part, 16) for part in head.split("-"))
                inside = start < area.address + area.pages * PAGE and area.address < end
            elif inside and head == "AnonHugePages:":
                total += int(line.split()[1]) * 1024
    return total


def drop_to(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
