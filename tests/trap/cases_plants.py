"""Ten writes planted in workers; prints what explain() said of each with a trap, as JSON.

    plants.py [perf|mprotect]

Every planted line is a function of its own, with the plant's name in a comment on the line that
must be reported. So that protected pages see all of them, each planted thing shares its page
with frozen ones: it is one of many like it, of which every other one is frozen.
"""

from __future__ import annotations

import functools
import gc
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import no_perf

import cowfreeze

LARGE = 1200  # bytes: malloc serves what is larger than 512


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
        if value > 2:                   # plant: code
            total += value
    return total
"""


def make_function() -> Callable[[list[int]], int]:
    names: dict[str, Any] = {}
    exec(compile(SOURCE, "planted.py", "exec"), names)
    function: Callable[[list[int]], int] = names["first_called_in_the_worker"]
    return function


def make_cache() -> Callable[[str], int]:
    cache = functools.lru_cache(maxsize=None)(lambda key: len(key))
    cache("key")
    return cache


def make_text() -> str:
    number = len(many_texts)
    many_texts.append("-".join(str(number + step) for step in range(12)))
    return many_texts[-1]


def between_frozen(make: Callable[[], Any], freeze_it: bool) -> Any:
    """One of many; its neighbours are frozen, and so is the thing itself if FREEZE_IT."""
    things = [make() for _ in range(800)]
    many.append(things)
    frozen = things[::2]
    kept.append(frozen)
    cowfreeze.freeze(*frozen, seal=False, collect=False, gc_freeze=False)
    return things[400 if freeze_it else 401]


many: list[list[Any]] = []
many_texts: list[str] = []
kept: list[list[Any]] = []
neighbour = between_frozen(Neighbour, False)
numbers = between_frozen(lambda: [1, 2, 3, 4, 5, 6, 7, 8, 9], True)
table = between_frozen(lambda: {"a": 1, "b": 2}, True)
config = between_frozen(Config, True)
generator = between_frozen(lambda: random.Random(1), True)
function = between_frozen(make_function, True)
# A function does not take its code along.
cowfreeze.freeze(*(f.__code__ for f in many[-1][::2]), seal=False, collect=False, gc_freeze=False)
cached = between_frozen(make_cache, True)
text = between_frozen(make_text, False)
blocks = between_frozen(lambda: bytes(LARGE), True)
young: list[Any] = []
first_values = [1, 2, 3, 4]


def plant_count(index: int) -> Any:
    return neighbour  # plant: count


def plant_append(index: int) -> None:
    numbers.append(10)  # plant: append


def plant_insert(index: int) -> None:
    table["c"] = 3  # plant: insert


def plant_hash(index: int) -> None:
    hash(text)  # plant: hash


def plant_lru(index: int) -> None:
    cached("key")  # plant: lru


def plant_attribute(index: int) -> None:
    config.count = 7  # plant: attribute


def plant_code(index: int) -> None:
    for _ in range(20):
        function(first_values)


def plant_malloc(index: int) -> None:
    blocks = list(map(bytes, [LARGE] * 200))  # plant: malloc
    del blocks


def plant_collect(index: int) -> None:
    gc.collect()  # plant: collect


def plant_random(index: int) -> None:
    generator.random()  # plant: random


def make_holes() -> None:
    """Holes in malloc's heap between frozen blocks."""
    apart = [bytes(LARGE) for _ in range(6000)]
    kept.append(apart[::2])
    cowfreeze.freeze(*apart[::2], seal=False, collect=False, gc_freeze=False)


def make_collected() -> None:
    """Lists that the collector looks at, half of them frozen."""
    young[:] = [[number, []] for number in range(20000)]
    kept.append(young[::2])
    cowfreeze.freeze(*young[::2], seal=False, collect=False, gc_freeze=False)


def explain(name: str) -> dict[str, Any]:
    if name == "malloc":
        make_holes()
    elif name == "collect":
        make_collected()
    result = cowfreeze.fork_workers(globals()[f"plant_{name}"], 1, trap=True)
    worker = result.workers[0]
    assert worker.outcome == "returned" and worker.copied_pages is not None, worker
    explanation = result.explain(top=1000)
    made = explanation.to_dict()
    made["text"] = str(explanation)
    return made


def main() -> None:
    if sys.argv[1] == "mprotect":
        no_perf.forbid()
    cowfreeze.fork_workers(lambda index: None, 1, trap=True).explain()  # warm our own code
    names = [name.removeprefix("plant_") for name in globals() if name.startswith("plant_")]
    names.sort(key=["collect", "malloc"].__contains__)  # these leave much behind
    print(json.dumps({name: explain(name) for name in names}))


if __name__ == "__main__":
    main()
