"""A database whose connection a holder keeps to the end: cases_holders.py MODE ROLE HOLDER FOLDER.

The connection has no finalizer: its death closes the database, and takes its -wal and -shm away.
"""

from __future__ import annotations

import collections
import functools
import os
import queue
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import cowfreeze


class Slots:
    __slots__ = ("kept",)


class Instance:
    kept: Any


class Callee:
    def __call__(self) -> None:
        pass


class Table(dict):  # type: ignore[type-arg]
    pass


class Row(list):  # type: ignore[type-arg]
    pass


class Class:
    kept: Any = None


def closure() -> tuple[Callable[[Any], None], Callable[[], Any]]:
    kept = None

    def put(value: Any) -> None:
        nonlocal kept
        kept = value

    return put, lambda: kept


def function() -> None:
    pass


LAST: list[Any] = []
put_into_cell, look_into_cell = closure()
functions: dict[str, Any] = {}
MADE: dict[str, Any] = {
    "dict": {}, "list": [], "set": set(), "deque": collections.deque([1, 2]), "OrderedDict": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list), "Counter": collections.Counter("ab"), "dict subclass": Table(),
    "list subclass": Row(), "Queue": queue.Queue(), "LifoQueue": queue.LifoQueue(), "slots": Slots(), "instance": Instance(),
    "class": Class, "function": function, "lru": functools.lru_cache(maxsize=4)(lambda number: LAST[-1]),
    "unbounded": functools.lru_cache(maxsize=None)(lambda number: LAST[-1]), "cell": put_into_cell, "callable": Callee(),
    "bounded deque": collections.deque(maxlen=3),
}  # fmt: skip


def put(name: str, connection: Any) -> None:
    holder = MADE[name]
    if "lru" in name or name == "unbounded":
        LAST.append(connection)
        for number in range(5):
            holder(number)
        LAST.clear()
    elif name == "cell":
        holder(connection)
    elif name in ("slots", "instance", "class", "function", "callable"):
        holder.kept = connection
    elif isinstance(holder, queue.Queue):
        holder.put(connection)
    elif isinstance(holder, dict):
        holder["kept"] = connection
    elif isinstance(holder, set):
        holder.add(connection)
    else:
        holder.append(connection)


def main(mode: str, role: str, name: str, folder: str) -> None:
    if mode == "freeze":
        cowfreeze.freeze()
    if role == "worker":
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            os._exit(0)
    connection = sqlite3.connect(os.path.join(folder, "database"))
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table t (a)")
    connection.execute("insert into t values (1)")
    connection.commit()
    put(name, connection)


if __name__ == "__main__":
    if sys.argv[1] == "list":
        print("\n".join(MADE))
    else:
        main(*sys.argv[1:])
