"""How much memory this process holds and how much more it may take."""

from __future__ import annotations

import os


def resident_bytes() -> int:
    """The resident set of this process, in bytes (psutil: VmRSS)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_memory() -> int | None:
    """Bytes that can still be used before the kernel reclaims or kills; None when unknown.

    The smaller of MemAvailable and the room that the memory control groups leave: in a container
    MemAvailable is the host's and the group's limit is what kills.
    """
    import psutil

    from cowfreeze._system.cgroup import memory_groups, tightest
    from cowfreeze._system.proc import Unreadable

    limits = [int(psutil.virtual_memory().available)]
    try:
        group = tightest(memory_groups(os.getpid()))
    except Unreadable:
        group = None  # the groups' files are not visible from here, so MemAvailable is all there is
    if group is not None and group.room is not None:
        limits.append(group.room)
    return min(limits)


def warm(size: int) -> int:
    """Touch SIZE bytes and give them back; returns the bytes touched.

    A virtual machine backs memory at its first touch only, which costs five times as much as
    later touches and would be charged to whichever mode happens to run first.
    """
    import mmap

    if size <= 0:
        return 0
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1
    return size


def program(order: str) -> int:
    """`warm` in a room of its own (bench/fresh_interpreter.py)."""
    import json

    warm(json.loads(order)["bytes"])
    return 0
