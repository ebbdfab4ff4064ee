"""Depth costs no C stack: chains of containers, each holding the next."""

from __future__ import annotations

import gc
import mmap
import resource
from collections.abc import Callable
from typing import Any

import cowfreeze
from helpers.cases import is_marked

MAP_NORESERVE = 0x4000  # mmap(2); the module has the name since 3.13

WRAP: dict[str, Callable[[Any], Any]] = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner,),
    "dict": lambda inner: {"k": inner},
}


class Node:
    __slots__ = ("next",)

    def __init__(self, inner: Any) -> None:
        self.next = inner


WRAP["instance"] = Node


def chain(kind: str, levels: int) -> dict[str, Any]:
    """Freeze a chain, walk down it, and say how many levels are not marked."""
    gc.disable()  # its passes over the chain that grows would take most of the time
    chained: Any = ["bottom"]
    bottom = chained
    if kind == "list":
        for _ in range(levels):
            chained = [chained]
    elif kind == "tuple":
        for _ in range(levels):
            chained = (chained,)
    elif kind == "dict":
        for _ in range(levels):
            chained = {"k": chained}
    else:
        wrap = WRAP[kind]
        for _ in range(levels):
            chained = wrap(chained)
    report = cowfreeze.freeze(chained)
    unmarked, level, met = 0, chained, 0
    while level is not bottom:
        unmarked += not is_marked(level)
        met += 1
        if kind == "dict":
            level = level["k"]
        elif kind == "instance":
            level = level.next
        else:
            level = level[0]
    return {
        "unmarked": unmarked + (not is_marked(bottom[0])),
        "objects": report.objects >= levels,
        "met": met >= levels,
        "bytes_per_object": report.peak_extra_bytes / report.objects,
        "stack": resource.getrlimit(resource.RLIMIT_STACK)[0],
    }


def wide(n: int) -> dict[str, Any]:
    """One list of n lists: the to-do list stays small."""
    rows = [[k] for k in range(n)]
    report = cowfreeze.freeze(rows, seal=False)
    return {
        "unmarked": sum(not is_marked(row) for row in rows),
        "bytes_per_object": report.peak_extra_bytes / report.objects,
    }


def cycles() -> dict[str, Any]:
    """Objects that hold themselves and each other."""
    one: list[Any] = []
    two: dict[str, Any] = {"one": one}
    one += [one, two]
    node = Node(None)
    node.next = [node, two]
    two["node"] = node
    cowfreeze.freeze(one)
    return {"unmarked": [type(o).__name__ for o in (one, two, node, node.next) if not is_marked(o)]}


def beside_reserved_memory(gib: int) -> dict[str, Any]:
    """Freeze a little beside much address space that was never written: its page faults."""
    size = gib << 30
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    with mmap.mmap(-1, size, flags=flags):
        data = [[n] for n in range(1000)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        report = cowfreeze.freeze(data)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"faults": faults, "objects": report.objects}
