"""A WSGI application with data that its workers share if gunicorn preloads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

DATA = {f"key-{number}": [f"value-{number}", (number, str(number))] for number in range(60_000)}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    count = sum(len(value) for value in DATA.values())  # touches the reference count of each value
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(count).encode()]
