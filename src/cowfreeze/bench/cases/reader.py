"""The worker's job in `cowfreeze demo` and `bench`: read everything, hash every string, collect.

This module is imported before the fork, so that a worker imports nothing. The reader is the
same in all ways and as light as Python allows: it keeps one iterator per nesting level and a
few numbers, so that the pages it copies are copied because data was *read*, not because the
reader made new objects of its own on them. It does not recurse, because a user's JSON may
nest deeper than the recursion limit.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

Content = tuple[int, int, int, int]  # containers, strings, others, exclusive or of all string hashes

_LEAVES = frozenset({int, float, bool, type(None), bytes, complex})


class Reading(NamedTuple):
    """What one worker read; equal in all workers and ways when the data is equal."""

    containers: int
    strings: int
    others: int
    checksum: int  # all string hashes, combined by exclusive or
    read_seconds: float
    collect_seconds: float

    @property
    def content(self) -> Content:
        """The part that does not depend on the clock."""
        return self[:4]


def visit(items: Iterator[Any]) -> Content:
    """Visit every key and value of and below ITEMS and hash every str.

    A container that only says it is a dict, list or tuple (its `__class__` does, its type is
    another) is read as one: a packed copy must do the same work as the original.
    """
    containers = strings = others = checksum = 0
    levels = [items]
    while levels:
        for item in levels[-1]:
            kind = type(item)
            if kind is str:
                checksum ^= hash(item)
                strings += 1
                continue
            if kind in _LEAVES:
                others += 1
                continue
            if kind is not dict and kind is not list and kind is not tuple:
                kind = item.__class__
            if kind is dict:
                containers += 1
                for key in item:
                    if type(key) is str:
                        checksum ^= hash(key)
                        strings += 1
                    else:
                        others += 1
                levels.append(iter(item.values()))
                break
            elif kind is list or kind is tuple:
                containers += 1
                levels.append(iter(item))
                break
            else:
                others += 1
        else:
            levels.pop()
    return containers, strings, others, checksum


def read(data: Any) -> Reading:
    """Visit every key and value below DATA, hash every str, then run one `gc.collect()`."""
    start = time.perf_counter()
    content = visit(iter((data,)))
    done = time.perf_counter()
    gc.collect()
    return Reading(*content, done - start, time.perf_counter() - done)
