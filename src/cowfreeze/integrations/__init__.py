"""One module for each place where Python programs fork: it freezes at the right moment.

Nothing here is imported by `import cowfreeze`, and no module here imports its host before it is
used: `pip install cowfreeze` brings none of them.

All take the same: `warmup`, `relocate_code`, `fast_exit`, `refreeze` and the options of `cowfreeze.freeze`,
as arguments or as COWFREEZE_* variables.

    gunicorn          -c python:cowfreeze.integrations.gunicorn, or install(globals())
    celery            setup()
    multiprocessing   forkserver_context("your.data"), check_preload(context)
    forkserver        the last entry of a preload list
    concurrent        process_pool_executor(preload=["your.data"])
    uwsgi             setup() as the last line of the WSGI module; uwsgi_app: without a change of it
    rq                rq worker --worker-class cowfreeze.integrations.rq.Worker
    torch             data_loader(dataset, num_workers=8)
    pyspark           spark.python.daemon.module=cowfreeze.integrations.pyspark
    tornado           fork_processes(4)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def warm(
    app: Any, paths: Sequence[str] = ("/",), *, host: str = "localhost", headers: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Request PATHS of a WSGI or ASGI application in this process, without a network: a warm-up.

        cowfreeze.freeze(warmup=lambda: cowfreeze.integrations.warm(app, ["/", "/health"]))

    Args:
        app: the application.
        paths: what to request by GET, twice each, with query strings if you like.
        host: the header Host; Django answers 400 to hosts that it does not know (ALLOWED_HOSTS).
        headers: further request headers.

    Returns:
        The status of each path. Connections of Django and SQLAlchemy are closed afterwards.

    Raises:
        TypeError: APP is no application, or PATHS is one str.
        Exception: whatever the application raises.
    """
    from cowfreeze.integrations._warm import warm as request

    return request(app, paths, host=host, headers=headers)
