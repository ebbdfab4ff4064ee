"""What the endings share: how one is named, and the frozen objects that they use."""

from __future__ import annotations

import collections
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

place = ""  # the folder of the ending that runs; set by cases_endings.py




class Ending(NamedTuple):
    end: Callable[[], object]
    before: Callable[[], object]
    roles: tuple[str, ...]


BOTH = ("parent", "worker")
ENDINGS: dict[str, Ending] = {}


def ending(name: str, before: Callable[[], object] = lambda: None, roles: tuple[str, ...] = BOTH) -> Callable[[Any], Any]:
    def add(end: Callable[[], object]) -> Callable[[], object]:
        assert name not in ENDINGS, name
        ENDINGS[name] = Ending(end, before, roles)
        return end

    return add


def say(text: str) -> None:
    """What is said is in the output at once, whatever becomes of sys.stdout."""
    os.write(1, text.encode() + b"\n")


def path(name: str) -> str:
    return os.path.join(place, name)


class Tells:
    """Says when it is finalised, and needs its module for that."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        say(f"{self.name} is finalised, {'whole' if Tells is not None and os is not None else 'torn'}")


class App:
    """Frozen; what it holds may be younger."""

    shared: Any = None


class Slots:
    __slots__ = ("thing",)


class Special(SystemExit):
    """A subclass may compute its code when it is asked for."""

    @property
    def code(self) -> int:  # type: ignore[override]
        return 9


app, slots = App(), Slots()
registry: dict[Any, Any] = {}
row: list[Any] = []
queue: collections.deque[Any] = collections.deque()
local = threading.local()
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
data = {f"key {i}": [i, (i, str(i)), App()] for i in range(100)}
made_before = SystemExit(3)
stream_lock = threading.RLock()


