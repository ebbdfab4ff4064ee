"""Which process imported cowfreeze: the one from which workers are forked, or a worker."""

from __future__ import annotations

import os

_pid = os.getpid()  # the package imports this module at once, all others when they are used


def is_forked() -> bool:
    """Was this process forked from the one that imported cowfreeze?"""
    return os.getpid() != _pid
