"""What is held where: files, generators and objects with finalizers, in everything that can hold them."""

from __future__ import annotations

import asyncio
import builtins
import bz2
import functools
import gzip
import io
import json
import lzma
import mmap
import os
import shelve
import socket
import sqlite3
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from endings import shared
from endings.shared import BOTH, ending, say, path, Tells, App, Slots, app, slots, registry, row, queue, local, variable, data, stream_lock


# -- what is held --------------------------------------------------------------


def _closure() -> tuple[Callable[[Any], None], Callable[[], Any]]:
    thing = None

    def put(new: Any) -> None:
        nonlocal thing
        thing = new

    return put, lambda: thing


put_into_closure, _look = _closure()


def with_default(thing: Any = None) -> Any:
    return thing


def put_global(thing: Any) -> None:
    global held
    held = thing


def put_into_main(thing: Any) -> None:
    sys.modules["__main__"].thing = thing  # type: ignore[attr-defined]


def put_private_global(thing: Any) -> None:
    global _held
    _held = thing


def put_module(thing: Any) -> None:
    json.thing = thing  # type: ignore[attr-defined]


def put_thread_local(thing: Any) -> None:
    local.thing = thing


def put_default(thing: Any) -> None:
    with_default.__defaults__ = (thing,)


def put_younger_module(thing: Any) -> None:
    import this_is_younger as module

    module.thing = thing


HOLDERS: dict[str, Callable[[Any], object]] = {
    "global": put_global,
    "__main__": put_into_main,
    "private global": put_private_global,
    "frozen dict": functools.partial(registry.__setitem__, "thing"),
    "frozen list": row.append,
    "frozen deque": queue.append,
    "frozen instance": functools.partial(setattr, app, "thing"),
    "slot": functools.partial(setattr, slots, "thing"),
    "class": functools.partial(setattr, App, "shared"),
    "closure": put_into_closure,
    "default": put_default,
    "function": functools.partial(setattr, with_default, "thing"),
    "other module": put_module,
    "younger module": put_younger_module,
    "dict in the data": functools.partial(data.__setitem__, "thing"),
    "list in the data": data["key 5"].append,
    "instance in the data": functools.partial(setattr, data["key 5"][2], "thing"),
    "sys": functools.partial(setattr, sys, "thing"),
    "builtins": functools.partial(setattr, builtins, "thing"),
    "thread local": put_thread_local,
    "context variable": variable.set,
    "instance in a list in a dict": lambda thing: registry.__setitem__("deep", [Slots(), {"x": (Holder(thing),)}]),
    "cycle": lambda thing: registry.__setitem__("cycle", Cycle(thing)),
}


class Holder:
    def __init__(self, thing: Any) -> None:
        self.thing = thing


class Cycle:
    def __init__(self, thing: Any) -> None:
        self.thing, self.own = thing, self


def generator(name: str) -> Iterator[int]:
    try:
        yield 1
    finally:
        say(f"finally of {name}")


def text_file() -> Any:
    file = open(path("text"), "w")
    file.write("flushed\n")
    return file


def started_generator() -> Any:
    made = generator("a generator")
    next(made)
    return made


def compressed() -> Any:
    file = gzip.GzipFile(path("file.gz"), "wb", mtime=0)
    file.write(b"data")
    return file


THINGS: dict[str, Callable[[], Any]] = {
    "object": functools.partial(Tells, "the object"),
    "text file": text_file,
    "generator": started_generator,
    "gzip": compressed,
}


def hold(put: Callable[[Any], object], make: Callable[[], Any]) -> Callable[[], None]:
    return lambda: (put(make()), None)[1]


for holder_name, put in HOLDERS.items():
    for thing_name, make in THINGS.items():
        if thing_name in ("object", "text file") or holder_name in ("global", "frozen dict", "frozen instance"):
            ending(f"{thing_name} in {holder_name}", roles=BOTH if thing_name == "object" else ("worker",))(hold(put, make))


def binary() -> Any:
    file = open(path("binary"), "wb")
    file.write(b"flushed")
    return file


def random_access() -> Any:
    file = open(path("random"), "w+b")
    file.write(b"flushed")
    return file


def bz2_file() -> Any:
    file = bz2.open(path("file.bz2"), "wb")
    file.write(b"data")
    return file


def xz_file() -> Any:
    file = lzma.open(path("file.xz"), "wb")
    file.write(b"data")
    return file


def zip_file() -> Any:
    file = zipfile.ZipFile(path("file.zip"), "w")
    file.writestr(zipfile.ZipInfo("name"), "data")
    return file


def shelf() -> Any:
    made = shelve.open(path("shelf"))
    made["x"] = 1
    return made


def database() -> Any:
    made = sqlite3.connect(path("database"))
    made.execute("create table t (x)")
    made.execute("insert into t values (1)")
    made.commit()
    return made


def logged_database() -> Any:
    """Its log lies beside it until SQLite has closed it, which waits for the statements that the connection keeps."""
    made = sqlite3.connect(path("database"), isolation_level=None)
    made.execute("pragma journal_mode = wal")
    made.execute("create table t (x)")
    made.execute("insert into t values (1)")
    return made


def map_file() -> Any:
    with open(path("mapped"), "w+b") as file:
        file.truncate(4096)
        made = mmap.mmap(file.fileno(), 4096)
    made[:4] = b"data"
    return made


class Raw(io.RawIOBase):
    """A raw stream in Python whose write needs its module."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.open(name, os.O_WRONLY | os.O_CREAT)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with stream_lock:
            return os.write(self.descriptor, data)


def over_python() -> Any:
    made = io.BufferedWriter(Raw(path("raw")))
    made.write(b"data")
    return made


def temporary() -> Any:
    made = tempfile.NamedTemporaryFile("w", dir=shared.place, prefix="temporary")
    made.write("gone")
    return made


def temporary_folder() -> Any:
    return tempfile.TemporaryDirectory(dir=shared.place, prefix="temporary")


def weak() -> Any:
    target = App()
    return target, weakref.ref(target, lambda _: say("callback of a weak reference"))


def finalize() -> Any:
    target = App()
    weakref.finalize(target, say, "weakref.finalize")
    return target


def gdbm() -> Any:
    try:
        from dbm import gnu
    except ImportError:
        return None
    made = gnu.open(path("gdbm"), "cf")
    made["x"] = "data"
    return made


def coroutine() -> Any:
    async def waits() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            say("finally of a coroutine")

    made = waits()
    made.send(None)
    return made


MORE: dict[str, Callable[[], Any]] = {
    "binary file": binary, "random access file": random_access, "bz2": bz2_file, "xz": xz_file, "zip": zip_file,
    "shelf": shelf, "database": database, "logged database": logged_database,
    "mapped file": map_file, "file over Python": over_python,
    "temporary file": temporary, "temporary folder": temporary_folder, "weak reference": weak, "finalize": finalize,
    "gdbm": gdbm, "coroutine": coroutine, "socket pair": socket.socketpair,
}  # fmt: skip
for name, make in MORE.items():
    ending(f"{name} in frozen dict", roles=("worker",))(hold(HOLDERS["frozen dict"], make))
for name in ("temporary file", "zip", "gdbm", "database"):
    ending(f"{name} in global", roles=("worker",))(hold(HOLDERS["global"], MORE[name]))
    ending(f"{name} in frozen instance", roles=("worker",))(hold(HOLDERS["frozen instance"], MORE[name]))
# Held before the freeze: by the process that froze. A worker leaves them to it (see test_endings.py).
for name, make in {**THINGS, **MORE}.items():
    for holder_name in ("global", "frozen instance", "default", "instance in a list in a dict"):
        if holder_name == "global" or name in THINGS:
            ending(f"{name} in {holder_name}, before", hold(HOLDERS[holder_name], make), ("parent",))(lambda: None)


for name, late in {"closed": False, "closed after another statement": True}.items():

    def close(late: bool = late) -> None:
        made = registry.pop("database")
        if late:
            made.execute("select x from t where x > 0").fetchall()
        made.close()
        say(str(sorted(os.listdir(shared.place))))

    ending(f"logged database, {name}", lambda: registry.update(database=logged_database()), ("parent",))(close)


@ending("several")
def _() -> None:
    for i in range(5):
        registry[i] = Tells(f"number {i}")
        row.append(Tells(f"also number {i}"))
        setattr(app, f"thing{i}", Tells(f"number {i} of the instance"))


@ending("rings of several")
def _() -> None:
    for i in range(3):
        a, b = Holder(Tells(f"a {i}")), Holder(Tells(f"b {i}"))
        a.other, b.other = b, a  # type: ignore[attr-defined]
        registry[i] = a


@ending("a finalizer uses frozen objects")
def _() -> None:
    class Uses:
        def __del__(self) -> None:
            say(f"{len(data)} {app.name} {registry['name']} {sorted(row)} {json.dumps([1])}")  # type: ignore[attr-defined]

    app.name = "application"  # type: ignore[attr-defined]
    registry["name"] = "registry"
    row.extend([3, 1, 2])
    registry["uses"] = Uses()


@ending("a finalizer stores into frozen objects")
def _() -> None:
    class Stores:
        def __del__(self) -> None:
            registry["again"] = self
            row.append(self)
            app.again = [self]  # type: ignore[attr-defined]
            say("stored")

    registry["stores"] = Stores()


@ending("a younger class, function and module")
def _() -> None:
    class Younger:
        def __del__(self) -> None:
            say(f"younger: {helper(2)}")

    def helper(n: int) -> int:
        return n * len(data)

    App.method = lambda self: helper(3)  # type: ignore[attr-defined]
    registry["class"], registry["function"] = Younger, helper
    variable.set(Younger())
    registry["instance"] = Younger()


@ending("caches")
def _() -> None:
    class Late:
        def __del__(self) -> None:
            say(f"late: {cached(3)} {'x'.encode('cp1252')!r}")

    for i in range(10):
        cached(i)
    "x".encode("cp1252")
    variable.set(Late())
    registry["late"] = Late()


@functools.lru_cache(maxsize=4)
def cached(n: int) -> list[int]:
    return [n]
