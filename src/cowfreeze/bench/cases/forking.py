"""What a fork costs against the size of the process: latency, and forks per second.

    size   0 ── 128 MiB ── 256 MiB ── ... doubled up to --size
    each:  fork, exit at once, wait; median of at least 20

The memory is a real heap (a list of 400-byte objects in pymalloc's arenas), not one anonymous
mapping, because modes differ in what they do with a heap. Each mode grows in one process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.children import measure_forks
from cowfreeze.bench.memory import available_memory, resident_bytes
from cowfreeze.bench.modes import MODES, Unavailable

MIB = 1 << 20
FIRST = 128  # MiB of the first step above 0
_BYTES = 367  # bytes objects of 400 bytes: 33 are the header and the final zero
_WHY_NOT = "it changes nothing about a fork's cost that the other modes do not show"


def _objects(mebibytes: int) -> list[bytes]:
    count = mebibytes * MIB * 99 // 100 // (400 + 8)  # 8: the list's pointer
    return [bytes(_BYTES) for _ in range(count)]


def steps(size: int) -> list[int]:
    """The sizes in MiB: 0, then doubled from `FIRST` up to SIZE."""
    found = [0]
    step = min(FIRST, size)
    while step <= size:
        found.append(step)
        step *= 2
    return found


def run(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """The curve of one mode: a row with `points` of (resident bytes, fork s, cycle s)."""
    mode = MODES[order["mode"]]
    mode.before()
    if mode.name == "hugepages":
        from cowfreeze.bench import hugepages  # noqa: F401  (imported before the first fork)
    kept: list[Any] = []
    points: list[tuple[int, float, float]] = []
    notes: tuple[str, ...] = ()
    previous = 0
    for step in steps(order["size"]):
        more = (step - previous) * MIB
        free = available_memory()
        if free is not None and more * (2 if mode.name == "pack" else 1) * 1.2 > free:
            notes += (f"stopped below {step} MiB: too little memory",)
            break
        tell(stage=f"{step} MiB")
        data = _objects(step - previous)
        if data:
            try:
                kept.append(mode.apply(data).view)
            except Unavailable:
                if mode.name != "hugepages":
                    raise
        del data
        gc.collect()
        points.append((resident_bytes(), *measure_forks(0.5, 20)))
        previous = step
    _, fork, cycle = points[-1]
    return {
        "values": {"fork_seconds": fork, "forks_per_second": 1 / cycle, "prefork_rss": points[-1][0]},
        "points": points,
        "notes": list(notes),
    }


CASE = Case(
    "fork",
    "fork, exit and wait per second against resident size",
    "MiB",
    8192,
    int(1.15 * MIB),
    _objects,
    None,
    workers=0,
    modes=("none", "freeze", "hugepages", "pack"),
    why_not=_WHY_NOT,
    program="cowfreeze.bench.cell:program",
    scales=True,
)
