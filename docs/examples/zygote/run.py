"""Three folds, one after the other, each read by two workers, first plain, then frozen: python run.py

Plain: a pool of the start method fork, made anew for each fold. Frozen: a zygote that loads the next
fold; the memory of the one before is given back with its process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import folds  # noqa: E402
from looking import copied_by_workers, say  # noqa: E402

import cowfreeze  # noqa: E402

FOLDS = 3


def both_workers(pool: object, data: object) -> None:
    """Let the pool read until both workers have had a turn."""
    workers: set[int] = set()
    while len(workers) < 2:
        workers |= {pid for pid, _ in pool.imap_unordered(folds.read, [data] * 8)}  # type: ignore[attr-defined]


def plain() -> None:
    worst = 0
    for fold in range(FOLDS):
        folds.kept = folds.load(fold)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            both_workers(pool, None)
            worst = max(worst, *copied_by_workers(os.getpid()))
    say("plain", [worst] * 2)


def frozen() -> None:
    worst = 0
    with cowfreeze.Zygote(folds.load, 0) as zygote:
        for fold in range(FOLDS):
            if fold:
                zygote.reload(fold)
            with zygote.context.Pool(2) as pool:
                both_workers(pool, zygote.data)
                worst = max(worst, *copied_by_workers(zygote.pid))
    say("frozen", [worst] * 2)


if __name__ == "__main__":
    plain()
    frozen()
