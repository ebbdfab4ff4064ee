"""Two workers of a fork server read the server's data, first plain, then frozen: python run.py"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


def measure(way: str) -> None:
    """A program has one fork server; hence a process for each way."""
    import words
    from looking import copied_by_workers, say

    from cowfreeze.integrations.multiprocessing import check_preload, forkserver_context

    if way == "frozen":
        context = forkserver_context("words")
        check_preload(context)
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["words"])
    with context.Pool(2) as pool:
        workers: set[int] = set()
        while len(workers) < 2:
            workers |= {pid for pid, _ in pool.imap_unordered(words.read, range(8))}
        say(way, copied_by_workers(os.getpid()))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        measure(sys.argv[1])
    else:
        # Before 3.12.8 and 3.13.1 the server does not get the parent's sys.path.
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        for way in ("plain", "frozen"):
            subprocess.run([sys.executable, __file__, way], check=True, env=environment)
