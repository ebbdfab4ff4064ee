"""A heap full of holes, frozen under one allocator or another, and what a worker copies then."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import cowfreeze
from helpers.cases import copied_by

kept: list[Any] = []


def _holes() -> None:
    blocks = [bytes(600 + 37 * n % 5400) for n in range(1000)]
    del blocks[::2]
    dicts: list[Any] = [{"n": n, "s": [str(n)] * 3} for n in range(5000)]
    del dicts[::3]
    kept.extend([blocks, dicts])


def frozen(racers: str | None) -> dict[str, Any]:
    """Freeze everything, five times if a thread of C allocates meanwhile."""
    warnings.simplefilter("ignore")
    _holes()
    library = ctypes.CDLL(racers) if racers is not None else None
    if library is not None:
        library.start.argtypes = [ctypes.c_size_t]
        library.start(100_000)
        for _ in range(4):
            cowfreeze.freeze(kept, collect=False)
    report = cowfreeze.freeze()
    if library is not None:
        library.finish()

    def worker() -> None:
        for blocks in list(kept):
            for one in blocks:
                hash(str(one)[:20])
        kept.append([bytes(600 + 41 * n % 5000) for n in range(500)])

    return {
        "chunks": report._counts.chunks_why,
        "pools": report._counts.pools_known,
        "notes": list(report.notes),
        "copied": len(copied_by(worker)),
    }


def raced(racers: str, seconds: float) -> dict[str, Any]:
    """One malloc arena for all; 16 MiB at its end come and go while it is sealed again and again."""
    import time

    warnings.simplefilter("ignore")
    library = ctypes.CDLL(racers)
    library.start.argtypes = [ctypes.c_size_t]
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 24 << 20)  # M_TRIM_THRESHOLD
    library.start(16 << 20)
    end = time.monotonic() + seconds
    reasons: set[str | None] = set()
    freezes = 0
    while time.monotonic() < end or freezes < 3:
        reasons.add(cowfreeze.freeze([1], collect=False)._counts.chunks_why)
        freezes += 1
    library.finish()
    return {"freezes": freezes, "reasons": sorted(map(str, reasons))}


def moved() -> list[str]:
    """Refused at random where a probe came from a cache."""
    _holes()
    return list(cowfreeze.freeze(remap=True).notes)
