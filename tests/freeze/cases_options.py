"""Arguments, warnings, what is skipped, and the report."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import mmap
import os
import queue
import select
import socket
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from typing import Any

import cowfreeze
from helpers.cases import in_worker, is_marked, mortal
from freeze.zoo import Plain, text


def _generator() -> Any:
    value = [text()]
    yield value


async def _coroutine() -> None:
    pass


async def _async_generator() -> Any:
    yield 1


def _exception() -> BaseException:
    try:
        raise ValueError(text())
    except ValueError as error:
        return error


def skipped() -> dict[str, Any]:
    """By kind: [reason that the report counts, is it marked?, still usable?]"""
    loop = asyncio.new_event_loop()
    suspended = _generator()
    next(suspended)
    coroutine = _coroutine()
    left, right = socket.socketpair()
    file = tempfile.TemporaryFile("w+")
    database = sqlite3.connect(":memory:")
    mapping = mmap.mmap(-1, 4096)
    error = _exception()
    local = threading.local()
    future = loop.create_future()
    view = memoryview(b"x" * len(text()))
    kinds: dict[str, Any] = {
        "frame": sys._getframe(),
        "suspended generator": suspended,
        "new generator": _generator(),
        "coroutine": coroutine,
        "async generator": _async_generator(),
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "simple queue": queue.SimpleQueue(),
        "thread local": local,
        "file": file,
        "raw file": file.buffer.raw if hasattr(file, "buffer") else file,
        "BytesIO": io.BytesIO(b"x"),
        "socket": left,
        "database": database,
        "cursor": database.cursor(),
        "mapping": mapping,
        "epoll": select.epoll(),
        "future": future,
        "context": contextvars.copy_context(),
        "exception": error,
        "traceback": error.__traceback__,
        "memoryview": view,
    }
    result = {}
    for label, obj in kinds.items():
        report = cowfreeze.freeze([obj, [text()]], collect=False, seal=False, gc_freeze=False)
        result[label] = [report.skipped, is_marked(obj)]
    assert next(suspended, None) is None
    file.write("still open")
    file.flush()
    file.seek(0)
    assert file.read() == "still open"
    left.send(b"x")
    assert right.recv(1) == b"x"
    assert database.execute("select 1").fetchone() == (1,)
    mapping.close()
    view.release()
    future.set_result(1)
    loop.close()
    coroutine.close()
    for closing in (file, left, right, database):
        closing.close()
    with kinds["lock"], kinds["rlock"]:
        pass
    return result


def behind_what_is_skipped() -> dict[str, bool]:
    """Locals of a suspended generator are not data of the graph; a memoryview's buffer is."""
    suspended = _generator()
    value = next(suspended)
    exporter = bytearray(100)
    cowfreeze.freeze([suspended, memoryview(exporter)])
    return {"generator": is_marked(value), "exporter": is_marked(exporter)}


class Cache(dict[str, Any]):
    pass


class SpecialCache(Cache):
    pass


def skip_types() -> dict[str, Any]:
    """skip=: instances of the types and of subclasses are left, and not looked into."""
    inside = [text()]
    cache, special, plain = Cache(x=inside), SpecialCache(x=inside), {"y": [text()]}
    mortal(inside)
    report = cowfreeze.freeze([cache, special, plain], skip=(Cache,))
    result = {
        "cache": is_marked(cache),
        "subclass": is_marked(special),
        "inside": is_marked(inside),
        "plain": is_marked(plain["y"]),
        "skipped": report.skipped,
    }
    generator = cowfreeze.freeze([text()], skip=(t for t in [list]))
    result["generator"] = generator.skipped
    whole = cowfreeze.freeze(skip=[Cache])
    result["whole"] = [is_marked(cache), whole.skipped["skip="]]
    return result


def bad_arguments() -> dict[str, list[Any]]:
    """[type of the error, text, is the graph still mortal?] by call."""
    data = [text()]
    calls: dict[str, Callable[[], Any]] = {
        "skip of an instance": lambda: cowfreeze.freeze(data, skip=[{}]),  # type: ignore[list-item]
        "skip of a name": lambda: cowfreeze.freeze(data, skip="dict"),  # type: ignore[arg-type]
        "skip no iterable": lambda: cowfreeze.freeze(data, skip=dict),  # type: ignore[arg-type]
        "threads": lambda: cowfreeze.freeze(data, threads="ignore"),
        "threads None": lambda: cowfreeze.freeze(data, threads=None),  # type: ignore[arg-type]
        "unknown option": lambda: cowfreeze.freeze(data, deep=True),  # type: ignore[call-arg]
        "is_frozen nothing": lambda: cowfreeze.is_frozen(),  # type: ignore[call-arg]
    }
    result: dict[str, list[Any]] = {}
    for label, call in calls.items():
        try:
            call()
        except Exception as error:
            result[label] = [type(error).__name__, str(error), is_marked(data)]
        else:
            result[label] = ["no error", "", is_marked(data)]
    return result


def _warned(call: Callable[[], Any]) -> list[list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [[w.category.__name__, str(w.message), os.path.basename(w.filename)] for w in caught]


def threads() -> dict[str, Any]:
    """threads="warn", "refuse" and "allow", with and without another thread."""
    data = [text()]
    alone = {word: _warned(lambda w=word: cowfreeze.freeze([], threads=w)) for word in ("warn", "refuse", "allow")}  # type: ignore[misc]
    stop = threading.Event()
    other = threading.Thread(target=stop.wait, name="other thread of the test")
    other.start()
    try:
        try:
            cowfreeze.freeze(data, threads="refuse")
            refused = ["no error"]
        except cowfreeze.CowfreezeError as error:
            refused = [type(error).__name__, str(error)]
        result = {"alone": alone, "refused": refused, "after refusal": is_marked(data)}
        result["allow"] = _warned(lambda: cowfreeze.freeze([], threads="allow"))
        result["warn"] = _warned(lambda: cowfreeze.freeze(data))
        result["after warning"] = is_marked(data)
    finally:
        stop.set()
        other.join()
    result["afterwards"] = _warned(lambda: cowfreeze.freeze([], threads="warn"))
    return result


def forked() -> dict[str, Any]:
    """A warning in a forked process, unless it says that it is a zygote."""
    data = [text()]

    def worker() -> dict[str, Any]:
        return {
            "warned": _warned(lambda: cowfreeze.freeze(data)),
            "marked": is_marked(data),
            "allowed": _warned(lambda: cowfreeze.freeze([1.5], allow_forked=True)),
        }

    return {"parent": _warned(lambda: cowfreeze.freeze([])), "worker": in_worker(worker)}


def report() -> dict[str, Any]:
    """The numbers of a report against what was made."""
    n = 5000
    rows = [[k * 1.5, "%d name" % k] for k in range(n)]
    expected_bytes = sum(
        sys.getsizeof(obj) + 16 * isinstance(obj, list) * 0 for row in rows for obj in (row, *row)
    )
    got = cowfreeze.freeze(rows)
    data = json.loads(json.dumps(got.to_dict()))
    changed = ""
    try:
        got.objects = 1  # type: ignore[misc]
    except AttributeError:
        changed = "refused"
    return {
        "objects": got.objects,
        "by_type": got.by_type,
        "bytes": got.bytes,
        "expected_bytes": expected_bytes + sys.getsizeof(rows),
        "pages": got.pages,
        "seconds": got.seconds,
        "phases": got.phases,
        "dict": data,
        "text": str(got),
        "repr": repr(got),
        "notes": list(got.notes),
        "changed": changed,
        "whole": cowfreeze.freeze().to_dict()["whole_heap"],
    }


def odd_roots() -> dict[str, Any]:
    """Roots that are nothing to freeze, or the same thing twice, or a type."""
    value = Plain(text(), text())
    return {
        "None": list(cowfreeze.freeze(None).notes),
        "number": list(cowfreeze.freeze([], 5).notes),
        "twice": cowfreeze.freeze(value, value).objects > 0,
        "builtins": [cowfreeze.freeze(x).objects >= 0 for x in (int, print, type, sys, object(), ...)],
        "is_frozen": [cowfreeze.is_frozen(x) for x in (None, 1, "", int, [], object())],
        "mortal list": is_marked([]),
    }
