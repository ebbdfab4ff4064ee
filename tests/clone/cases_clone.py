"""Cases of clone in a process of their own: which pages a worker copies by cloning."""

from __future__ import annotations

import copy
import decimal
import enum
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cowfreeze
from cowfreeze import clone, iter_clone  # not in a worker: what it imports, it copies
from helpers.cases import copied_by, pages_of


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: float
    name: str


def records(n: int) -> Iterator[dict[str, Any]]:
    for i in range(n):
        yield {
            "id": 10_000_000_000 + i,
            "name": f"name {i}",
            "tags": [f"tag {i}", f"also {i}"],
            "position": (i * 0.5, i * 1.5),
            "known": {f"a{i}", f"b{i}"},
            "data": b"%d bytes" % i,
        }


def reachable(root: Any) -> list[Any]:
    """Every object of plain data below root, root included."""
    found, todo, seen = [], [root], set()
    while todo:
        op = todo.pop()
        if id(op) in seen:
            continue
        seen.add(id(op))
        found.append(op)
        if isinstance(op, dict):
            todo += [*op.keys(), *op.values()]
        elif isinstance(op, (list, tuple, set, frozenset)):
            todo += op
        elif hasattr(op, "__dict__") and not isinstance(op, enum.Enum):
            todo += vars(op).values()
    return found


def data_pages(data: list[Any]) -> set[int]:
    """Pages of what the elements of data consist of. Not of data itself, which the caller's own
    frame counts, and not of the dict keys, which are constants of this file's code."""
    keys = {id(key) for record in data for key in record if isinstance(record, dict)}
    return pages_of(op for record in data for op in reachable(record) if id(op) not in keys)


def seal() -> None:
    """Fill up the allocators, so that nothing else lands beside the data, which stays mortal; and
    put it out of the collector's reach."""
    cowfreeze.freeze("nothing of the data")


def cloned(how: str, n: int) -> dict[str, int]:
    """Pages of the data, and how many of them a worker copies by cloning every element."""
    data: list[Any] = []  # counted by this frame: not on the pages that are looked at
    seal()
    # What a freeze frees when it returns are blocks beside objects of the interpreter, which a worker counts
    # before 3.12: a list of the data in one of them would be a page of the data that is copied for another's sake.
    holes = [([], {}, f"hole {i}") for i in range(100)]  # noqa: F841
    data.extend(records(n))
    pages = data_pages(data)
    gc.collect()
    seal()

    def read() -> None:
        gc.disable()
        if how == "iter_clone":
            for _ in iter_clone(data):
                pass
        elif how == "clone":
            for i in range(n):
                clone(data, i, "tags")
        elif how == "whole":
            clone(data)
        elif how == "deepcopy":
            copy.deepcopy(data)
        elif how == "refused":
            for i in range(n):
                try:
                    clone(data, i, "name", 0)
                except TypeError:
                    pass

    copied = copied_by(read)
    assert len(data) == n and not any(cowfreeze.is_frozen(record) for record in data)
    return {"pages": len(pages), "copied": len(copied & pages)}


def instances(n: int) -> dict[str, int]:
    """The same with instances, whose class is counted."""
    data: list[Any] = []
    seal()
    data.extend([Point(i * 0.5, f"name {i}"), Color.RED] for i in range(n))
    pages = pages_of(op for pair in data for op in (pair, pair[0], pair[0].x, pair[0].name))
    gc.collect()
    seal()

    def read() -> None:
        gc.disable()
        for point, color in iter_clone(data):
            assert point.name and color is Color.RED

    copied = copied_by(read)
    return {"pages": len(pages), "copied": len(copied & pages)}


def interrupted(handler: str, refused: bool) -> bool:
    """A signal comes in the middle of a clone; its handler does what it should not be able to do there."""
    data: list[Any] = [decimal.Decimal(i) / 2 for i in range(200_000)]
    if refused:
        for _ in range(200):
            data = [data]
        data = [{key: one for key, one in zip(range(len(data)), data, strict=True)}, threading.Lock()]
    other = {"a": [1, 2, 3]}
    calls = []

    def on_signal(number: int, frame: object) -> None:
        calls.append(number)
        if handler == "clear":
            data.clear()
        elif clone(other) != other:
            os._exit(3)

    expected = None if refused else list(map(str, data))
    signal.signal(signal.SIGALRM, on_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        made = clone(data)
    except TypeError as error:
        return refused and "_thread.lock cannot be cloned" in str(error)
    while not calls:
        time.sleep(0.01)
    return list(map(str, made)) == expected
