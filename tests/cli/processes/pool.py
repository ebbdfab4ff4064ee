"""A multiprocessing pool of two workers: METHOD. Says "ready", ends when its stdin closes."""

from __future__ import annotations

import multiprocessing
import sys


def work(number: int) -> int:
    return number + 1


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(work, range(8), 1) == list(range(1, 9))
        print("ready", flush=True)
        sys.stdin.read()
