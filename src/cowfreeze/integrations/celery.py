"""Celery: freeze in the worker's parent, when all tasks are imported, before the prefork pool forks.

    import cowfreeze.integrations.celery       # in the module of your Celery application
    cowfreeze.integrations.celery.setup()

    import_modules, worker_init, celeryd_after_setup, worker_before_create_process, fork, worker_process_init
    ^ too early                  ^ freeze, all brokers  ^ freeze what is new; Redis, AMQP, SQS only     ^ too late

A worker that is replaced (max-tasks-per-child, max-memory-per-child, autoscale, a crash) is forked
from the same parent. Note that Celery's --max-memory-per-child counts RSS, shared pages included.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from cowfreeze._errors import UnsupportedError
from cowfreeze.integrations._common import WORTH_FREEZING, freeze_for, new_objects

_log = logging.getLogger("cowfreeze")
_connected_in = 0  # the process that called setup()
_frozen_in = 0  # the process that froze


def setup() -> None:
    """Connect to Celery's signals. May be called again.

    Raises:
        UnsupportedError: Celery is not installed.
    """
    global _connected_in
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
    global _frozen_in
    if not _forks(instance):
        return
    if freeze_for("Celery", _log.warning) is not None:
        _frozen_in = os.getpid()


def _before_process(**_: Any) -> None:
    """Before each fork, also of a replacement: freeze what is new, if it is worth it."""
    if _frozen_in == os.getpid() and new_objects() >= WORTH_FREEZING:
        freeze_for("Celery", _log.info, threads="allow")


def _in_worker(**_: Any) -> None:
    # The solo pool sends the signal too, in the process that imported the application.
    if not _frozen_in and _connected_in != os.getpid():
        _log.warning(
            "cowfreeze: this worker was forked from a parent that froze nothing. setup() must run in the module of "
            "the Celery application, which the parent imports, and the signal is celeryd_after_setup"
        )


def _forks(worker: Any) -> bool:
    """Does this worker's pool fork? Threads, gevent, eventlet and solo do not."""
    pool = getattr(worker, "pool_cls", None)
    module = getattr(pool, "__module__", "") or str(pool)
    return "prefork" in module
