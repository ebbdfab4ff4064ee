"""The worker's job in `cowfreeze demo`: read everything, hash every string, collect.

This module is imported before the fork, so that a worker imports nothing. The reader is the
same in all three ways and as light as Python allows: it keeps one iterator per nesting level
and a few numbers, so that the pages it copies are copied because data was *read*, not because
the reader made new objects of its own on them. It does not recurse, because a user's JSON may
nest deeper than the recursion limit.
"""

from __future__ import annotations

import gc
import time
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """What one worker read; equal in all workers and ways when the data is equal."""

    containers: int
    strings: int
    others: int
    checksum: int  # all string hashes, combined by exclusive or
    read_seconds: float
    collect_seconds: float

    @property
    def content(self) -> tuple[int, int, int, int]:
        """The part that does not depend on the clock."""
        return self[:4]


def read(data: Any) -> Reading:
    """Visit every key and value below DATA, hash every str, then run one `gc.collect()`."""
    start = time.perf_counter()
    containers = strings = others = checksum = 0
    levels = [iter((data,))]
    while levels:
        for item in levels[-1]:
            kind = type(item)
            if kind is str:
                checksum ^= hash(item)
                strings += 1
            elif kind is dict:
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
    done = time.perf_counter()
    gc.collect()
    return Reading(containers, strings, others, checksum, done - start, time.perf_counter() - done)
