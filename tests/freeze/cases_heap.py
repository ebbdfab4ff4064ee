"""Remedies of the whole-heap freeze, each with a planted case that is bad without it."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import cowfreeze
from cowfreeze import _core
from helpers.cases import copied_by, in_worker, is_marked
from freeze.zoo import text

kept: list[Any] = []


def _bytes(size: int) -> bytes:
    """A block of SIZE bytes in all; of bytes(), because nothing warms or counts them."""
    return bytes(size - 33)


def free_chunks(seal: bool) -> dict[str, Any]:
    """malloc's heap is half free: blocks of 600 to 6,000 bytes, every second one kept."""
    blocks = [_bytes(600 + 37 * n % 5400) for n in range(4000)]
    del blocks[::2]
    kept.append(blocks)
    report = cowfreeze.freeze(kept, seal=seal)

    def worker() -> None:
        kept.append([_bytes(600 + 41 * n % 5000) for n in range(1500)])

    return {
        "copied": len(copied_by(worker)),
        "sealed": report.sealed_heap_bytes,
        "notes": list(report.notes),
        "dict": report.to_dict()["sealed_heap_bytes"],
    }


def small_chunks() -> dict[str, Any]:
    """Every size that glibc keeps a list for: one free chunk of each must not be left."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    sizes = [size for size in range(24, 1033, 16) for _ in range(20)]
    blocks = [libc.malloc(size) for size in sizes]
    for block in blocks[::2]:
        libc.free(block)
    cowfreeze.freeze(kept)
    top = max(blocks)
    reused = []
    for size in range(24, 1033, 16):
        block = libc.malloc(size)
        if block <= top:
            reused.append(size)
    return {"reused": reused, "sizes": len(set(sizes))}


def preloaded_malloc() -> dict[str, Any]:
    report = cowfreeze.freeze(kept)
    return {"notes": list(report.notes), "sealed": report.sealed_heap_bytes}


def free_pools(seal: bool) -> dict[str, Any]:
    """Pools that are free as a whole, in arenas that are not: their pages exist."""
    blocks = [_bytes(400) for _ in range(40_000)]
    kept.append(blocks[::400])  # one in ten pools, so that no arena goes back
    del blocks
    gc.collect()
    report = cowfreeze.freeze(seal=seal)

    def worker() -> None:
        kept.append([_bytes(300) for _ in range(10_000)])

    return {"copied": len(copied_by(worker)), "sealed": report.sealed_bytes, "returned": report.returned_bytes}


def type_cache() -> dict[str, Any]:
    """The method cache refers to names that nobody else knows any more."""

    class Holder:
        pass

    names = [f"computed_{n}_{os.getpid()}" for n in range(200)]
    before = [sys.getrefcount(name) for name in names]
    for name in names:
        getattr(Holder, name, None)
    cached = [sys.getrefcount(name) for name in names]
    del name
    cowfreeze.freeze([1])
    after = [sys.getrefcount(name) for name in names]
    return {
        "cached": sum(a > b for a, b in zip(cached, before)),
        "still": sum(a > b for a, b in zip(after, before)),
    }


def shared_keys(seal: bool) -> dict[str, Any]:
    """Workers make instances of frozen classes, and ask one of each for its __dict__."""
    classes = []
    for n in range(400):

        class Fresh:
            def __init__(self) -> None:
                for k in range(6):
                    setattr(self, f"attribute_{k}", k)

        Fresh.__name__ = f"Fresh{n}"
        Fresh()
        classes.append(Fresh)

    class Unused:
        pass

    kept.append((classes, Unused))
    cowfreeze.freeze(seal=seal)
    rooms = [_core.attribute_room(classes[0]), _core.attribute_room(Unused)]

    def worker() -> None:
        for cls in classes:
            instance = cls()
            cls()
            vars(instance)

    copied = len(copied_by(worker))
    instance = classes[0]()
    instance.one_more = 1  # type: ignore[attr-defined]
    instance.and_another = 2  # type: ignore[attr-defined]
    return {"copied": copied, "attributes": len(vars(instance)), "fresh": sorted(vars(classes[1]())), "rooms": rooms}


# -- the warm-up ------------------------------------------------------------


def warmup_calls() -> dict[str, Any]:
    """How often it is called, and in which state it finds the heap."""
    graph = [[text()] for _ in range(10)]
    states: list[bool] = []
    cowfreeze.freeze(graph, warmup=lambda: states.append(is_marked(graph)))
    after = is_marked(graph)
    calls: list[int] = []
    cowfreeze.freeze(warmup=lambda: calls.append(1), relocate_code=True)
    return {"states": states, "after": after, "calls": len(calls)}


def warmup_fails() -> dict[str, Any]:
    """What it raises comes out, and nothing has been marked."""
    graph = [[text()] for _ in range(10)]

    class Unavailable(Exception):
        pass

    def warmup() -> None:
        raise Unavailable("the database")

    caught = []
    for options in ({}, {"relocate_code": True}):
        try:
            cowfreeze.freeze(*(() if options else (graph,)), warmup=warmup, **options)
        except Unavailable as error:
            caught.append(str(error))
    calls: list[int] = []

    def fails_again() -> None:
        calls.append(1)
        if len(calls) == 2 or not _core.HAS_RELOCATION:
            warmup()

    try:
        cowfreeze.freeze(warmup=fails_again, relocate_code=True)
    except Unavailable as error:
        caught.append(str(error))
    wrong = []
    for bad in (5, "warm", [len]):
        try:
            cowfreeze.freeze(graph, warmup=bad)  # type: ignore[arg-type]
        except TypeError as error:
            wrong.append(str(error))
    try:
        cowfreeze.freeze(graph, relocate_code=True)
    except ValueError as error:
        wrong.append(str(error))
    return {"caught": caught, "wrong": wrong, "marked": is_marked(graph), "frozen": _core.frozen_pages(), "kept": _core.bookkeeping_bytes()}


def _functions() -> list[Callable[..., Any]]:
    """Functions whose annotations were never asked for, and a pattern nobody has compiled."""
    names: dict[str, Any] = {}
    source = "".join(f"def function_{n}(a: int, b: 'str', c: list[int] = []) -> dict[str, int]: ...\n" for n in range(300))
    exec(source, names)
    return [names[f"function_{n}"] for n in range(300)]


def warmup_fills() -> dict[str, Any]:
    """Caches that are filled at first use: annotations, patterns."""
    functions = _functions()

    def use() -> None:
        for function in functions:
            assert len(function.__annotations__) == 4
        for n in range(50):
            re.compile(f"[a-{chr(98 + n % 20)}]{{{n + 1}}}(x|y)*")

    cowfreeze.freeze()
    cold = copied_by(use)
    cowfreeze.freeze(warmup=use)
    return {"cold": len(cold), "warm": len(copied_by(use))}


def in_the_worker_too() -> list[int]:
    """What was sealed goes on serving: both sides allocate, free and collect."""
    graph = [[text(), n] for n in range(1000)]
    report = cowfreeze.freeze(warmup=lambda: None)

    def churn() -> int:
        total = 0
        for size in (16, 100, 512, 513, 1024, 5000, 200_000):
            blocks = [bytearray(size) for _ in range(50)]
            total += sum(map(len, blocks))
            blocks = [block + b"x" for block in blocks]
            del blocks
        gc.collect()
        return total

    assert report.objects > 1000
    return [in_worker(churn), in_worker(churn), churn(), len(graph)]


def pools_with_one_free_block() -> dict[str, Any]:
    """Every pool of the largest class has room for one block, as where much was freed here and there."""
    guards = 24 if hasattr(sys, "gettotalrefcount") else 0
    objects: list[bytes | None] = [bytes(bytearray(470 - guards)) for _ in range(31 * 200)]
    seen: set[int] = set()
    for index, one in enumerate(objects):
        if id(one) >> 14 not in seen:  # a pool has 16 KiB
            seen.add(id(one) >> 14)
            objects[index] = None
    del one
    report = cowfreeze.freeze(objects)
    return {"pools": len(seen), "sealed": report.sealed_bytes, "notes": report.notes}


def many_free_blocks() -> dict[str, int]:
    """More free blocks of the largest class than are sealed, each between objects that live."""
    guards = 24 if hasattr(sys, "gettotalrefcount") else 0
    objects = [bytes(bytearray(470 - guards)) for _ in range(1_300_000)]
    living = objects[::16]
    types = [id(one) + 8 for one in living]
    del objects
    report = cowfreeze.freeze()
    zeroed = sum(ctypes.c_size_t.from_address(place).value == 0 for place in types)
    if zeroed:
        os._exit(3)  # they cannot even be dropped
    return {"sealed": report.sealed_bytes, "living": len(living)}
