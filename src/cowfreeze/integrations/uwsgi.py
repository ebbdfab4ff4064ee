"""uWSGI: freeze when the application is loaded, in the process that forks the workers.

    import cowfreeze.integrations.uwsgi       # last lines of the WSGI module
    cowfreeze.integrations.uwsgi.setup()

or, without a change of the application (`cowfreeze run` cannot reach uWSGI, which forks in C):

    COWFREEZE_APP=myapp:app uwsgi -M --module cowfreeze.integrations.uwsgi_app:application ...

Options of uWSGI:

    -M                             workers are forked, and replaced, by a process that serves nothing
    --skip-atexit-teardown         atexit handlers run; the tear-down of the interpreter copies pages
    --single-interpreter           an application in a sub-interpreter cannot be frozen
    (no --lazy-apps, no --lazy)    with them each worker loads the application for itself

    interpreter starts, WSGI module is loaded, fork, post_fork_hook, requests
                                  ^ freeze           ^ too late
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cowfreeze.integrations._common import freeze_for
from cowfreeze.integrations._log import warn
from cowfreeze.integrations._settings import Settings, Warmup

if TYPE_CHECKING:
    from cowfreeze import FreezeReport

_LAZY = ("lazy-apps", "lazy")
_EXITS = ("skip-atexit-teardown", "skip-atexit")


def setup(
    app: object = None,
    *,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> FreezeReport | None:
    """Freeze the whole heap; call it in the last line of the WSGI module.

    Args:
        app: the application, for a warm-up by paths.
        warmup: what workers will do, done once before the freeze: paths that are requested of `app`
            (``["/", "/health"]``), a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: without effect: uWSGI has --skip-atexit-teardown.
        refreeze: without effect: this host freezes once.
        options: further arguments of `cowfreeze.freeze`.

    All but `options` default to the variables COWFREEZE_WARMUP, COWFREEZE_RELOCATE_CODE,
    COWFREEZE_FAST_EXIT and COWFREEZE_REFREEZE.

    Returns:
        The report. None if nothing was frozen: elsewhere than in uWSGI, silently, so that the
        module can be imported by tests and other servers; in a worker of uWSGI and with lazy-apps
        a warning in the log says why.
    """
    server = sys.modules.get("uwsgi")  # exists only inside of uWSGI
    if server is None or not hasattr(server, "worker_id"):
        return None
    refusal = why_not(server)
    if refusal:
        warn(refusal, server.log)
        return None
    for advice in _advice(server):
        server.log(f"cowfreeze: {advice}")
    settings = Settings(warmup, relocate_code, fast_exit, refreeze, **options)
    return freeze_for("uWSGI", settings, info=server.log, warning=server.log, app=app)


def why_not(server: Any) -> str:
    """Why nothing must be frozen in this process of uWSGI; "" if it is the right one."""
    lazy = next((name for name in _LAZY if _is_on(server, name)), None)
    if lazy is not None:
        return (
            f"uWSGI runs with {lazy}: each worker loads the application for itself, so there is nothing to share and "
            f"nothing was frozen. Remove {lazy}"
        )
    if server.worker_id() > 0:
        return (
            "cowfreeze.integrations.uwsgi.setup() was called in a worker of uWSGI, where freezing copies the whole "
            "heap: nothing was frozen. Call it in the last line of the WSGI module, not in post_fork_hook or @postfork"
        )
    return ""


def _is_on(server: Any, name: str) -> bool:
    """`lazy-apps = false` in a file: uWSGI keeps the text, and reads it as its uwsgi_opt_true() does."""
    value = server.opt.get(name, False)
    if isinstance(value, list):
        value = value[-1]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.lower() not in ("false", "off", "no", "0")


def _advice(server: Any) -> list[str]:
    """Settings that cost memory, one sentence each."""
    found = []
    if not server.masterpid() and server.numproc > 1:
        found.append(
            "without -M worker 1 is the process that the others were forked from, and what it does while "
            "it serves copies pages too"
        )
    if not any(_is_on(server, name) for name in _EXITS):
        found.append("without --skip-atexit-teardown a worker that ends tears the interpreter down, which copies pages")
    return found
