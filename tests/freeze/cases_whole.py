"""The whole heap frozen: everything must go on working, in this process and in workers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import gc
import io
import itertools
import json
import logging
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import traceback
import typing
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cowfreeze
from cowfreeze import _core
from helpers.cases import HAS_IMMORTAL, in_worker, is_marked, pages_of
from freeze.zoo import KINDS, text

cache_calls: list[int] = []


@functools.lru_cache(maxsize=4)
def cached(n: int) -> list[int]:
    cache_calls.append(n)
    return [n]


class Base:
    registry: dict[str, type] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Base.registry[cls.__name__] = cls


class Colour(enum.Flag):
    RED = enum.auto()
    BLUE = enum.auto()


@dataclasses.dataclass(order=True)
class Row:
    key: int
    values: list[str] = dataclasses.field(default_factory=list)


def _classes() -> None:
    for n in range(20):
        cls = type(f"Dynamic{n}", (Base,), {"n": n, "__slots__": ("x",)})
        obj = cls()
        obj.x = n  # type: ignore[attr-defined]
        assert obj.n == n  # type: ignore[attr-defined]
    Base.attribute = 1  # type: ignore[attr-defined]
    assert all(cls.attribute == 1 for cls in Base.registry.values())  # type: ignore[attr-defined]
    del Base.attribute  # type: ignore[attr-defined]
    assert isinstance([], collections.abc.Sequence) and issubclass(dict, typing.Mapping)
    assert Colour.RED | Colour.BLUE and sorted([Row(2), Row(1)])[0].key == 1


def _exceptions() -> None:
    def raising(depth: int) -> None:
        if depth:
            raising(depth - 1)
        raise ValueError(text())

    for _ in range(50):
        try:
            raising(20)
        except ValueError as error:
            assert "raising" in traceback.format_exc()
            with contextlib.suppress(KeyError):
                raise KeyError from error
    try:
        sys.setrecursionlimit(400)
        (lambda f: f(f))(lambda f: f(f))
    except RecursionError:
        pass
    finally:
        sys.setrecursionlimit(1000)


def _generators() -> None:
    def numbers() -> Any:
        received = yield from itertools.count()
        yield received

    assert sum(itertools.islice(numbers(), 100)) == 4950
    assert [x * y for x in range(10) for y in (x,)][3] == 9
    cleaned = []

    def cleaning() -> Any:
        try:
            yield 1
        finally:
            cleaned.append(1)

    next(cleaning())
    gc.collect()
    assert cleaned


def _threads() -> None:
    lock, done = threading.Lock(), []
    local = threading.local()

    def work(n: int) -> None:
        local.value = n
        with lock:
            done.append(local.value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(len, ["a", "bb"])) == 3


def _asyncio() -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        await queue.put(1)
        return await asyncio.gather(*(double(n) for n in range(20)), queue.get())

    assert sum(asyncio.run(main())) == 381


def _text_and_data() -> None:
    data = {"a": [1, 2.5, None, True, "x\u20ac"], "b": {"c": "d"}}
    assert json.loads(json.dumps(data, indent=1)) == data
    assert pickle.loads(pickle.dumps([data, Row(1), Colour.RED])) == [data, Row(1), Colour.RED]
    for n in range(30):
        assert re.compile(rf"(\d{{{n}}})x").match("1" * n + "x")
    assert "%s %r" % (text(), 1) and f"{decimal.Decimal(1) / 3:.5f}" == "0.33333"
    assert datetime.datetime.now(datetime.timezone.utc).isoformat()
    exec(compile("class X:\n  def f(self): return [i for i in range(3)]\nX().f()", "x", "exec"), {})
    assert cached(1) is cached(1)
    for n in range(20):
        cached(n)


def _output() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("zoo")
    logger.addHandler(handler)
    logger.warning("logged %s", 1)
    logger.removeHandler(handler)
    assert "logged 1" in stream.getvalue()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("warned", stacklevel=1)
    assert len(caught) == 1
    with tempfile.TemporaryFile("w+") as file:
        print(text(), file=file)
        file.seek(0)
        assert file.read()
    done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
    assert done.stdout.strip() == b"1"


def _imports() -> None:
    for module in ("colorsys", "wave", "plistlib", "tomllib", "sched", "this_does_not_exist"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ImportError):
            __import__(module)


def _weak_references() -> None:
    obj = Row(5, [text()])
    died: list[int] = []

    class Target:
        pass

    target = Target()
    weakref.finalize(target, died.append, 1)
    table: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    table[1] = target
    del target
    gc.collect()
    assert died == [1] and 1 not in table and obj.key == 5


def workload() -> None:
    for part in (
        _classes,
        _exceptions,
        _generators,
        _threads,
        _asyncio,
        _text_and_data,
        _output,
        _imports,
        _weak_references,
    ):
        part()
        gc.collect()


def frozen(before: bool) -> dict[str, Any]:
    """Freeze everything, before any of the code has run or after it has been specialized."""
    if before:
        for _ in range(3):
            workload()
    report = cowfreeze.freeze()
    workload()
    workers = [in_worker(lambda: workload() or 1) for _ in range(2)]
    second = cowfreeze.freeze()
    workload()
    return {
        "workers": workers,
        "objects": report.objects,
        "second": second.objects,
        "text": len(str(report)) > 100,
        "marked": [is_marked(o) for o in (sys.modules, json.dumps, Base, sys.modules["json"].__dict__)],
    }


def zoo_in_a_frozen_heap() -> dict[str, Any]:
    """Data of every kind, whole heap frozen, and a worker that reads all and collects."""
    graph = {label: maker() for label, maker in KINDS.items()}
    cowfreeze.freeze()
    missed = {
        label: [type(obj).__name__ for obj in expected if not is_marked(obj)]
        for label, (_, expected) in graph.items()
    }

    def reader() -> int:
        total = 0
        for root, expected in graph.values():
            for obj in expected:
                total += len(repr(obj)[:20])
        gc.collect()
        return total

    return {"missed": {k: v for k, v in missed.items() if v}, "read": in_worker(reader) > 0}


def read_by_workers() -> dict[str, Any]:
    """Records read key by key in a worker after freezing everything: frozen pages copied."""
    rows = [{"n": k + 10**6, "name": text(), "tags": (text(), k * 0.5, None)} for k in range(20_000)]

    def read() -> int:
        total = 0
        for row in rows:
            for key, value in row.items():
                total += len(key)
                hash(value)
        gc.collect()
        return total

    read()
    pages = pages_of(rows) | pages_of(row["name"] for row in rows)
    pages |= pages_of(row["tags"] for row in rows) | pages_of(row["n"] for row in rows)
    cowfreeze.freeze()
    with _core.Witness() as witness:

        def worker() -> int:
            read()
            return len(set(_core.copied_addresses(witness)) & pages)

        copied = in_worker(worker)
    return {"pages": len(pages), "copied": copied if HAS_IMMORTAL else 0}


# -- freezes at odd moments -------------------------------------------------


def well_hashed(made: frozenset[int]) -> frozenset[int]:
    """MADE if its hash is that of what it holds now."""
    return made if hash(made) == hash(frozenset([*made])) else frozenset()


def half_built() -> dict[str, Any]:
    """freeze() called by code that a C function is calling while it builds something."""
    results: dict[str, Any] = {}

    def items(n: int, at: int) -> Any:
        for k in range(n):
            if k == at:
                cowfreeze.freeze()
            yield [k]

    builders: dict[str, Any] = {
        "tuple": tuple,
        "list": list,
        "set": lambda iterator: {x[0] for x in iterator},
        "frozenset": lambda iterator: well_hashed(frozenset(x[0] for x in iterator)),
        "dict": lambda iterator: {k[0]: k for k in iterator},
        "sorted": sorted,
        "join": lambda iterator: "".join(f"{x[0] % 10}" for x in iterator),
        "tuple of tuples": lambda iterator: tuple(map(tuple, iterator)),
        "star": lambda iterator: (lambda *a: a)(*iterator),
        "bytes": lambda iterator: bytes(x[0] % 256 for x in iterator),
        "zip": lambda iterator: list(zip(iterator, range(1000))),
    }
    # Not at 10, 25 ...: see full_tuple.
    for n in (1, 3, 12, 500):
        for at in {0, 1, n // 2, n - 1} & set(range(n)):
            for label, build in builders.items():
                try:
                    results[f"{label} {n} {at}"] = len(build(items(n, at))) == n
                except SystemError as error:
                    results[f"{label} {n} {at}"] = False
                    print(label, n, at, error, file=sys.stderr)
    return {"wrong": [label for label, right in results.items() if not right], "n": len(results)}


def full_tuple() -> dict[str, Any]:
    """The moments at which nothing in the tuple says that it is unfinished (3.10 to 3.13)."""

    def items(n: int, at: int) -> Any:
        for k in range(n):
            if k == at:
                cowfreeze.freeze()
            yield [k]

    wrong = []
    for n in (9, 10, 11, 12, 30, 70):
        for at in range(n):
            if at in (9, 10, 11) or at > 22:
                try:
                    tuple(items(n, at))
                except SystemError:
                    wrong.append([n, at])
    return {"wrong": wrong}


def half_sorted() -> dict[str, Any]:
    """In a key function the list that is being sorted is empty."""
    data = [[3], [1], [2]]

    def key(item: list[int]) -> int:
        cowfreeze.freeze(data)
        return item[0]

    data.sort(key=key)
    cowfreeze.freeze(data)
    return {"sorted": data == [[1], [2], [3]], "marked": all(map(is_marked, data))}


class Frozen:
    """Frozen from within its own methods."""

    def __init__(self) -> None:
        self.value = [text()]
        cowfreeze.freeze(self)

    def __enter__(self) -> Frozen:
        cowfreeze.freeze(self)
        return self

    def __exit__(self, *_: object) -> None:
        cowfreeze.freeze(self)

    @property
    def value_again(self) -> list[str]:
        cowfreeze.freeze(self.__dict__)
        return self.value


def in_methods() -> dict[str, Any]:
    with Frozen() as one:
        got = one.value_again

    async def coroutine() -> None:
        cowfreeze.freeze(one)
        await asyncio.sleep(0)
        cowfreeze.freeze()

    asyncio.run(coroutine())
    try:
        raise ValueError(one)
    except ValueError as error:
        cowfreeze.freeze(one)
        in_flight = error
        report = cowfreeze.freeze([error])
    return {
        "marked": is_marked(got[0]),
        "exception": is_marked(in_flight),
        "skipped": report.skipped,
    }


def tracing() -> dict[str, Any]:
    """Under a profiler and a tracer, which keep frames and code of their own."""
    seen = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        seen.append(event)
        return trace

    data = [text()]
    sys.settrace(trace)
    try:
        cowfreeze.freeze(data)
    finally:
        sys.settrace(None)
    sys.setprofile(trace)
    try:
        cowfreeze.freeze()
    finally:
        sys.setprofile(None)
    workload()
    return {"marked": is_marked(data), "seen": len(seen) > 10}
