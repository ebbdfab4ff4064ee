"""Celery: freeze in the worker's parent, when all tasks are imported, before the prefork pool forks.

    import cowfreeze.integrations.celery       # in the module of your Celery application
    cowfreeze.integrations.celery.setup()

    import_modules, worker_init, celeryd_after_setup, worker_before_create_process, fork, worker_process_init
    ^ too early                  ^ freeze, all brokers  ^ freeze what is new; Redis, AMQP, SQS only     ^ too late

A worker that is replaced (max-tasks-per-child, max-memory-per-child, autoscale, a crash) is forked
from the same parent. Note that Celery's --max-memory-per-child counts RSS, shared pages included.
"""

from __future__ import annotations

import os
from typing import Any

from cowfreeze._errors import UnsupportedError
from cowfreeze.integrations._common import freeze_for, import_early
from cowfreeze.integrations._log import warn
from cowfreeze.integrations._settings import Settings, Warmup

_connected_in = 0  # the process that called setup()
_tried_in = 0  # the process that froze, or has said why not
_settings = Settings()


def setup(
    *,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> None:
    """Connect to Celery's signals. May be called again; the last arguments count.

    Args:
        warmup: what tasks will do, done once before the freeze: a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit: without effect: Celery's workers end by ``os._exit`` in any case.
        refreeze: freeze again before later forks when at least 10,000 containers are new, 10 times
            at most (default); False: what is new is never frozen.
        options: further arguments of `cowfreeze.freeze`.

    All but `options` default to the variables COWFREEZE_WARMUP, COWFREEZE_RELOCATE_CODE and
    COWFREEZE_REFREEZE.

    Raises:
        UnsupportedError: Celery is not installed.
    """
    global _connected_in, _settings
    _settings = Settings(warmup, relocate_code, fast_exit, refreeze, **options)
    try:
        from celery import signals  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise UnsupportedError(
            "cowfreeze.integrations.celery needs Celery: pip install 'cowfreeze[celery]'"
        ) from error
    if _connected_in:
        return
    # Strong references: a signal forgets a function that nobody else holds.
    signals.celeryd_after_setup.connect(_after_setup, weak=False)
    signals.worker_before_create_process.connect(_before_process, weak=False)
    signals.worker_process_init.connect(_in_worker, weak=False)
    _connected_in = os.getpid()


def _after_setup(sender: Any = None, instance: Any = None, **_: Any) -> None:
    global _tried_in
    if not _forks(instance):
        return
    import_early("ctypes", "billiard.heap", "billiard.pool")  # what the pool imports when it starts
    freeze_for("Celery", _settings)
    _tried_in = os.getpid()


def _before_process(**_: Any) -> None:
    """Before each fork, also of a replacement: freeze what is new if it is much, else put it away."""
    if _tried_in == os.getpid():
        freeze_for("Celery", _settings, threads="allow")


def _in_worker(**_: Any) -> None:
    # The solo pool sends the signal too, in the process that imported the application.
    if not _tried_in and _connected_in != os.getpid():
        warn(
            "cowfreeze: this worker was forked from a parent that froze nothing. setup() must run in the module of "
            "the Celery application, which the parent imports, and the signal is celeryd_after_setup"
        )


def _forks(worker: Any) -> bool:
    """Does this worker's pool fork? Threads, gevent, eventlet and solo do not."""
    pool = getattr(worker, "pool_cls", None)
    module = getattr(pool, "__module__", "") or str(pool)
    return "prefork" in module
