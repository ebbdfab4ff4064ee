"""gunicorn: freeze when the application is preloaded, before the first worker is forked.

    gunicorn --preload -c python:cowfreeze.integrations.gunicorn app:app

or, with a configuration file of your own, as its last lines:

    import cowfreeze.integrations.gunicorn
    cowfreeze.integrations.gunicorn.install(globals())

Respawned workers are forked from the same parent and share the same pages. A HUP loads nothing new
under preload_app; what the parent made since is frozen then.

    nworkers_changed, app is loaded, on_starting, (dirty arbiter forks), when_ready, pre_fork, fork
                                         ^ freeze with dirty workers       ^ freeze
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from cowfreeze._errors import CowfreezeWarning
from cowfreeze._exit import fast_exit as end_fast
from cowfreeze.integrations._common import freeze_for

# Settings of gunicorn, when this module is its configuration.
preload_app = True

_NO_PRELOAD = (
    "gunicorn runs without preload_app: each worker loads the application itself, so there is nothing to share "
    "and nothing was frozen. Set preload_app = True, or start gunicorn with --preload"
)


def on_starting(server: Any) -> None:
    """The hook: freeze already here if dirty workers are configured (their arbiter forks next)."""
    if getattr(server.cfg, "dirty_workers", 0):
        _freeze(server)


def when_ready(server: Any) -> None:
    """The hook: freeze. Called once in the parent, before the first worker is forked."""
    _freeze(server)


def on_reload(server: Any) -> None:
    """The hook: freeze what the parent made since, before workers are replaced after a HUP."""
    # By now the thread of gunicorn's control socket may run; it only waits.
    _freeze(server, threads="allow")


def _freeze(server: Any, threads: str = "warn") -> None:
    if not server.cfg.preload_app:
        server.log.warning(_NO_PRELOAD)
        warnings.warn(_NO_PRELOAD, CowfreezeWarning, stacklevel=3)
        return
    if server.pid not in (0, None, os.getpid()):
        _warn_of_worker("when_ready")
        return
    freeze_for("gunicorn", server.log.info, threads)


def _warn_of_worker(hook: str) -> None:
    warnings.warn(
        f"cowfreeze.integrations.gunicorn was called in a worker of gunicorn, where freezing copies the whole heap: "
        f"nothing was frozen. The right hook is {hook}(server), with preload_app = True",
        CowfreezeWarning,
        stacklevel=4,
    )


def _worker_exit(server: Any, worker: Any) -> None:
    """The last hook of a worker, inside of the `finally` that SystemExit passes through."""
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit):
        end_fast(error.code)


def install(namespace: dict[str, Any], *, fast_exit: bool = False) -> None:
    """Add the hooks to a configuration file's globals; hooks that are there already run first.

    Args:
        namespace: ``globals()`` of the file; call this in its last line.
        fast_exit: end workers by `cowfreeze.fast_exit` after atexit handlers. It matters for gevent
            workers; others copy half a MiB at an ordinary exit.
    """
    namespace.setdefault("preload_app", True)
    for name, ours in (("on_starting", on_starting), ("when_ready", when_ready), ("on_reload", on_reload)):
        namespace[name] = _after(namespace.get(name), ours)
    if fast_exit:
        namespace["worker_exit"] = _after_both(namespace.get("worker_exit"))


def _after(theirs: Callable[[Any], object] | None, ours: Callable[[Any], None]) -> Callable[[Any], None]:
    # gunicorn checks how many arguments a hook takes.
    if theirs is None:
        return ours

    def hook(server: Any) -> None:
        theirs(server)
        ours(server)

    return hook


def _after_both(theirs: Callable[[Any, Any], object] | None) -> Callable[[Any, Any], None]:
    def hook(server: Any, worker: Any) -> None:
        if theirs is not None:
            theirs(server, worker)
        _worker_exit(server, worker)

    return hook
