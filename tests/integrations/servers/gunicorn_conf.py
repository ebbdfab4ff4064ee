"""A configuration file with a hook of its own, which must still be called."""

from __future__ import annotations

import sys
from typing import Any

import cowfreeze.integrations.gunicorn


def when_ready(server: Any) -> None:
    print("own hook", file=sys.stderr, flush=True)


cowfreeze.integrations.gunicorn.install(globals(), fast_exit=True)
