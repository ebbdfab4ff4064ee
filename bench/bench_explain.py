"""What explaining costs, and how much it explains.

    demo    the Unicode Character Database (150,000 dicts), plain and with gc.freeze(); a worker reads
            everything, hashes every string and collects. Which part of its copied pages carries an
            object or a named structure of an allocator? Target: at least 95 %.
    full    1 GiB of small lists, twelve million, of which a worker writes every page. Target:
            explained in under 10 s by the clock.
    clean   a worker that does nothing, in a process with 1 GiB: its own measuring with and without
            explain=True, by turns. Target: the median is no dearer (10 % and 1 ms are noise).

    python bench/bench_explain.py [--only demo|full|clean] [--gib 1] [--rounds 9] [--json]

Each part runs in a process of its own. The exit status is 1 if a target is missed. The clock also
counts what other processes took: compare `seconds` with `parent_cpu_seconds`, and repeat the run on
a quiet machine before believing a miss.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from bench_audit import machine

import cowfreeze
from cowfreeze._explain.picture.html import page_text
from cowfreeze._explain.picture.model import make_map

NAMED_TARGET = 0.95
SECONDS_TARGET = 10.0
GIB = 1 << 30
SMALL_LIST = 64 + 16 + 8  # bytes: a list with its GC header, a table of two, the place in the list of all


def demo(way: str) -> dict[str, Any]:
    """Read everything in one worker, after WAY ("plain fork" or "gc.freeze()")."""
    from cowfreeze.bench.cases.reader import read
    from cowfreeze.bench.cases.ucd import unicode_records

    data = unicode_records()
    gc.collect()
    if way == "gc.freeze()":
        gc.freeze()
    result = cowfreeze.fork_workers(lambda index: read(data), 1, explain=True)
    made = result.explain()
    return {
        "worker": result.workers[0].status,
        "notes": " ".join(made.notes) or "none",
        "pages": made.pages,
        "object": made.object_pages,
        "allocator": made.allocator_pages,
        "system": made.system_pages,
        "unknown": made.unknown_pages,
        "unlisted": made.unlisted,
        "named": made.named_ratio,
        "seconds": made.seconds,
        "met": made.named_ratio is not None and made.named_ratio >= NAMED_TARGET and made.unlisted == 0,
    }


def lists(gib: float) -> list[list[int]]:
    """Lists of about a page each, which together take GIB."""
    count = int(gib * GIB / 4096)
    return [[0] * 500 for _ in range(count)]


def full(gib: float) -> dict[str, Any]:
    """Write every object of a heap of small lists and every one of their tables; explain it."""
    gc.disable()
    data = [[0, 0] for _ in range(int(gib * GIB / SMALL_LIST))]
    held: list[Any] = []

    def write(index: int) -> None:
        held.extend(data)  # the reference counts
        for place, items in enumerate(data):
            items[0] = 7
            data[place] = items

    started, used = time.perf_counter(), time.process_time()
    result = cowfreeze.fork_workers(write, 1, explain=True)
    whole, cpu = time.perf_counter() - started, time.process_time() - used
    made = result.explain()
    started = time.perf_counter()
    size = len(page_text(make_map(made)))
    return {
        "objects": made.objects,
        "inherited_gib": (result.inherited or 0) / GIB,
        "pages": made.pages,
        "copied_gib": made.pages * made.page_size / GIB,
        "named": made.named_ratio,
        "seconds": made.seconds,
        "whole_seconds": whole,
        "parent_cpu_seconds": cpu,
        "map_seconds": time.perf_counter() - started,
        "map_bytes": size,
        "met": made.seconds < SECONDS_TARGET and made.pages * made.page_size >= 0.95 * gib * GIB,
    }


def clean(gib: float, rounds: int) -> dict[str, Any]:
    """A worker that does nothing, with and without explain=True by turns."""
    data = lists(gib)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    whole: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * rounds + 2):
        explain = bool(number % 2)
        started = time.perf_counter()
        result = cowfreeze.fork_workers(lambda index: None, 1, explain=explain)
        took = time.perf_counter() - started
        scan = result.workers[0].scan_seconds
        assert scan is not None, result
        if number >= 2:  # the first of each pays for what is touched first
            seconds[explain].append(scan)
            whole[explain].append(took)
    plain, explained = statistics.median(seconds[False]), statistics.median(seconds[True])
    return {
        "gib": gib,
        "lists": len(data),
        "scan_ms": {"without": figures(seconds[False]), "with": figures(seconds[True])},
        "whole_ms": {"without": figures(whole[False]), "with": figures(whole[True])},
        "met": explained <= 1.1 * plain + 0.001,
    }


def figures(values: list[float]) -> dict[str, float]:
    """Median, smallest, largest in milliseconds."""
    return {name: 1000 * find(values) for name, find in (("median", statistics.median), ("min", min), ("max", max))}


PARTS = {
    "demo, plain fork": lambda options: demo("plain fork"),
    "demo, gc.freeze()": lambda options: demo("gc.freeze()"),
    "full": lambda options: full(options.gib),
    "clean": lambda options: clean(options.gib, options.rounds),
}


def flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += flat(value, f"{before}{name} ") if isinstance(value, dict) else [(before + name, value)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", choices=("demo", "full", "clean"), help="one part")
    parser.add_argument("--gib", type=float, default=1.0, help="memory of full and clean (default: 1)")
    parser.add_argument("--rounds", type=int, default=9, help="of clean (default: 9)")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(PARTS[options.part](options)))
        return 0
    results: dict[str, Any] = {}
    for part in PARTS:
        if options.only is None or part.startswith(options.only):
            command = [sys.executable, os.path.abspath(__file__), "--part", part]
            command += ["--gib", str(options.gib), "--rounds", str(options.rounds)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[part] = json.loads(done.stdout)
    met = all(result["met"] for result in results.values())
    if options.json:
        print(json.dumps({**machine(), "met": met, "results": results}))
        return 0 if met else 1
    for name, value in machine().items():
        print(f"{name + ':':24} {value}")
    for part, result in results.items():
        print(f"\n{part}: target {'met' if result['met'] else 'MISSED'}")
        for name, value in flat(result):
            if name != "met":
                print(f"    {name:24}{value:>14,.3f}" if isinstance(value, float) else f"    {name:24}{value!s:>14}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
