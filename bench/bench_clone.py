"""clone against copy.deepcopy and a pickle round trip, on nested records.

    python bench/bench_clone.py [RECORDS]        default 100,000

Prints seconds, the best of three rounds (deepcopy: one), and how many times as fast clone is.
The collector is told to leave the source alone (gc.freeze) for all of them; deepcopy and pickle
run with it enabled, as they do in a program.
"""

from __future__ import annotations

import argparse
import copy
import gc
import pickle
import platform
import time
from collections.abc import Callable
from typing import Any

import cowfreeze


def make_records(n: int) -> list[dict[str, Any]]:
    """Records of 13 objects each that are their own, not counting keys."""
    return [
        {
            "id": i,
            "name": f"name {i}",
            "tags": [f"t{i % 7}", f"t{i % 11}"],
            "position": (i * 1.5, i * 2.5),
            "sub": {"a": i, "b": str(i)},
        }
        for i in range(n)
    ]


def best_of(rounds: int, call: Callable[[], Any]) -> float:
    """Seconds of the fastest round; what a round made is freed outside of the time."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        made = call()
        best = min(best, time.perf_counter() - start)
        del made
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("records", type=int, nargs="?", default=100_000)
    n = parser.parse_args().records
    records = make_records(n)
    gc.collect()
    gc.freeze()
    assert cowfreeze.clone(records) == records

    whole = best_of(3, lambda: cowfreeze.clone(records))
    each = best_of(3, lambda: [made for made in cowfreeze.iter_clone(records)])
    pickled = best_of(3, lambda: pickle.loads(pickle.dumps(records, pickle.HIGHEST_PROTOCOL)))
    deep = best_of(1, lambda: copy.deepcopy(records))
    one = best_of(3, lambda: [cowfreeze.clone(records, i, "tags") for i in range(n)])

    print(f"Python {platform.python_version()}, {n:,} records")
    print(f"clone(records)             {whole:7.3f} s")
    print(f"iter_clone(records)        {each:7.3f} s")
    print(f"clone(records, i, 'tags')  {one:7.3f} s, {one / n * 1e9:.0f} ns each")
    print(f"pickle round trip          {pickled:7.3f} s   clone is {pickled / whole:.1f} times as fast")
    print(f"copy.deepcopy              {deep:7.3f} s   clone is {deep / whole:.1f} times as fast")


if __name__ == "__main__":
    main()
