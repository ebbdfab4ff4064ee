"""Cases of pack in a process of their own: what workers copy, and what kills them."""

from __future__ import annotations

import ctypes
import functools
import gc
import heapq
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cowfreeze
from cowfreeze import fork_workers, pack  # before anything is measured: the first use of a name loads modules
from clone.cases_clone import records
from cowfreeze import _core, _pack
from helpers.cases import HAS_IMMORTAL, Fork, copied_by, is_marked, needs, page_of, pages_of, raw

api = ctypes.pythonapi


def read_all(data: Any) -> int:
    """Touch every value the ways that programs do."""
    total = 0
    for record in data:
        for key, value in record.items():
            total += hash(key) + len(str(value))
        total += hash(record["position"]) + hash(record["name"]) + len({**record}) + len(dict(record))
        total += len([*record["tags"]]) + len(record["known"] | {1})
    return total


class Loose:
    def __init__(self, x: str) -> None:
        self.x = x


class Holder:
    __slots__ = ("a",)
    a: Any


def shared(n: int) -> dict[str, int]:
    """What two workers copy that read everything, twice, and collect."""
    expected = read_all(list(records(n)))
    data = pack(list(records(n)))
    gc.collect()
    gc.freeze()

    def worker(index: int) -> bool:
        same = read_all(data) == expected == read_all(data)
        gc.collect()
        return same

    result = fork_workers(worker, 2)
    assert result.results == (True, True)
    return {
        "copied": max(w.copied_pages or 0 for w in result.workers) * os.sysconf("SC_PAGE_SIZE"),
        "frozen": max(w.frozen_copied_pages or 0 for w in result.workers),
        "known": all(w.copied_pages is not None for w in result.workers),
        "packed": _core.packed_bytes(),
    }


def planted() -> dict[str, Any]:
    """A write to a packed header, past the interpreter."""
    data = pack([[f"text {i}" for i in range(2000)]])
    pages = pages_of(data[0])
    target = data[0][1000]
    header = raw(target)

    def write() -> None:
        ctypes.memmove(id(target) + 16, raw(target)[16:24] or b"\0", 8)
        word = ctypes.c_int64.from_address(id(target) + 24)
        word.value = word.value  # the hash: the same bytes, but written

    with Fork() as fork:
        if fork.is_worker:
            write()
    return {
        "pages": len(pages),
        "copied": len(fork.copied & pages),
        "right": fork.copied & pages == {page_of(target)},
        "frozen_page": _core.is_frozen_page(id(target)),
        "is_frozen": cowfreeze.is_frozen(target) and cowfreeze.is_frozen(data),
        "unchanged": raw(target) == header,
    }


def many(n: int) -> list[int]:
    """A freeze needs address space for what lies between mappings; many packs do not spread.
    Returns the sizes that came out wrong."""
    packed = [pack([{"n": i, "text": "x" * i}] * 3) for i in range(n)]
    cowfreeze.freeze(packed)
    cowfreeze.freeze()
    return [i for i in range(n) if packed[i] != [{"n": i, "text": "x" * i}] * 3]


def explained() -> dict[str, Any]:
    """sys.intern of packed strings writes their state: what an explanation says of these pages."""
    data = pack({"words": [[f"text {i}" for i in range(2000)], {1, 2}]})
    gc.collect()
    gc.freeze()

    def worker(index: int) -> None:
        for word in data["words"][0][::500]:
            sys.intern(word)

    result = fork_workers(worker, 1, explain=True)
    (explanation,) = result.explanations
    found = [
        cause.to_dict()
        for address, main in zip(explanation.addresses, explanation.main)
        for cause in [explanation.causes[main]]
        if _core.is_frozen_page(address)
    ]
    return {
        "frozen": result.workers[0].frozen_copied_pages,
        "types": sorted({cause["type"] for cause in found}),
        "fields": sorted({cause["field"] for cause in found}),
        "paths": sorted({str(cause["path"]) for cause in found}),
        "notes": list(explanation.notes),
    }


def status_of(action: Callable[[], Any]) -> int:
    """The exit status of a worker that runs the action; -N: signal N; 77: TypeError."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(20)
        try:
            action()
        except (TypeError, SystemError):
            os._exit(77)
        except BaseException:
            os._exit(78)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def writers() -> dict[str, Callable[[Any], Any]]:
    """C code that writes to a container without asking its type; p: see `broken`."""
    ob = ctypes.py_object

    return {
        "PyDict_SetItem": lambda p: api.PyDict_SetItem(ob(p), ob("new"), ob(1)),
        "PyDict_SetItem, old key": lambda p: api.PyDict_SetItem(ob(p), ob("list"), ob(1)),
        "PyDict_SetItem, int key": lambda p: api.PyDict_SetItem(ob(p), ob(5), ob(1)),
        "PyDict_SetItem, full": lambda p: api.PyDict_SetItem(ob(p["full"]), ob("new"), ob(1)),
        "PyDict_SetItem, empty": lambda p: api.PyDict_SetItem(ob(p["no dict"]), ob("new"), ob(1)),
        "PyDict_DelItem": lambda p: api.PyDict_DelItem(ob(p), ob("list")),
        "PyDict_Clear": lambda p: api.PyDict_Clear(ob(p)),
        "PyList_Append": lambda p: api.PyList_Append(ob(p["list"]), ob(1)),
        "PyList_Append, empty": lambda p: api.PyList_Append(ob(p["no list"]), ob(1)),
        "PyList_SetSlice": lambda p: api.PyList_SetSlice(ob(p["list"]), 0, 9, None),
        "PyList_Sort": lambda p: api.PyList_Sort(ob(p["list"])),
        "PyList_Reverse": lambda p: api.PyList_Reverse(ob(p["list"])),
        "heappush": lambda p: heapq.heappush(p["list"], 0),
        "heappop": lambda p: heapq.heappop(p["list"]),
        "heappop, one": lambda p: heapq.heappop(p["one"]),
        "heapify": lambda p: heapq.heapify(p["list"]),
        "exec": lambda p: exec("made_by_exec = 1", p),
        "PySet_Add": lambda p: api.PySet_Add(ob(p["set"]), ob(77)),
        "PySet_Clear": lambda p: api.PySet_Clear(ob(p["set"])),
    }


def broken() -> dict[str, list[Any]]:
    """What becomes of each writer, and whether others still see the data: [status, same before
    the repair, headers repaired, same after it]."""
    source = {
        "list": [3, 1, 2], "one": [1], "set": {1, 2}, "full": {str(i): i for i in range(5)},
        "full too": {str(i): i for i in range(10)}, "no dict": {}, "no list": [], "text": "x" * 50,
    }  # fmt: skip
    result: dict[str, list[Any]] = {}
    for name, write in writers().items():
        p = pack(source)
        status = status_of(functools.partial(write, p))
        same = p == source
        repaired = cowfreeze.repair_packed()
        result[name] = [status, same, repaired, p == source and cowfreeze.repair_packed() == 0]
    return result


def state() -> tuple[int, int, int]:
    with open("/proc/self/maps") as stream:
        maps = sum("cowfreeze-" in line for line in stream)
    return len(os.listdir("/proc/self/fd")), maps, _core.packed_bytes()


def failures() -> dict[str, bool]:
    """Limits that make pack fail half-way leave nothing behind."""
    good = list(records(20_000))
    bad = [*good, object()]
    pack([1, "x"])
    before = state()
    results = {}
    try:
        pack(bad)
    except TypeError as error:
        results["type"] = "data[20000]: object cannot be packed" in str(error)
    results["type leaves nothing"] = state() == before
    for n in range(1, 6):
        _core.fail_allocation(n)
        try:
            pack(bad)
        except MemoryError:
            results[f"book-keeping {n}"] = True
        except TypeError:
            results["enough book-keeping"] = True
        _core.fail_allocation(-1)
    results["book-keeping leaves nothing"] = state() == before
    return results


def file_size_limit() -> dict[str, bool]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = state()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        pack(list(records(20_000)))
    except MemoryError as error:
        return {"said": "ulimit -f" in str(error), "nothing left": state() == before}
    return {"no error": False}


def address_space_limit() -> dict[str, bool]:
    data = list(records(20_000))
    before = state()
    with open("/proc/self/statm") as stream:
        size = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (6 << 20), limits[1]))
    try:
        pack(data)
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        left = state() == before
        packed = pack(data)
        return {"nothing left": left, "works again": packed == data}
    return {"no error": False}


def memfd_forbidden() -> dict[str, bool]:
    """Under a seccomp filter that answers memfd_create with EPERM (x86-64)."""
    needs(os.uname().machine == "x86_64", "the filter is written for x86-64")
    libc = ctypes.CDLL(None, use_errno=True)
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, 319), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    bpf = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    head = ctypes.create_string_buffer(bpf)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.prctl(22, 2, ctypes.byref(head), 0, 0) != 0:
        needs(False, "seccomp filters are not allowed here")
    before = state()
    try:
        pack([1, 2])
    except OSError as error:
        return {"said": "memfd_create is not allowed" in str(error), "nothing left": state() == before}
    return {"no error": False}


def stress(workers: int, seconds: float) -> dict[str, Any]:
    """Workers count the same objects at the same time; values and headers must stay right."""
    source = [{"a": [i, f"x{i}"], "t": (i * 1000, f"y{i}"), "s": {f"z{i}"}} for i in range(50)]
    data = pack(source)

    def worker(index: int) -> int:
        end = time.monotonic() + seconds
        changes = 0
        while time.monotonic() < end:
            many = [[d, d["a"], d["t"], *d["a"], *d["t"]] * 20 for d in data]
            changes += 2 * sum(map(len, many))
            del many
        assert data == source and [dict(d) for d in data] == source
        return changes

    result = fork_workers(worker, workers, timeout=seconds + 60)
    counts = [sys.getrefcount(x) for d in data for x in (d["t"], d["a"][1])]
    drift = max(abs(count - (1 << 60)) for count in counts) if not HAS_IMMORTAL else 0
    return {
        "changes": sum(result.results),
        "same": data == source,
        "drift": drift,
        "repaired": cowfreeze.repair_packed(),
    }


def copied_by_reading(n: int) -> int:
    """Pages of packed memory that reading copies."""
    data = pack(list(records(n)))
    pages = pages_of(data)
    return len(copied_by(lambda: read_all(data)) & pages)


def arrays_and_threads() -> dict[str, Any]:
    """NumPy lets other threads run while it copies; one of them drops what is being packed."""
    try:
        import numpy as np
    except ImportError:
        needs(False, "numpy is not installed")
    data = [np.arange(300_000) + i for i in range(60)]
    expected = [int(one[7]) for one in data]
    gone = []

    def drop() -> None:
        time.sleep(0.005)
        data.clear()
        gone.append([bytes(480) for _ in range(50)])

    sys.setswitchinterval(1e-4)
    thread = threading.Thread(target=drop)
    thread.start()
    packed = pack(data)
    thread.join()
    return {"dropped": len(gone), "same": [int(one[7]) for one in packed] == expected[: len(packed)]}


def keeper_without_memory() -> dict[str, Any]:
    """There is memory to pack, and none to freeze what packed slots refer to without counting it."""
    holder = Holder()
    holder.a = Loose("text")
    look, reports = _pack.look_at_layouts, []

    def fail() -> None:
        look()
        _core.fail_allocation(1)

    _pack.look_at_layouts = fail
    packed = pack(holder, report=reports.append)
    _core.fail_allocation(-1)
    value = packed.a
    packed.a = None  # its slot counts nothing: what was there must live on
    kept = _pack._kept[-1]
    others = [Loose(str(i)) for i in range(5)]
    return {
        "told": any("no memory to freeze" in note for note in reports[0].notes),
        "alive": value.x == "text" and not any(one is other for one in kept for other in others),
        "marked": all(is_marked(one) for one in kept),
        "tracked": any(map(gc.is_tracked, kept)),
    }


def freeze_behind_pack() -> list[bool]:
    """What guards packed tables hides the allocator's name from those who ask CPython."""
    before = cowfreeze.freeze([object()])._counts.in_malloc
    pack([1, "text", {"key": [2.5]}])
    return [before, cowfreeze.freeze([object()])._counts.in_malloc]
