"""Nine writes planted in workers of a frozen process; prints what explain() said, as JSON.

Each target writes in one way that is known, and the name under which the written thing is
known is a global of this script.
"""

from __future__ import annotations

import functools
import gc
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import cowfreeze

ABOVE_POOLS = 1200  # bytes: malloc serves what is larger than 512


class Neighbour:
    pass


class Config:
    def __init__(self) -> None:
        self.name = "x"
        self.count = 0


SOURCE = """
def first_called_in_the_worker(values):
    total = 0
    for value in values:
        if value > 2:
            total += value
    return total
"""


def in_the_middle(make: Callable[[], Any]) -> Any:
    """One of many like it, so that its page holds nothing that the interpreter writes: the
    first hundreds fill what is free in older pools."""
    many.append([make() for _ in range(2000)])
    return many[-1][1500]


def make_function() -> Callable[[list[int]], int]:
    names: dict[str, Any] = {}
    exec(compile(SOURCE, "planted.py", "exec"), names)
    function: Callable[[list[int]], int] = names["first_called_in_the_worker"]
    return function


def make_cache() -> Callable[[str], int]:
    return functools.lru_cache(maxsize=None)(lambda key: len(key))


def chunks(count: int) -> list[bytes]:
    return [bytes(ABOVE_POOLS) for _ in range(count)]


def make_holes() -> None:
    """Leave far more holes in malloc's heap than anything between here and the fork fills."""
    apart = chunks(6000)
    between[:] = apart[::2]


many: list[list[Any]] = []
neighbour = in_the_middle(Neighbour)
numbers = in_the_middle(lambda: [1, 2, 3, 4, 5, 6, 7, 8, 9])
table = in_the_middle(lambda: {"a": 1, "b": 2})
config = in_the_middle(Config)
generator = in_the_middle(lambda: random.Random(1))
first_called_in_the_worker = in_the_middle(make_function)
cached = in_the_middle(make_cache)
cached("key")
first_values = [1, 2, 3, 4]
text = ""
between: list[bytes] = []


def targets() -> dict[str, Callable[[int], Any]]:
    return {
        "count": lambda index: neighbour,  # held as the result while pages are measured
        "count again": lambda index: [neighbour for _ in range(3)].clear(),
        "append": lambda index: numbers.append(10),
        "insert": lambda index: table.update(c=3),
        "hash": lambda index: hash(text) and None,
        "lru": lambda index: cached("key") and None,
        "attribute": lambda index: setattr(config, "count", 7),
        "code": lambda index: first_called_in_the_worker(first_values) and None,
        "malloc": lambda index: chunks(200),
        "random": lambda index: generator.random() and None,
    }


def explain(name: str, target: Callable[[int], Any]) -> dict[str, Any]:
    if name == "malloc":
        make_holes()
    result = cowfreeze.fork_workers(target, 1, explain=True)
    worker = result.workers[0]
    assert worker.outcome == "returned" and worker.copied_pages is not None, worker
    explanation = result.explain(top=1000)
    made = explanation.to_dict()
    made["copied_pages"] = worker.copied_pages
    made["text"] = str(explanation)
    made["main"] = len(explanation.main)
    made["names"] = [cause.name for cause in explanation.causes]
    return made


def main() -> None:
    global text
    if sys.argv[1:] == ["collect"]:
        data = [{"id": [number]} for number in range(20000)]
        gc.collect()
        found = explain("collect", lambda index: gc.collect() and None)
        print(json.dumps({"collect": found, "n": len(data)}))
        return
    cowfreeze.fork_workers(lambda index: None, 1, explain=True).explain()  # warm our own code
    cowfreeze.freeze(numbers, table, config, cached, seal=False)
    gc.freeze()
    text = in_the_middle(lambda: "-".join(map(str, numbers)) * 3)
    print(json.dumps({name: explain(name, target) for name, target in targets().items()}))


if __name__ == "__main__":
    main()
