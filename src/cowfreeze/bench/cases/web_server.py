"""gunicorn's side of the case `web`: its configuration, its hooks and the application.

Loaded by gunicorn in its arbiter (--preload), so the data and the mode are there before the first
worker. What the hooks find out goes as lines of JSON through the pipe that the room has opened.
Importing this module outside of the room does nothing.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from cowfreeze import _core
from cowfreeze._system.memory import resident_bytes
from cowfreeze._workers.processes import room_for_pages
from cowfreeze.bench.cases import records
from cowfreeze.bench.cases.web import SLICE
from cowfreeze.bench.modes import MODES, Unavailable

_order: dict[str, Any] = json.loads(os.environ.get("COWFREEZE_BENCH_WEB", "{}"))

preload_app = True
workers = _order.get("workers", 1)
loglevel = "critical"
accesslog = None
worker_class = "sync"

_view: Any = []
_values: dict[str, float] = {}
_witness: _core.Witness | None = None
_audit: _core.WorkerAudit | None = None
_pages: _core.PageList | None = None
_start = b""
_requests = 0
_close: Callable[[], None] | None = None


def _tell(kind: str, **message: Any) -> None:
    text = json.dumps({"kind": kind, **message}) + "\n"
    os.write(_order["pipe"], text.encode())  # one write: lines of several workers do not mix


if _order:
    _mode = MODES[_order["mode"]]
    _mode.before()
    _began = time.perf_counter()
    _view = records.build(_order["size"])
    _values["build_seconds"] = time.perf_counter() - _began


def when_ready(server: object) -> None:
    """gunicorn: the arbiter has loaded the application and forks the workers next."""
    global _close, _view, _witness
    notes: tuple[str, ...] = ()
    frozen = False
    start = time.perf_counter()
    try:
        applied = _mode.apply(_view)
    except Unavailable as error:
        _tell("unavailable", text=str(error))
        raise SystemExit(0) from None
    if _mode.name != "none":
        _values["freeze_seconds"] = time.perf_counter() - start
    _view, notes, frozen, _close = applied.view, applied.notes, applied.frozen, applied.close
    del applied
    if not _mode.live:
        gc.collect()
    _values["prefork_rss"] = resident_bytes()
    _tell("ready", values=_values, notes=list(notes), frozen=frozen)
    _witness = _core.Witness()


def _measure(since: bool) -> bytes:
    assert _audit is not None
    reader, writer = os.pipe()
    try:
        _audit.measure_into(writer, _pages, since)  # a record fits into an empty pipe
        return os.read(reader, _core.RECORD_SIZE)
    finally:
        os.close(reader)
        os.close(writer)


def post_fork(server: object, worker: object) -> None:
    """gunicorn: first thing in a worker."""
    global _audit, _pages, _start
    assert _witness is not None
    _audit = _core.WorkerAudit(_witness)
    _pages = _core.PageList(room_for_pages(), False)
    _start = _measure(False)
    if _mode.in_worker is not None:
        _mode.in_worker()
    _tell("forked")


def worker_exit(server: object, worker: object) -> None:
    """gunicorn: last thing in a worker."""
    gc.collect()
    _tell("ended", records=(_start + _measure(True)).hex(), requests=_requests)


def on_exit(server: object) -> None:
    """gunicorn: the arbiter ends."""
    if _close is not None:
        _close()


def application(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: the records from the number in the path on, as JSON."""
    global _requests
    _requests += 1
    first = int(environment["PATH_INFO"].strip("/") or 0)
    last = min(first + SLICE, len(_view))
    body = json.dumps([_view[index] for index in range(first, last)]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
