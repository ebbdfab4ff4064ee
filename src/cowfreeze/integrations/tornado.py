"""Tornado: freeze, then fork as Tornado does.

    sockets = tornado.netutil.bind_sockets(8888)
    cowfreeze.integrations.tornado.fork_processes(4)        # instead of tornado.process.fork_processes
    server = HTTPServer(app); server.add_sockets(sockets)   # in each child

A child that dies is replaced by a fork of the same parent. With `HTTPServer.start(4)` call
`cowfreeze.freeze()` in the line before.
"""

from __future__ import annotations

import logging

from cowfreeze._errors import CowfreezeError, UnsupportedError
from cowfreeze.integrations._common import freeze_for


def fork_processes(num_processes: int | None, max_restarts: int | None = None) -> int:
    """Freeze the whole heap, and then `tornado.process.fork_processes`, with its arguments and result.

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
    freeze_for("Tornado", logging.getLogger("cowfreeze").info)
    return int(process.fork_processes(num_processes, max_restarts))
