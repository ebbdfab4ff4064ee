"""Data that is loaded once, and the readers of it: a WSGI application and a function for pools."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

DATA = {f"key-{number}": [f"value-{number}", (number + 1000, str(number))] for number in range(60_000)}
ANSWER = sum(len(value[0]) for value in DATA.values())


def read(_: object = None) -> tuple[int, int]:
    """Touch every value and collect; returns who did it and the answer."""
    total = sum(len(value[0]) for value in DATA.values())
    gc.collect()
    return os.getpid(), total


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    pid, total = read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{pid} {total}".encode()]
