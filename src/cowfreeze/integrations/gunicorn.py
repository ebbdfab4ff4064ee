"""gunicorn: freeze when the application is preloaded, before the first worker is forked.

    gunicorn --preload -c python:cowfreeze.integrations.gunicorn app:app

or, with a configuration file of your own, as its last lines:

    import cowfreeze.integrations.gunicorn
    cowfreeze.integrations.gunicorn.install(globals())

Respawned workers are forked from the same parent and share the same pages. A HUP loads nothing new
under preload_app: of what the parent made since, a lot is frozen (10,000 containers), and little is only
put away, so that its memory does not grow. New code or data: USR2.

    nworkers_changed, app is loaded, on_starting, (dirty arbiter forks), when_ready, pre_fork, fork
                                         ^ freeze with dirty workers       ^ freeze   ^ of what is new
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from cowfreeze._exit import fast_exit as end_fast
from cowfreeze.integrations._common import freeze_for, import_early
from cowfreeze.integrations._log import warn
from cowfreeze.integrations._settings import Settings, Warmup

# Settings of gunicorn, when this module is its configuration.
preload_app = True

_NO_PRELOAD = (
    "gunicorn runs without preload_app: each worker loads the application itself, so there is nothing to share "
    "and nothing was frozen. Set preload_app = True, or start gunicorn with --preload"
)
_WORKER = (
    "cowfreeze.integrations.gunicorn was called in a worker of gunicorn, where freezing copies the whole heap: nothing "
    "was frozen. The right hook is when_ready(server), with preload_app = True"
)


_settings = Settings()


def on_starting(server: Any) -> None:
    """The hook: freeze already here if dirty workers are configured (their arbiter forks next)."""
    if getattr(server.cfg, "dirty_workers", 0):
        _freeze(server)


def when_ready(server: Any) -> None:
    """The hook: freeze. Called once in the parent, before the first worker is forked."""
    _freeze(server)


def on_reload(server: Any) -> None:
    """The hook: freeze what the parent made since, if it is much, before workers are replaced after a HUP."""
    # By now the thread of gunicorn's control socket may run; it only waits.
    _freeze(server, threads="allow")


def pre_fork(server: Any, worker: Any) -> None:
    """The hook: before each fork, so that a worker that is replaced shares as much as a first one."""
    if server.cfg.preload_app:
        _freeze(server, threads="allow")


def _freeze(server: Any, threads: str = "warn") -> None:
    if not server.cfg.preload_app:
        warn(_NO_PRELOAD, server.log.warning)
        return
    if server.pid not in (0, None, os.getpid()):
        warn(_WORKER, server.log.warning)
        return
    if not getattr(server.cfg, "control_socket_disable", True):
        import_early("gunicorn.ctl.server")  # asyncio and 40 modules more, loaded after the first fork
    freeze_for(
        "gunicorn",
        _settings,
        info=server.log.info,
        warning=server.log.warning,
        threads=threads,
        app=getattr(server.app, "callable", None),
    )


def worker_exit(server: Any, worker: Any) -> None:
    """The hook, with fast_exit: the last of a worker, inside of the `finally` that SystemExit passes through."""
    error = sys.exc_info()[1]
    if _settings.fast_exit and isinstance(error, SystemExit):
        end_fast(error.code)


_HOOKS = (on_starting, when_ready, on_reload, pre_fork, worker_exit)


def install(
    namespace: dict[str, Any],
    *,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> None:
    """Add the hooks to a configuration file's globals; hooks that are there already run first.

    Args:
        namespace: ``globals()`` of the file; call this in its last line.
        warmup: what workers will do, done once before the freeze: paths that are requested of the
            application (``["/", "/health"]``), a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: end workers by `cowfreeze.fast_exit` after atexit handlers.
        refreeze: freeze again before later forks when at least 10,000 containers are new, 10 times
            at most (default); False: what is new is never frozen.
        options: further arguments of `cowfreeze.freeze`.

    All but `namespace` and `options` default to the variables COWFREEZE_WARMUP,
    COWFREEZE_RELOCATE_CODE, COWFREEZE_FAST_EXIT and COWFREEZE_REFREEZE.
    """
    global _settings
    _settings = Settings(warmup, relocate_code, fast_exit, refreeze, **options)
    namespace.setdefault("preload_app", True)
    for ours in _HOOKS:
        namespace[ours.__name__] = _after(namespace.get(ours.__name__), ours)


def _after(theirs: Callable[..., object] | None, ours: Callable[..., None]) -> Callable[..., None]:
    # gunicorn checks how many arguments a hook takes.
    if theirs is None or theirs is ours:
        return ours
    if ours in (pre_fork, worker_exit):

        def hook_of_worker(server: Any, worker: Any) -> None:
            theirs(server, worker)
            ours(server, worker)

        return hook_of_worker

    def hook(server: Any) -> None:
        theirs(server)
        ours(server)

    return hook
