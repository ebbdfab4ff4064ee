"""How the tests end a process that they started, and everything below it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def end_with_all_below(process: subprocess.Popen[Any], ask: Callable[[], None], seconds: float) -> None:
    """ASK the process to end and wait; kill it after SECONDS. What is left of those below it is killed, too.

    By id, and only those: other programs run on the machine of a test.
    """
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    ask()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in below:
        with suppress(psutil.NoSuchProcess):  # it ended since it was listed
            child.kill()


def hang_up_ends() -> None:
    """For preexec_fn: SIGHUP as a terminal's programs have it, although these tests may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
