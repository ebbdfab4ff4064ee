"""Start workers and a witness that would run for long, tell their pids, and wait to be killed.

The test kills this process and looks whether the children go with it. Each worker writes
its pid to stdout; the witness is the parent's other child.
"""

from __future__ import annotations

import os
import sys
import time

import cowfreeze


def target(index: int) -> None:
    os.write(1, f"{os.getpid()} {os.getppid()}\n".encode())
    time.sleep(60)


cowfreeze.fork_workers(target, workers=2)
sys.exit("the workers ended by themselves")
