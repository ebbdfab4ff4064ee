"""Whoever holds a reference to a frozen object (holders.py): its count must not move, for ever."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import types
from typing import Any

import cowfreeze
from freeze.holders import HOLDERS, Box, greenlets
from helpers.cases import HAS_FLAGS, HAS_IMMORTAL, copied_by, count_of, mortal, needs, page_of

FROZEN = 0xC1000000


def _freeze(where: str, data: Any) -> None:
    def freeze() -> None:
        cowfreeze.freeze(*([] if where == "whole heap" else [data]), threads="allow")

    if where == "greenlet":
        greenlets().greenlet(freeze).switch()
    elif where == "thread":
        thread = threading.Thread(target=freeze)
        thread.start()
        thread.join()
    else:
        freeze()


def drifts(where: str, stores: int, only: list[str] | None = None) -> dict[str, dict[str, int]]:
    """How far the count of a frozen object moves that each holder stores."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    try:
        import greenlet  # noqa: F401
    except ImportError:
        needs(where != "greenlet", "greenlet is not installed")
    holders, objects = {}, {}
    for label in only or HOLDERS:
        if "greenlet" not in label or "greenlet" in sys.modules:
            objects[label] = mortal({"k": [1, 2, 3]})
            holders[label] = HOLDERS[label](objects[label])
    _freeze(where, objects)
    result = {}
    for label, holder in holders.items():
        before = count_of(objects[label])
        holder.store(stores)
        after = count_of(objects[label])
        holder.end()
        result[label] = {"at the freeze": before, "drift": after - before, "at the end": count_of(objects[label])}
    return result


def below_the_caller(stores: int) -> dict[str, int]:
    """freeze() off the main thread, while the main thread's own frames hold the object."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    data = mortal({"k": [1, 2, 3]})
    _freeze("thread", data)
    before = count_of(data)
    box = Box()
    for _ in range(stores):
        box.x = data
    return {"at the freeze": before, "drift": count_of(data) - before}


def frame_under_a_greenlet(stores: int) -> dict[str, int]:
    """freeze() in a greenlet, while the thread's main greenlet holds the object."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    data = mortal({"k": [1, 2, 3]})
    _freeze("greenlet", data)
    before = count_of(data)
    box = Box()
    for _ in range(stores):
        box.x = data
    return {"at the freeze": before, "drift": count_of(data) - before}


def kept_by_a_traceback() -> bool:
    """Does a worker write a frozen object when it drops an exception whose frames hold it?"""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    from helpers.cases import big_str

    data = mortal(big_str("data"))
    kept: list[BaseException] = []

    def fail() -> None:
        mine = [data][0]
        raise ValueError(len(mine))

    try:
        fail()
    except ValueError as error:
        kept.append(error)
    cowfreeze.freeze(data)
    return page_of(data) in copied_by(kept.clear)


def later_freezes() -> dict[str, int]:
    """What is frozen later is tagged then, in holders that an earlier freeze has seen."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    first, second = mortal({"k": [1]}), mortal({"k": [2]})
    result = {}
    with contextlib.suppress(ImportError):
        import greenlet  # noqa: F401
    for label, maker in HOLDERS.items():
        if "greenlet" in label and "greenlet" not in sys.modules:
            continue
        mine = mortal({"k": [3]})
        holder = maker(mine)
        cowfreeze.freeze(first, threads="allow")  # whole or not: the holder stays as it is
        cowfreeze.freeze(threads="allow")
        cowfreeze.freeze(second, threads="allow")
        before = count_of(mine)
        holder.store(1000)
        result[label] = count_of(mine) - before
        holder.end()
    return result


def greenlets_are_left() -> dict[str, Any]:
    """A frozen greenlet would never run its finally block."""
    import weakref

    greenlet = greenlets()
    ended: list[str] = []

    def run() -> None:
        try:
            greenlet.getcurrent().parent.switch()
        finally:
            ended.append("finally")

    waiting = greenlet.greenlet(run)
    waiting.switch()
    dead = weakref.ref(waiting)
    report = cowfreeze.freeze(waiting)  # not in a list: that would keep it
    marked = cowfreeze.is_frozen(waiting)
    cowfreeze.freeze()
    marked = marked or cowfreeze.is_frozen(waiting)
    del waiting
    gc.collect()
    skipped = report.skipped.get("greenlet", 0)
    return {"marked": marked, "ended": ended, "dead": dead() is None, "skipped": skipped}


def unknown_greenlets() -> list[str]:
    """What the report says when greenlets cannot be read."""
    needs(HAS_FLAGS, "before 3.14 references on stacks are not tagged")
    module = types.ModuleType("greenlet")
    module.greenlet = type("greenlet", (), {})  # type: ignore[attr-defined]
    module.__version__ = "99.0"
    sys.modules["greenlet"] = module
    return list(cowfreeze.freeze([[]]).notes)
