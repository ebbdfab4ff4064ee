"""Tornado: freeze, then fork as Tornado does.

    sockets = tornado.netutil.bind_sockets(8888)
    cowfreeze.integrations.tornado.fork_processes(4)        # instead of tornado.process.fork_processes
    server = HTTPServer(app); server.add_sockets(sockets)   # in each child

A child that dies is replaced by a fork of the same parent. With `HTTPServer.start(4)` call
`cowfreeze.freeze()` in the line before.
"""

from __future__ import annotations

from typing import Any

from cowfreeze._errors import CowfreezeError, UnsupportedError
from cowfreeze.integrations._common import freeze_for
from cowfreeze.integrations._settings import Settings, Warmup


def fork_processes(
    num_processes: int | None,
    max_restarts: int | None = None,
    *,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> int:
    """Freeze the whole heap, and then `tornado.process.fork_processes`, with its result.

    Args:
        num_processes, max_restarts: as Tornado takes them.
        warmup: what workers will do, done once before the freeze: a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: without effect: a child goes on in your program, which may end by
            `cowfreeze.fast_exit`.
        refreeze: without effect: this host freezes once.
        options: further arguments of `cowfreeze.freeze`.

    All but `options` default to the variables COWFREEZE_WARMUP, COWFREEZE_RELOCATE_CODE,
    COWFREEZE_FAST_EXIT and COWFREEZE_REFREEZE.

    Raises:
        UnsupportedError: Tornado is not installed.
        CowfreezeError: this process is one of Tornado's children.
    """
    try:
        from tornado import process  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise UnsupportedError("cowfreeze.integrations.tornado needs Tornado: pip install 'cowfreeze[tornado]'") from error
    if process.task_id() is not None:
        raise CowfreezeError(
            "fork_processes() was called in a child of Tornado, where freezing copies the whole heap: call it once, in "
            "the process that binds the sockets"
        )
    settings = Settings(warmup, relocate_code, fast_exit, refreeze, **options)
    freeze_for("Tornado", settings)
    return int(process.fork_processes(num_processes, max_restarts))
