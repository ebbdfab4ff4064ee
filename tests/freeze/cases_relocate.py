"""Code that was moved: it must run, be traced, be looked at and be pickled as before."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ctypes
import functools
import gc
import inspect
import pickle
import sys
import traceback
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import cowfreeze
from cowfreeze import _core
from helpers.cases import copied_by, in_worker, pages_of

results: list[Any] = []


def recursive(n: int) -> int:
    return 1 if n < 2 else recursive(n - 1) + recursive(n - 2)


def generator(n: int) -> Iterator[int]:
    for k in range(n):
        received = yield k * n
        if received:
            yield -received


def delegating(n: int) -> Iterator[int]:
    yield from generator(n)
    yield from (k for k in range(n) if k % 2)


def closure(n: int) -> Callable[[int], int]:
    def add(k: int) -> int:
        nonlocal n
        n += k
        return n

    return add


def comprehensions(n: int) -> list[Any]:
    rows = [[k * j for k in range(n) if k != j] for j in range(n)]
    table = {k: [str(j) for j in row] for k, row in enumerate(rows)}
    return [rows, table, {len(row) for row in rows}, sorted(table, key=lambda k: -k)]


def failing(n: int) -> int:
    try:
        if n == 0:
            raise ValueError("at the bottom")
        return failing(n - 1)
    except ValueError as error:
        if n % 3 == 0:
            raise KeyError(n) from error
        raise
    finally:
        results.append(n)


@contextlib.contextmanager
def managed(value: int) -> Iterator[int]:
    try:
        yield value
    finally:
        results.append(value)


async def step(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2


async def numbers(n: int) -> AsyncIterator[int]:
    for k in range(n):
        yield await step(k)


async def together(n: int) -> list[int]:
    one = [k async for k in numbers(n)]
    return [*one, *await asyncio.gather(*(step(k) for k in range(n)))]


class Account:
    """Properties, class methods, slots, operators, super()."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    @property
    def doubled(self) -> int:
        return self.amount * 2

    @classmethod
    def empty(cls) -> Account:
        return cls(0)

    @staticmethod
    def unit() -> int:
        return 1

    def __add__(self, other: Account) -> Account:
        return type(self)(self.amount + other.amount)

    def __getitem__(self, k: int) -> int:
        if k >= self.amount:
            raise IndexError(k)
        return k


class Savings(Account):
    def __init__(self, amount: int, rate: float = 0.5) -> None:
        super().__init__(amount)
        self.rate = rate

    @functools.cached_property
    def interest(self) -> float:
        return self.amount * self.rate


@functools.lru_cache(maxsize=None)
def cached(n: int) -> int:
    return n if n < 2 else cached(n - 1) + cached(n - 2)


def matching(value: Any) -> str:
    match value:
        case {"a": int(n)} if n > 3:
            return f"large {n}"
        case [first, *rest]:
            return f"{first} and {len(rest)}"
        case Account(amount=n):
            return f"account {n}"
        case _:
            return "other"


def everything() -> list[Any]:
    """What the functions above answer; the same each time."""
    results.clear()
    found: list[Any] = [recursive(12), list(delegating(7)), comprehensions(6)]
    add = closure(3)
    found.append([add(k) for k in range(5)])
    running = generator(5)
    found.append([next(running), running.send(7), next(running)])
    running.close()
    for n in (4, 7):
        try:
            failing(n)
        except (KeyError, ValueError) as error:
            where = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            found.append([type(error).__name__, where, type(error.__cause__ or error.__context__).__name__])
    with managed(5) as value, contextlib.suppress(ZeroDivisionError):
        found.append(value // 0)
    found.append(asyncio.run(together(5)))
    saved = Savings(8) + Savings(4)
    found.append([saved.doubled, saved.interest, Savings.empty().amount, Account.unit(), list(saved)])
    cached.cache_clear()
    found.append([cached(30), functools.reduce(lambda a, b: a * b, range(1, 9)), list(map(str, range(3)))])
    found.append([matching(v) for v in ({"a": 5}, [1, 2, 3], Account(3), {"a": 1})])
    found.append(list(results))
    return found


FUNCTIONS = (recursive, generator, delegating, comprehensions, failing, step, numbers, everything)
before: dict[str, types.CodeType] = {function.__name__: function.__code__ for function in FUNCTIONS}


class SecondCall:
    """A warm-up that does its work when it is called again, so that all of it is new code."""

    calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == 2:
            everything()


def trace_lines() -> list[int]:
    """The lines of `failing` that a tracer sees, relative to its first one."""
    lines: set[int] = set()

    def tracer(frame: types.FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_name == "failing" and event == "line":
            lines.add(frame.f_lineno - frame.f_code.co_firstlineno)
        return tracer

    sys.settrace(tracer)
    everything()
    sys.settrace(None)
    return sorted(lines)


def _moved() -> list[str]:
    return sorted(f.__name__ for f in FUNCTIONS if f.__code__ is not before[f.__name__])


def runs_on() -> dict[str, Any]:
    """Run, move, and run again: here, in workers, after a collection, after a second freeze."""
    wanted = in_worker(lambda: repr(everything()))
    suspended = [generator(9), delegating(4)]
    for each in suspended:
        next(each)
    coroutine = together(3)
    report = cowfreeze.freeze(warmup=SecondCall(), relocate_code=True)
    rest = [list(each) for each in suspended]
    answers = [repr(everything()) == wanted for _ in range(50)]
    gc.collect()
    worker = in_worker(lambda: [repr(everything()) == wanted, [list(generator(9))[1:], list(delegating(4))[1:]] == rest])
    second = cowfreeze.freeze(warmup=everything, relocate_code=True)
    return {
        "moved": _moved(),
        "report": [report.relocated_codes, report.relocated_bytes, report.to_dict()["relocated_codes"]],
        "notes": list(report.notes),
        "rest": rest == [list(generator(9))[1:], list(delegating(4))[1:]],
        "coroutine": asyncio.run(coroutine) == asyncio.run(together(3)),
        "answers": all(answers) and len(answers) == 50,
        "worker": worker,
        "second": second.relocated_codes,
        "after": repr(everything()) == wanted,
    }


def looked_at() -> dict[str, Any]:
    """Equality, inspect, tracebacks, pickle, replace; then tracing, profiling, monitoring."""
    lines = in_worker(trace_lines)
    cowfreeze.freeze(warmup=SecondCall(), relocate_code=True)
    found: dict[str, Any] = {"moved": _moved()}
    codes = [(f.__code__, before[f.__name__]) for f in FUNCTIONS]
    found["equal"] = all(new == old and hash(new) == hash(old) and {old: 1}[new] for new, old in codes)
    found["fields"] = all(
        new.co_code == old.co_code and new.co_consts == old.co_consts and list(new.co_lines()) == list(old.co_lines())
        and list(new.co_positions()) == list(old.co_positions()) and new.co_varnames == old.co_varnames
        for new, old in codes
    )
    found["source"] = inspect.getsource(recursive).startswith("def recursive")
    found["signature"] = str(inspect.signature(Savings))
    found["pickle"] = pickle.loads(pickle.dumps(recursive)) is recursive and copy.deepcopy(recursive) is recursive
    replaced = types.FunctionType(recursive.__code__.replace(co_name="other"), globals())
    found["replace"] = replaced(10) == recursive(10)
    reference = weakref.ref(recursive.__code__)
    found["weakref"] = reference() is recursive.__code__
    old_code = before["recursive"]
    found["old"] = types.FunctionType(old_code, globals())(10) == recursive(10)

    wanted = everything()
    found["lines"] = trace_lines() == lines and len(lines) > 6
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name))
    profiled = everything()
    sys.setprofile(None)
    found["profiled"] = profiled == wanted
    found["calls"] = {"recursive", "generator", "failing", "step"} <= set(calls)
    tool = 3
    seen: set[str] = set()
    sys.monitoring.use_tool_id(tool, "test")
    sys.monitoring.register_callback(tool, sys.monitoring.events.PY_START, lambda code, offset: seen.add(code.co_name))
    sys.monitoring.set_events(tool, sys.monitoring.events.PY_START)
    found["monitored"] = everything() == wanted
    sys.monitoring.set_events(tool, 0)
    sys.monitoring.free_tool_id(tool)
    found["seen"] = {"recursive", "generator", "comprehensions"} <= seen
    found["after"] = everything() == wanted
    return found


def watched() -> dict[str, Any]:
    """Who watches code keeps it where it is, and is named."""
    found: dict[str, Any] = {}
    sys.settrace(lambda *_: None)
    found["trace"] = list(cowfreeze.freeze(warmup=everything, relocate_code=True).notes)
    sys.settrace(None)
    sys.setprofile(lambda *_: None)
    found["profile"] = list(cowfreeze.freeze(warmup=everything, relocate_code=True).notes)
    sys.setprofile(None)
    sys.monitoring.use_tool_id(1, "cov of the test")
    found["monitoring"] = list(cowfreeze.freeze(warmup=everything, relocate_code=True).notes)
    sys.monitoring.free_tool_id(1)

    def warmup() -> None:
        sys.settrace(lambda *_: None)

    found["in the warm-up"] = list(cowfreeze.freeze(warmup=warmup, relocate_code=True).notes)
    sys.settrace(None)
    found["moved"] = _moved()
    return found


def kept_by_address() -> dict[str, Any]:
    """A code object that somebody refers to weakly, or has stored data about, is not moved."""
    reference = weakref.ref(generator.__code__)
    index = ctypes.pythonapi.PyUnstable_Eval_RequestCodeExtraIndex
    index.argtypes = [ctypes.c_void_p]
    store = ctypes.pythonapi.PyUnstable_Code_SetExtra
    store.argtypes = [ctypes.py_object, ctypes.c_ssize_t, ctypes.c_void_p]
    assert store(recursive.__code__, index(None), 4711) == 0
    report = cowfreeze.freeze(warmup=SecondCall(), relocate_code=True)
    return {"moved": _moved(), "same": reference() is generator.__code__, "notes": list(report.notes)}


def without_warmup() -> dict[str, Any]:
    """3.13 and later see what has ever run; 3.12 says that it does not."""
    wanted = everything()
    report = cowfreeze.freeze(relocate_code=True)
    return {
        "moved": _moved(),
        "notes": list(report.notes),
        "after": everything() == wanted,
        "codes": report.relocated_codes,
    }


def scattered(relocate: bool) -> dict[str, Any]:
    """300 functions with branches, each between objects that nobody else touches."""
    functions: list[Callable[[int, Any], int]] = []
    data: list[Any] = []
    body = "".join(f"    if value.real > {k}: total += value\n    if isinstance(value, str): total -= 1\n" for k in range(12))
    for n in range(300):
        names: dict[str, Any] = {}
        exec(f"def function(total, value):\n{body}    return total\n", names)
        functions.append(names["function"])
        data.append([bytes(600) for _ in range(8)])

    def use() -> None:
        # int and float in turn: sites that cannot be specialised count, on every version.
        for n in range(7):
            for function in functions:
                function(0, n if n % 2 else n / 3)

    use()
    cowfreeze.freeze(warmup=use, relocate_code=relocate)
    copied = copied_by(use)
    codes = [function.__code__ for function in functions]
    return {
        "copied": len(copied),
        "code pages": len(pages_of(codes)),
        "data": len(copied & pages_of(block for row in data for block in row)),
        "bookkeeping": _core.bookkeeping_bytes(),
    }
