"""Print through a block-buffered stdout before, in and after the workers.

Each line must come out exactly once, and atexit functions run only in the parent.
"""

from __future__ import annotations

import atexit
import sys

import cowfreeze


def target(index: int) -> None:
    print(f"worker {index}")
    if index == 2:
        sys.exit(3)


atexit.register(lambda: print("atexit"))
print("before")
result = cowfreeze.fork_workers(target, workers=3)
print("after", *(worker.exitcode for worker in result.workers))
