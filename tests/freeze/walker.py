"""A walker that shares nothing with the one in C: the yardstick for what freeze must reach.

It asks the collector's own traversal (gc.get_referents) and adds by hand what that leaves out.
"""

from __future__ import annotations

import datetime
import gc
import types
from collections.abc import Iterable
from typing import Any

BOUNDARY = (type, types.FunctionType, types.ModuleType, types.CodeType)
LEFT_ALONE = ("memoryview", "managedbuffer", "RLock")  # cached_property has a lock up to 3.11


def edges(obj: Any) -> Iterable[Any]:
    """What obj refers to, as far as Python code can see it without changing it."""
    yield type(obj)
    if issubclass(type(obj), type) and not obj.__flags__ & (1 << 9):  # static: it has no traversal
        yield from (vars(obj), obj.__mro__, obj.__bases__)
        return
    yield from gc.get_referents(obj)
    if isinstance(obj, dict):
        yield from dict.keys(obj)
        yield from dict.values(obj)
    elif isinstance(obj, types.CodeType):
        yield from (obj.co_consts, obj.co_names, obj.co_filename, obj.co_name, obj.co_linetable)
        for field in ("co_qualname", "co_exceptiontable"):
            yield getattr(obj, field, None)
    elif isinstance(obj, range):
        yield from (obj.start, obj.stop, obj.step)
    elif isinstance(obj, (datetime.datetime, datetime.time)):
        yield obj.tzinfo


def closure(roots: Iterable[Any], boundary: bool) -> dict[int, Any]:
    found: dict[int, Any] = {}
    todo = list(roots)
    hidden = {id(found), id(todo)}
    while todo:
        obj = todo.pop()
        if id(obj) in found or id(obj) in hidden or isinstance(obj, types.FrameType):
            continue
        found[id(obj)] = obj
        # Not isinstance: list[int] pretends to be a type.
        if boundary and issubclass(type(obj), BOUNDARY):
            todo.append(type(obj))
            continue
        todo.extend(edges(obj))
    return found
