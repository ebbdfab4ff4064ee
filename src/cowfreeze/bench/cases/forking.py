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

from cowfreeze._system.memory import available_memory, resident_bytes
from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.cases.children import measure_forks
from cowfreeze.bench.modes import MODES, Mode, Unavailable

MIB = 1 << 20
FIRST = 128  # MiB of the first step above 0
_PART = 512  # MiB that a mode gets at once, so that a copy does not need twice the memory
_BYTES = 367  # bytes objects of 400 bytes: 33 are the header and the final zero
_WHY_NOT = "it changes nothing about a fork's cost that the other modes do not show"


def _objects(mebibytes: int) -> list[bytes]:
    count = mebibytes * MIB * 99 // 100 // (400 + 8)  # 8: the list's pointer
    return [number.to_bytes(_BYTES, "little") for number in range(count)]  # no two alike


def steps(size: int) -> list[int]:
    """The sizes in MiB: 0, then doubled from `FIRST` up to SIZE."""
    found = [0]
    step = min(FIRST, size)
    while step <= size:
        found.append(step)
        step *= 2
    return found


def _applied(mode: Mode, data: list[bytes]) -> Any:
    try:
        return mode.apply(data).view
    except Unavailable:
        if mode.name == "hugepages":
            return data  # a part that is smaller than a huge page stays as it is
        raise


def run(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """The curve of one mode: a row with `points` of (resident bytes, fork s, cycle s)."""
    mode = MODES[order["mode"]]
    mode.before()
    if mode.name == "hugepages":
        from cowfreeze.bench.modes import hugepages  # noqa: F401 - imported before the first fork
    kept: list[Any] = []
    points: list[tuple[int, float, float]] = []
    notes: tuple[str, ...] = ()
    previous = 0
    for step in steps(order["size"]):
        more = (step - previous + _PART) * MIB  # a copy of one part exists beside it for a while
        free = available_memory()
        if free is not None and more * 1.2 > free:
            notes += (f"stopped below {step} MiB: too little memory",)
            break
        tell(stage=f"{step} MiB")
        while previous < step:
            part = min(step - previous, _PART)
            kept.append(_applied(mode, _objects(part)))
            for _ in kept[-1]:
                pass  # a copy that nobody has touched is not resident, and would cost nothing
            previous += part
        gc.collect()
        points.append((resident_bytes(), *measure_forks(0.5, 20)))
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
    program="cowfreeze.bench.one_run:program",
    scales=True,
)
