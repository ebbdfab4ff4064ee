"""Cases of pack for values beyond JSON's, in a process of their own."""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import heapq
import os
import resource
import signal
import sys
import uuid
from decimal import Decimal
from typing import Any, NamedTuple

import cowfreeze
from cowfreeze import fork_workers, pack  # before anything is measured: the first use of a name loads modules
from helpers.cases import HAS_IMMORTAL, needs


class Row(NamedTuple):
    key: Any
    when: Any
    price: Any
    items: Any


class Slotted:
    __slots__ = ("a", "b")


class Plain:
    pass


def rows(n: int) -> list[Any]:
    zone = dt.timezone(dt.timedelta(hours=1))
    start = dt.datetime(2020, 1, 1, tzinfo=zone)
    # Before 3.12 instances lie outside, where a reader copies them; there the rest is measured.
    key = uuid.UUID if HAS_IMMORTAL else lambda int: (int, "id")
    return [
        Row(key(int=i), start + dt.timedelta(minutes=i), Decimal(i) / 100, {"days": {dt.date.fromordinal(1 + i)}, "r": range(i + 300)})
        for i in range(n)
    ]


def shared(n: int) -> dict[str, Any]:
    """Two workers read, hash and add everything."""

    def read(data: Any) -> int:
        total = 0
        for row in data:
            key, when, price, items = row
            total += hash(key) + hash(when) + hash(price) + when.year + len(items["r"]) + hash(row[:3])
            total += sum(day.day for day in items["days"]) + len(str(price)) + len(when.isoformat())
        return total

    source = rows(n)
    expected = read(source)
    data = pack(source)
    del source
    gc.collect()
    gc.freeze()

    def worker(index: int) -> bool:
        same = read(data) == expected
        gc.collect()
        return same

    result = fork_workers(worker, 2)
    return {
        "same": all(result.results),
        "copied": max(w.copied_pages or 0 for w in result.workers) * os.sysconf("SC_PAGE_SIZE"),
        "frozen": max(w.frozen_copied_pages or 0 for w in result.workers),
        "known": all(w.copied_pages is not None for w in result.workers),
    }


def written() -> dict[str, Any]:
    """Each worker writes what Python code can write; the others must not see it."""
    slotted, plain = Slotted(), Plain()
    slotted.a, slotted.b, plain.x = 1, [1], 2
    data = pack({"s": [slotted] * 3, "p": plain, "l": [1, 2]})
    exact = pack({"l": [1, 2], "d": {"a": 1}, "s": {1}}, readonly=False)

    def worker(index: int) -> None:
        for i in range(200):
            data["s"][0].a, data["s"][0].b = [index], {"k": i}
            data["p"].x = data["p"].y = [index, i]
            setattr(data["p"], f"z{i}", i)
            exact["l"].append(index)
            exact["d"][f"k{i}"] = [index]
            exact["s"].add(i)
            exact[f"new{i}"] = []
        gc.collect()
        assert data["s"][0].a == [index] and exact["d"]["k0"] == [index] and len(exact["l"]) == 202

    result = fork_workers(worker, 2)
    same = data["s"][0].a == 1 and data["s"][0].b == [1] and vars(data["p"]) == {"x": 2}
    return {
        "outcomes": [w.outcome for w in result.workers],
        "same": same and exact == {"l": [1, 2], "d": {"a": 1}, "s": {1}},
        "repaired": cowfreeze.repair_packed(),
    }


def wild() -> dict[str, Any]:
    """C code that writes to a packed list: on 3.10 and 3.11 its worker dies, the report says why, headers are restored."""
    data = pack({"list": [3, 1, 2], "d": {"a": 1, "b": 2}})

    def worker(index: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        ctypes.pythonapi.PyDict_DelItem(ctypes.py_object(data["d"]), ctypes.py_object("a"))
        heapq.heappop(data["list"])

    (report,) = fork_workers(worker, 1).workers
    return {
        "killed": report.outcome == "killed",
        "status": report.status,
        "same": data == {"list": [3, 1, 2], "d": {"a": 1, "b": 2}},
        "left": cowfreeze.repair_packed(),
    }


def shm_full() -> dict[str, bool]:
    """Packed memory is not in /dev/shm: it works where that is full."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private_recursive = 0x00020000, 0x4000 | 0x40000
    needs(os.path.isdir("/dev/shm"), "there is no /dev/shm here")
    needs(libc.unshare(new_namespace) == 0, "mount namespaces are not allowed here")
    needs(libc.mount(b"none", b"/", None, private_recursive, None) == 0, "mounts cannot be made private here")
    needs(libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k") == 0, "a tmpfs cannot be mounted here")
    full = False
    try:
        with open("/dev/shm/filler", "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
    except OSError:
        full = True
    data = [f"text {i}" for i in range(20_000)]
    return {"full": full, "packed": pack(data) == data and sys.getsizeof(data) > 65536}


def notes_of_a_freeze() -> list[str]:
    return list(cowfreeze.freeze(["x" * 50]).notes)
