"""Programs for the tests of the integrations that talk through pipes: "ready PID..." and "respawn"."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import psutil
from helpers.ending import end_with_all_below
from helpers.servers import FILES

from cowfreeze._system.copied import measure_family


@contextmanager
def script(*arguments: str, seconds: float = 90, stderr: IO[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run integrations/servers/ARGUMENTS with pipes; it is killed after SECONDS, with all below it."""
    process = subprocess.Popen(
        [sys.executable, str(FILES / arguments[0]), *arguments[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=stderr, text=True, env={**os.environ, "PYTHONPATH": str(FILES)},
    )  # fmt: skip
    # A pool that hangs must not hang the tests: its end closes the pipe that is read.
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        assert process.stdin is not None and process.stdout is not None
        end_with_all_below(process, process.stdin.close, 20)
        process.stdout.close()


def ready(process: subprocess.Popen[str]) -> list[int]:
    """The workers that have read, when all have."""
    assert process.stdout is not None
    word, *pids = process.stdout.readline().split() or [""]
    assert word == "ready", word
    return [int(pid) for pid in pids]


def respawned(process: subprocess.Popen[str]) -> list[int]:
    """Let the script replace a worker; the workers that have read since."""
    assert process.stdin is not None
    process.stdin.write("respawn\n")
    process.stdin.flush()
    return ready(process)


def copied(pids: list[int]) -> int:
    """Bytes that the worst of PIDS, forked by one parent, copied at most."""
    (parent,) = {psutil.Process(pid).ppid() for pid in pids}
    figures = measure_family(parent, pids)
    assert all(one.at_most is not None for one in figures.values()), figures
    return max(one.at_most or 0 for one in figures.values())
