"""Freezes on the wrong side of the fork, in two ways."""

from __future__ import annotations

from typing import Any

import cowfreeze
import cowfreeze.integrations.gunicorn

preload_app = True


def post_fork(server: Any, worker: Any) -> None:
    cowfreeze.freeze()
