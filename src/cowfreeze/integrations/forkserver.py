"""The last entry of a fork server's preload list: freezes in the server, before its first fork.

    context = multiprocessing.get_context("forkserver")        # the default on Linux since 3.14
    context.set_forkserver_preload(["your.data", "cowfreeze.integrations.forkserver"])

`cowfreeze.integrations.multiprocessing.forkserver_context` does this. Elsewhere than in a fork
server importing this module does nothing. Airflow: mp_start_method=forkserver and
mp_forkserver_preload=airflow,airflow.executors.local_executor,cowfreeze.integrations.forkserver

The server ignores a preload that cannot be imported, silently before 3.15. So a worker can ask, by
`assert_inherited_freeze()`.
"""

from __future__ import annotations

import os
import sys

from cowfreeze._errors import CowfreezeError
from cowfreeze.integrations._common import freeze_for
from cowfreeze.integrations._settings import Settings

_server = 0  # the process that is a fork server and has imported this module
_frozen_modules: frozenset[str] = frozenset()


def _is_server() -> bool:
    """Is this import one of the fork server's preloads?"""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "main" and frame.f_code.co_filename.endswith("multiprocessing/forkserver.py"):
            return True
    return False


def _before_fork() -> None:
    """Once, in the server: all preloads are imported, and no other thread runs."""
    global _frozen_modules
    if os.getpid() != _server or _frozen_modules:
        return
    names = frozenset(sys.modules)
    # The server's standard streams are those of the program that started it: only a logger hears of it.
    if freeze_for("fork server", Settings(), info=_say_nothing, threads="allow") is not None:
        _frozen_modules = names


def _say_nothing(line: str) -> None:
    pass


def assert_inherited_freeze(*modules: str) -> None:
    """In a worker: was it forked from a server that froze, with MODULES loaded?

    Raises:
        CowfreezeError: it was not; names the modules that are missing and what to do.
    """
    missing = [name for name in modules if name not in _frozen_modules]
    if not _frozen_modules:
        raise CowfreezeError(
            "this worker was not forked from a fork server that froze: add 'cowfreeze.integrations.forkserver' as the "
            "last entry of set_forkserver_preload(), before the first process is started"
        )
    if missing:
        raise CowfreezeError(
            f"the fork server froze without {', '.join(missing)}: each worker loads its own copy. Either the preload "
            "list does not name it, or its import failed in the server (before 3.12.8 and 3.13.1 the server does not "
            "get the parent's sys.path: set PYTHONPATH)"
        )


if _is_server():
    _server = os.getpid()
    os.register_at_fork(before=_before_fork)
