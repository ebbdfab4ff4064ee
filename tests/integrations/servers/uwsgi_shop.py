"""A WSGI module for uWSGI. SETUP=1 freezes in its last line, LATE=1 in a worker's first request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import shop


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if os.environ.get("LATE"):
        import cowfreeze

        cowfreeze.freeze(dry_run=True)
    return shop.application(environ, start_response)


if os.environ.get("SETUP"):
    import cowfreeze.integrations.uwsgi

    cowfreeze.integrations.uwsgi.setup()
