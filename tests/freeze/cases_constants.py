"""LOAD_CONST_MORTAL (3.14): code that ran before the freeze counts its constants unchecked.

The constants are big, so that each has a page of its own; the code runs before the freeze, which
rewrites the instruction, and again in a worker.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import cowfreeze
from helpers.cases import HAS_IMMORTAL, Fork, copied_by, count_of, mortal, needs, page_of

_numbers = itertools.count()


def literal() -> str:
    """Source of a constant above the page size that is not interned."""
    return repr(f"constant {next(_numbers)} " * 20_000)


def function(source: str, **names: Any) -> Any:
    namespace: dict[str, Any] = dict(names)
    exec(source, namespace)
    return namespace["f"]


def constant_of(code: types.CodeType) -> Any:
    found = [c for c in code.co_consts if isinstance(c, (str, bytes)) and len(c) > 100_000]
    assert len(found) == 1, [type(c) for c in code.co_consts]
    return mortal(found[0])


class Case:
    """A constant, what makes a worker load it, and what keeps its code alive."""

    def __init__(self, code: types.CodeType, run: Callable[[], Any], keep: Any = None) -> None:
        self.constant = constant_of(code)
        self.run = run
        self.keep = keep
        for _ in range(3):
            run()


def _plain() -> Case:
    f = function(f"def f():\n    return {literal()}")
    return Case(f.__code__, f)


def _kept_in_a_list() -> Case:
    f = function(f"def f(kept):\n    kept.append({literal()})")
    kept: list[Any] = []
    return Case(f.__code__, lambda: f(kept) or kept.clear())


def _high_index() -> Case:
    body = "\n".join(f"    x = {n}.5" for n in range(300))
    f = function(f"def f():\n{body}\n    return {literal()}")
    return Case(f.__code__, f)


def _after_jumps_and_caches() -> Case:
    f = function(
        "def f(n=3):\n"
        "    total = 0\n"
        "    for i in range(n):\n"
        "        if i % 2 and len(str(i)) > 0 and n.real:\n"
        "            total += i * 2\n"
        f"    return [total, {literal()}][1]"
    )
    return Case(f.__code__, f)


def _nested() -> Case:
    outer = function(f"def f():\n    def inner():\n        return {literal()}\n    return inner")
    inner = next(c for c in outer.__code__.co_consts if isinstance(c, types.CodeType))
    return Case(inner, lambda: outer()())


def _method() -> Case:
    cls = function(f"class f:\n    def method(self):\n        return {literal()}")
    return Case(cls.method.__code__, cls().method)


def _property_of_a_class() -> Case:
    cls = function(f"class f:\n    @property\n    def value(self):\n        return {literal()}")
    obj = cls()
    return Case(cls.value.fget.__code__, lambda: obj.value)


def _generator() -> Case:
    f = function(f"def f():\n    while True:\n        yield {literal()}")
    return Case(f.__code__, lambda: next(f()))


def _suspended_generator() -> Case:
    f = function(f"def f():\n    while True:\n        yield {literal()}")
    code, suspended = f.__code__, f()
    del f
    return Case(code, lambda: next(suspended))


def _suspended_coroutine() -> Case:
    f = function(
        f"async def f():\n    while True:\n        await step()\n        x = {literal()}\n",
        step=types.coroutine(_step),
    )
    code, suspended = f.__code__, f()
    del f
    return Case(code, lambda: suspended.send(None))


def _suspended_async_generator() -> Case:
    f = function(f"async def f():\n    while True:\n        yield {literal()}")
    code, suspended = f.__code__, f()
    del f

    def run() -> None:
        try:
            suspended.__anext__().send(None)
        except StopIteration:
            pass

    return Case(code, run)


def _step() -> Iterator[None]:
    yield


def _code_without_function() -> Case:
    code = compile(f"x = {literal()}", "code", "exec")
    return Case(code, lambda: exec(code, {}))


def _frozen_code_object() -> Case:
    """Nothing but the graph refers to the code, and only the walk meets it."""
    code = compile(f"x = {literal()}", "code", "exec")
    return Case(code, lambda: exec(code, {}), code)


def _class_body() -> Case:
    f = function(f"def f():\n    class C:\n        x = {literal()}\n    return C")
    body = next(c for c in f.__code__.co_consts if isinstance(c, types.CodeType))
    return Case(body, f)


def _bytes() -> Case:
    f = function(f"def f():\n    return b{literal()}")
    return Case(f.__code__, f)


MAKERS: dict[str, Callable[[], Case]] = {
    maker.__name__.strip("_").replace("_", " "): maker
    for maker in (
        _plain,
        _kept_in_a_list,
        _high_index,
        _after_jumps_and_caches,
        _nested,
        _method,
        _property_of_a_class,
        _generator,
        _suspended_generator,
        _suspended_coroutine,
        _suspended_async_generator,
        _frozen_code_object,
        _class_body,
        _bytes,
    )
}


def loaded_by_code_that_ran() -> dict[str, list[bool]]:
    """[copied without a freeze?, copied with one?] by where the code is."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    cases = {label: maker() for label, maker in MAKERS.items()}
    result = {}
    for label, case in cases.items():
        result[label] = [page_of(case.constant) in copied_by(case.run)]
    cowfreeze.freeze([case.constant for case in cases.values()], [c.keep for c in cases.values()])
    for label, case in cases.items():
        case.run()  # in the parent too
        result[label].append(page_of(case.constant) in copied_by(case.run))
    return result


def of_a_frozen_function(gc_freeze: bool) -> list[bool]:
    """The function is frozen first, and its constant by a later freeze."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    f = function(f"def f():\n    return {literal()}")
    cowfreeze.freeze([f], gc_freeze=gc_freeze)
    case = Case(f.__code__, f)
    before = page_of(case.constant) in copied_by(f)
    cowfreeze.freeze([case.constant], gc_freeze=gc_freeze)
    return [before, page_of(case.constant) in copied_by(f)]


def drift() -> dict[str, int]:
    """Executions that leave a reference in a container must not count up for ever."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    case = _kept_in_a_list()
    cowfreeze.freeze(case.constant)
    before = count_of(case.constant)
    for _ in range(5000):
        case.run()
    return {"drift": count_of(case.constant) - before}


def in_the_running_frame() -> bool:
    """The constant of a loop that is running: only the frame leads to the new instruction."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    state: dict[str, Any] = {}

    def step(value: str, n: int) -> bool:
        if n == 2:
            state["page"] = page_of(mortal(value))
            cowfreeze.freeze(value)
        return n < 3

    code = compile(
        "n = 0\n"
        f"while step({literal()}, n):\n"
        "    n += 1\n"
        "    if n == 3:\n"
        "        fork.__enter__()\n",
        "loop",
        "exec",
    )
    fork = Fork()
    names = {"step": step, "fork": fork}
    exec(code, names)
    fork.__exit__(None, None, None)
    return state["page"] in fork.copied
