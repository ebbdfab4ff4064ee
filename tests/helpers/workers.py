"""What the tests of fork_workers share.

Targets there are reversible, so they run in the test process; what needs a process of its own (a
parent that dies, closed stdio, limits) is a script in tests/workers/.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cowfreeze._workers.fork import fork_workers

SCRIPTS = Path(__file__).parents[1] / "workers"


def state_of_process() -> dict[str, Any]:
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int),
        "children": psutil.Process().children(recursive=True),  # zombies too
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "SIGCHLD": signal.getsignal(signal.SIGCHLD),
    }


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """W5, after every test of this file."""
    before = state_of_process()
    yield
    assert state_of_process() == before


def run_script(name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, str(SCRIPTS / name)],
        capture_output=True,
        text=True,
        timeout=60,
        # Unbuffered output has nothing that could be lost or doubled.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    assert done.returncode == 0, f"{name}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def only(target: Callable[[int], Any], index: int) -> Callable[[int], Any]:
    """A target that misbehaves in one worker only."""
    return lambda number: target(number) if number == index else "fine"


def one(target: Callable[[int], Any], **options: Any) -> Any:
    """The report of the misbehaving one of two workers; the other must be unharmed."""
    result = fork_workers(only(target, 0), 2, **options)
    assert (result.workers[1].outcome, result.workers[1].result) == ("returned", "fine")
    assert result.workers[1].copied_pages is not None
    return result.workers[0]


def raise_it(error: BaseException) -> Any:
    raise error
