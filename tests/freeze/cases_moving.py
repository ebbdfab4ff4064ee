"""Cases of moved memory: what freeze(remap=True) and freeze(hugepages=True) leave as it was."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pickle
import resource
import struct
import threading
from collections.abc import Callable
from typing import Any

from freeze.pinned import pinned
from helpers.cases import HAS_IMMORTAL, PAGE, Fork, copied_by, in_worker, needs, page_of, pages_of

import cowfreeze
from cowfreeze import _core

NAME = "/memfd:cowfreeze-heap"
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def records(n: int, start: int = 0) -> list[dict[str, Any]]:
    """About 1 KiB each: small blocks, blocks of malloc, and a table with a mapping of its own."""
    return [
        {
            "id": start + i,
            "name": f"name {start + i}",
            "tags": [f"tag {start + i}", i * 0.5],
            "text": f"{start + i} " * 60,
            **({f"key {k}": (i, k) for k in range(16)} if i % 8 == 0 else {}),
        }
        for i in range(n)
    ]


def digest(data: Any) -> str:
    """Of everything that DATA reaches; reads every byte of it."""
    return hashlib.sha256(pickle.dumps(data)).hexdigest()


def addresses(data: list[dict[str, Any]]) -> str:
    return hashlib.sha256(repr([(id(r), [id(v) for v in r.values()]) for r in data]).encode()).hexdigest()


def moved_mappings() -> list[str]:
    with open("/proc/self/maps") as file:
        return [line for line in file if NAME in line]


def resident_anonymous() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Anonymous"))


def in_moved(address: int) -> bool:
    for line in moved_mappings():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return True
    return False


def rewrite(obj: object) -> None:
    """Store the first byte of an object again: a copy of its page, whatever the value."""
    ctypes.memmove(id(obj), ctypes.string_at(id(obj), 1), 1)


def frozen(pages: set[int]) -> set[int]:
    return {page for page in pages if _core.is_frozen_page(page)}


def on_pages_of_their_own(data: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """N records far from each other, in memory that was moved if any was."""
    step = len(data) // n
    chosen = [data[i * step + step // 2] for i in range(n)]
    assert len({page_of(r) for r in chosen}) == n
    return chosen


def audited(data: list[dict[str, Any]], read: Callable[[], Any]) -> dict[str, Any]:
    """What the audit says of a reader, and of planted writes by parent and worker.

    A page at the border of the graph holds frozen objects and what a reader writes; `clean` counts
    them, moved or not, and they are left out of the rest.
    """
    border = frozen(copied_by(read))
    chosen = [r for r in on_pages_of_their_own(data, 40) if page_of(r) not in border]
    before, worker, both, later = chosen[:10], chosen[10:20], chosen[20:30], chosen[30:]
    for r in before + both:
        rewrite(r)
    reading, writing = os.pipe()
    with Fork() as fork:
        if fork.is_worker:
            for r in worker + both:
                rewrite(r)
            os.read(reading, 1)
        else:
            for r in later + worker[:5]:
                rewrite(r)
            os.write(writing, b"x")
    planted = {page_of(r) for r in worker + both}
    parents = {page_of(r) for r in before + later}
    found = frozen(fork.copied)
    return {
        "clean": len(border),
        "planted": len(planted),
        "missed": len(planted - found),
        "wrong": len(parents & found),
        "more": len(found - planted - border),
    }


def explained(data: list[dict[str, Any]]) -> dict[str, Any]:
    """fork_workers' own figures, the names of what a worker changed, and a trap in a worker."""
    chosen = on_pages_of_their_own(data, 12)

    def change(index: int = 0) -> None:
        for r in chosen:
            r["id"] = -1

    def trapped() -> dict[str, Any]:
        with cowfreeze.trap() as reader:
            sum(len(r["text"]) for r in data)
        with cowfreeze.trap() as writer:
            change()
        written = [w.path for w in writer.writes if w.type == "dict" and w.path is not None]
        return {
            # A mortal str, a name in this code, may live on the same page as frozen ones: it has no path.
            "read": sum(w.path is not None for w in reader.writes),
            "wrote": len(writer.writes) >= len(chosen),
            "owners": len(written),
        }

    result = cowfreeze.fork_workers(change, workers=1, explain=True)
    explanation = result.explain()
    named = [c for c in explanation.causes if c.type == "dict"]
    return {
        "frozen_copied": result.frozen_copied,
        "inherited": [result.inherited, resident_anonymous(), _core.remapped_bytes()],
        "named": sum(c.pages for c in named),
        "areas": result.workers[0].copied_by_area,
        "trap": in_worker(trapped),
    }


def remapped() -> dict[str, Any]:
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    data = records(12_000)
    long = list(range(300_000, 900_000))
    was = digest(data), addresses(data), digest(long)
    report = cowfreeze.freeze(data, long, remap=True)
    now = digest(data), addresses(data), digest(long)
    audit = audited(data, lambda: digest([data, long]))
    lines = moved_mappings()
    found = {
        "same": was == now,
        "report": [report.remapped_bytes, report.remapped_mappings, report.hugepage_bytes],
        "dict": {k: v for k, v in report.to_dict().items() if k.startswith(("remap", "huge"))},
        "phases": sorted(report.phases),
        "notes": list(report.notes),
        "private": all(line.split()[1] == "rw-p" for line in lines),
        "mappings": len(lines),
        "audit": audit,
        "moved": sum(in_moved(id(r)) for r in data[::100]) / len(data[::100]),
        "sealed": [is_sealed(line) for line in lines[:1]],
        "explained": explained(data),
    }
    return found


def is_sealed(line: str) -> bool:
    """Can nobody write the file, not even through /proc/self/map_files?"""
    try:
        with open(f"/proc/self/map_files/{line.split()[0]}", "r+b", buffering=0) as file:
            file.write(b"x")
    except PermissionError:
        return True
    except OSError as error:
        return error.errno in (1, 2)  # EPERM by the seal; ENOENT: no such folder here
    return False


def whole_heap() -> dict[str, Any]:
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    data = records(6_000)
    was = digest(data)
    report = cowfreeze.freeze(remap=True)
    garbage = [[str(i)] * 20 for i in range(20_000)]
    del garbage
    more = records(2_000, 9_000)
    return {
        "same": was == digest(data) and more[5]["id"] == 9005,
        "bytes": report.remapped_bytes,
        "clean": len(pages_of(data) & copied_by(lambda: [r["text"].upper() for r in data])),
    }


def grows() -> dict[str, Any]:
    """realloc() of a table that was moved, dicts that get new tables, in parent and worker."""
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    longs = [list(range(i, i + 200_000)) for i in range(6)]
    table = {i: str(i) for i in range(60_000)}
    report = cowfreeze.freeze(longs, table, remap=True)

    def grow() -> bool:
        for i, long in enumerate(longs):
            for _ in range(6):
                long.extend(range(100_000))
            del long[:: 2]
            assert len(long) == 400_000 and long[1] == i + 3 and long[-1] == 99_999
        table.update((-i, "new") for i in range(1, 80_000))
        assert table[59_999] == "59999" and table[-5] == "new"
        return True

    return {"bytes": report.remapped_bytes, "worker": in_worker(grow), "parent": grow()}


def again() -> dict[str, Any]:
    """A second freeze moves what is new; a worker's worker shares all of it."""
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    first = records(6_000)
    one = cowfreeze.freeze(first, remap=True)
    lines = len(moved_mappings())
    second = records(6_000, 6_000)
    both = digest([first, second])
    two = cowfreeze.freeze(first, second, remap=True)

    def worker() -> list[Any]:
        def inner() -> list[Any]:
            copied = frozen(copied_by(lambda: digest([first, second])))
            return [digest([first, second]) == both, len(copied)]

        return [*inner(), *in_worker(inner)]

    return {
        "bytes": [one.remapped_bytes, two.remapped_bytes],
        "more": len(moved_mappings()) > lines,
        "trees": in_worker(worker),
        "parent": digest([first, second]) == both,
    }


# -- refusals and failures ---------------------------------------------------


def refusal(data: Any, **options: Any) -> str:
    """What freeze says; it must not have frozen anything."""
    try:
        cowfreeze.freeze(data, threads="allow", **options)
    except (cowfreeze.CowfreezeError, ValueError, MemoryError) as error:
        assert not HAS_IMMORTAL or not cowfreeze.is_frozen(data), "refused, and frozen all the same"
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def refused_here(option: str) -> dict[str, str]:
    data = records(100)
    found = {"both": refusal(data, remap=True, hugepages=True)}
    ask = {option: True}
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    found["threads"] = refusal(data, **ask)
    event.set()
    thread.join()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reading, 1)
        os._exit(0)
    # One that ends within 10 ms, as the joined one above may: that is no reason to refuse.
    ending = ctypes.c_ulong()
    body = ctypes.cast(libc.usleep, ctypes.c_void_p)
    assert libc.pthread_create(ctypes.byref(ending), None, body, ctypes.c_void_p(10_000)) == 0
    found["sharers"] = refusal(data, **ask)
    os.write(writing, b"x")
    os.waitpid(pid, 0)
    page = libc.mmap(None, PAGE, 3, 0x22, -1, 0)
    if libc.mlock(page, PAGE) == 0:
        found["locked"] = refusal(data, **ask)
    libc.munmap(page, PAGE)
    with pinned() as here:
        if here:
            found["pinned"] = refusal(data, **ask)
    return found


def refused_memfd(by: str) -> str:
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    data = records(100)
    if by == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    else:
        needs(os.uname().machine == "x86_64", "the filter is written for x86-64")
        forbid(319)  # memfd_create
    return refusal(data, remap=True)


def refused_malloc() -> str:
    return refusal(records(100), remap=True) if HAS_IMMORTAL else ""


def forbid(number: int) -> None:
    """A seccomp filter that answers system call NUMBER with EPERM."""
    program = b"".join(
        struct.pack("<HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number
            (0x15, 0, 1, number),
            (0x06, 0, 0, 0x00050001),  # SECCOMP_RET_ERRNO | EPERM
            (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        )
    )
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    argument = ctypes.create_string_buffer(head)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(argument)), 0, 0) == 0


def refused_mappings() -> dict[str, Any]:
    """With nearly as many mappings as the kernel allows."""
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    with open("/proc/sys/vm/max_map_count") as file:
        limit = int(file.read())
    needs(limit <= 200_000, f"vm.max_map_count is {limit}")
    data = records(3_000)
    made = 0
    while made < limit - 900:
        # Neighbours with different rights are not joined.
        if libc.mmap(None, PAGE, 1 if made % 2 else 3, 0x22, -1, 0) in (None, ctypes.c_void_p(-1).value):
            break
        made += 1
    return {"made": made, "text": refusal(data, remap=True)}


def refused_memory() -> str:
    """Without address space for the books."""
    data = records(3_000)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), -1))
    try:
        return refusal(data, remap=True)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))


def shared_with_parent() -> str:
    """A worker that was forked after the freeze has its parent's pages."""
    data = records(3_000)
    cowfreeze.freeze(data)

    def worker() -> str:
        try:
            cowfreeze.freeze(data, remap=True, allow_forked=True)
        except cowfreeze.CowfreezeError as error:
            return str(error)
        return "nothing was refused"

    return str(in_worker(worker))


def half_way() -> dict[str, Any]:
    """The N-th step fails; then what was moved is moved back, and the next call moves all."""
    needs(HAS_IMMORTAL, "remap needs immortal objects")
    data = records(8_000)
    was = digest(data), addresses(data)
    cowfreeze.freeze(data)
    failed = []
    n = 0
    while True:
        n = n + 1 if n < 4 else n * 3 // 2
        _core.fail_remap(n)
        report = cowfreeze.freeze(data, remap=True)
        if report.remapped_bytes:
            break
        assert not moved_mappings(), n
        assert (digest(data), addresses(data)) == was, n
        failed.append(list(report.notes))
    _core.fail_remap(-1)
    return {
        "failed": len(failed),
        "notes": failed[0],
        "bytes": report.remapped_bytes,
        "same": (digest(data), addresses(data)) == was,
        "bookkeeping": _core.bookkeeping_bytes() >= 0,
        "audit": audited(data, lambda: digest(data)),
    }


# -- huge pages --------------------------------------------------------------


def anonymous_huge() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("AnonHugePages"))


def huge() -> dict[str, Any]:
    data = records(16_000)
    was = digest(data), addresses(data)
    before = anonymous_huge()
    try:
        report = cowfreeze.freeze(data, hugepages=True)
    except cowfreeze.CowfreezeError as error:
        needs("huge pages" not in str(error) and "no memory" not in str(error), str(error))
        raise
    gained = anonymous_huge() - before
    needs(report.hugepage_bytes > 0, f"the kernel had no huge page to give: {report.notes}")
    second = cowfreeze.freeze(records(9_000), hugepages=True)
    result: dict[str, Any] = {
        "same": was == (digest(data), addresses(data)),
        "bytes": report.hugepage_bytes,
        "gained": gained,
        "notes": list(report.notes),
        "second": second.hugepage_bytes,
        "remapped": report.remapped_bytes,
    }
    if HAS_IMMORTAL:
        result["audit"] = audited(data, lambda: digest(data))
    return result


def huge_disabled() -> str:
    assert libc.prctl(41, 1, 0, 0, 0) == 0  # PR_SET_THP_DISABLE
    return refusal(records(100), hugepages=True)


if __name__ == "__main__":
    import sys

    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:]), indent=1))
