"""The same thing many times: what a process keeps, per round. Prints one line of JSON.

    forks     workers that read and exit, from a frozen parent
    kills     workers that SIGKILL ends at random points, through fork_workers
    freezes   a heap that grows and is frozen again each time
    rounds    each public operation again and again
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import cowfreeze
from cowfreeze import _core

WALL = 0x40000000


def anonymous() -> int:
    """Bytes of memory that are this process's own or were, whoever shares them."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise OSError("no Anonymous: line in smaps_rollup")


def left() -> dict[str, Any]:
    try:
        child = str(os.waitpid(-1, os.WNOHANG | WALL))
    except ChildProcessError:
        child = ""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "child": child}


def some_data(n: int = 20_000) -> list[dict[str, Any]]:
    return [{"n": i, "list": [i], "text": str(i)} for i in range(n)]


def repeat(one: Callable[[], object], warm_up: int, count: int, seconds: float) -> dict[str, Any]:
    """ONE again and again, after some rounds that fill free lists: rounds, their rate, bytes that each left."""
    for _ in range(warm_up):
        one()
    before, start, done = anonymous(), time.monotonic(), 0
    while done < count and (done == 0 or time.monotonic() - start < seconds):
        one()
        done += 1
    took = time.monotonic() - start
    return {"rounds": done, "per_second": done / took, "bytes_per_round": (anonymous() - before) / done}


def forks(count: int, seconds: float) -> dict[str, Any]:
    data = some_data()
    cowfreeze.freeze()

    def one() -> None:
        pid = os.fork()
        if pid == 0:
            status = 0 if sum(entry["n"] for entry in data[:200]) == 19900 else 1
            os._exit(status)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit("a worker read something else")

    return repeat(one, 100, count, seconds)


def kills(count: int, seconds: float) -> dict[str, Any]:
    """The figures of the worker that lives must be those of an undisturbed one."""
    data = some_data()
    cowfreeze.freeze()
    random_ = random.Random(1)

    def target(index: int) -> int:
        if index == 0:
            delay = random_.random() * 0.01
            if os.fork() == 0:
                # A stranger kills the worker whenever it likes, also while it measures. Not after
                # its end: this process then has another parent.
                time.sleep(delay)
                with contextlib.suppress(ProcessLookupError):  # ended since the question
                    if os.getppid() == victim[0]:
                        os.kill(victim[0], signal.SIGKILL)
                os._exit(0)
            time.sleep(delay * random_.random() * 2)
        return sum(entry["n"] for entry in data)

    victim = [0]

    def with_victim(index: int) -> int:
        victim[0] = os.getpid() if index == 0 else 0
        return target(index)

    outcomes: dict[str, int] = {}
    expected = sum(range(20_000))

    def one() -> None:
        random_.random()  # the workers inherit the state, so that it must move on here
        result = cowfreeze.fork_workers(with_victim, 2)
        first, second = result.workers
        outcomes[first.outcome] = outcomes.get(first.outcome, 0) + 1
        if second.result != expected or second.frozen_copied_pages is None:
            raise SystemExit(f"the other worker was harmed: {second}")
        most[0] = max(most[0], second.frozen_copied_pages)

    most = [0]
    figures = repeat(one, 3, count, seconds)
    return {**figures, "outcomes": outcomes, "most_frozen_copied": most[0]}


def freezes(count: int, seconds: float) -> dict[str, Any]:
    """With seal only at the end; a seal each time is measured beside it."""
    heap: list[Any] = []
    start = time.monotonic()
    figures: dict[str, Any] = {}
    for seal in (False, True):
        before, done = anonymous(), 0
        while done < count // 2 and time.monotonic() - start < seconds:
            heap.append([{"n": done, "k": k} for k in range(50)])
            report = cowfreeze.freeze(heap[-1], seal=seal)
            # 3.10 and 3.11 have no immortal objects.
            frozen = cowfreeze.is_frozen(heap[-1]) and cowfreeze.is_frozen(heap[0][3])
            if report.objects < 51 or frozen != _core.HAS_IMMORTAL:
                raise SystemExit(f"freeze {done} marked {report.objects}")
            done += 1
        figures["sealed" if seal else "unsealed"] = (anonymous() - before) / done
        figures["rounds"] = figures.get("rounds", 0) + done
    return figures


def rounds(count: int, seconds: float) -> dict[str, Any]:
    data = some_data(2000)
    cowfreeze.freeze(data)
    source = {"rows": [(i, str(i)) for i in range(500)]}

    def target(index: int) -> int:
        data[index]["n"] = data[index]["n"]
        return 1

    def trapped(backend: str | None) -> str:
        with cowfreeze.trap(backend=backend) as trap:
            data[5]["n"] = 5
        return str(trap)

    operations: dict[str, Callable[[], object]] = {
        "fork_workers": lambda: cowfreeze.fork_workers(target, 1),
        # Not as text: rich keeps the widths of what it has printed, up to 4,096 pieces.
        "explain": lambda: cowfreeze.fork_workers(target, 1, explain=True).explain().to_dict(),
        "trapped workers": lambda: cowfreeze.fork_workers(target, 1, trap=True).explain().to_dict(),
        "trap": lambda: trapped(None),
        "trap, mprotect": lambda: trapped("mprotect"),
        "clone": lambda: cowfreeze.clone(source),
        "is_frozen": lambda: cowfreeze.is_frozen(source),
        "dry run": lambda: cowfreeze.freeze(data, dry_run=True),
        "freeze, nothing new": lambda: cowfreeze.freeze(data, seal=False),
    }
    counted = getattr(sys, "gettotalrefcount", None)
    found: dict[str, Any] = {}
    until = time.monotonic() + seconds
    for name, operation in operations.items():
        for _ in range(min(count, 60)):  # until caches (code, names, attributes) are warm
            operation()
        before, references = anonymous(), counted() if counted else 0
        done = 0
        while done < count and (done == 0 or time.monotonic() < until):
            operation()
            done += 1
        found[name] = {
            "bytes": (anonymous() - before) / done,
            "references": (counted() - references) / done if counted else None,
            "rounds": done,
        }
    return {"operations": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("forks", "kills", "freezes", "rounds"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    before = left()
    figures: dict[str, Any] = globals()[arguments.what](arguments.count, arguments.seconds)
    print(json.dumps({**figures, "before": before, "after": left()}))


if __name__ == "__main__":
    main()
