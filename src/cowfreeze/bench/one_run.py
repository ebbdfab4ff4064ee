"""One cell of the benchmark: one case in one mode, once, in this process.

    build the data ── collect (timed) ── apply the mode ── RSS
       └─ workers read everything (copied pages, faults, USS, PSS)
       └─ forks and their cost
       └─ children that end by SIGTERM (what their exit copies)
       └─ the parent reads, to compare

The order is the point. What the parent reads gets its caches filled (hashes), so it reads after
the workers; the collection is timed before anything is frozen, because afterwards there is
nothing left to collect. The reader's bytecode is warmed up on a few elements of its own, so that
no row pays for the interpreter's specialisation; modules that only the command or another case
needs are not imported here.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cowfreeze import WorkersResult, fork_workers
from cowfreeze._errors import CowfreezeError
from cowfreeze._sizes import format_size
from cowfreeze._system.memory import available_memory, resident_bytes
from cowfreeze.bench.cases import CASES, dataloader, forking, web
from cowfreeze.bench.cases.app import load_case
from cowfreeze.bench.cases.base import Case, untouched
from cowfreeze.bench.cases.children import measure_exits, measure_forks
from cowfreeze.bench.cases.reader import Content
from cowfreeze.bench.modes import MODES, Applied, Mode, Unavailable

TIMEOUT = 600.0  # seconds; a worker that takes longer hangs
_COLLECTIONS = 3
_FORK_SECONDS = 0.3
_LEAST_FORKS = 5
_WARM_RUNS = 20

# Globals, because a worker gets only its number, and because data of a real application hangs on
# a module: how it dies at exit depends on that.
_applied: Applied | None = None
_case: Case = CASES["records"]
_mode: Mode = MODES["none"]

Tell = Callable[..., None]


class Reading(NamedTuple):
    """What a worker returns."""

    content: Content
    read_seconds: float


def program(order: str) -> int:
    """The room's entry: ORDER is JSON with pipe, case, mode, size, workers and perhaps app."""
    arguments = json.loads(order)
    with os.fdopen(arguments["pipe"], "w", encoding="utf-8", buffering=1) as out:

        def tell(**message: Any) -> None:
            print(json.dumps(message), file=out, flush=True)

        try:
            tell(row=run(arguments, tell))
        except Unavailable as error:
            tell(reason=str(error))
        except CowfreezeError as error:
            tell(error=str(error))
        except MemoryError:
            _forget()  # the message needs memory too
            tell(error="memory ran out while the data was built")
        except Exception as error:  # of the user's own functions, or of a peer
            tell(error=f"{type(error).__name__}: {error}")
    return 0


def _forget() -> None:
    global _applied
    _applied = None


def run(order: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Measure one cell and return its row: values, notes, reasons, content."""
    name = order["case"]
    if name == forking.CASE.name:
        return forking.run(order, tell)
    if name == web.CASE.name:
        return web.run(order, tell)
    if name == dataloader.CASE.name:
        return dataloader.run(order, tell)
    case = load_case(order["app"], order["work"]) if order.get("app") else CASES[name]
    return _measure(case, MODES[order["mode"]], order["size"], order["workers"], tell)


def _measure(case: Case, mode: Mode, size: int, workers: int, tell: Tell) -> dict[str, Any]:
    global _applied, _mode
    values: dict[str, float | None] = {}
    _warm_worker(case)
    mode.before()

    tell(stage="building the data")
    start_rss = resident_bytes()
    start = time.perf_counter()
    data = case.build(size)
    values["build_seconds"] = time.perf_counter() - start
    collects_before = mode.name != "gc.freeze"  # its documentation asks not to leave holes
    if collects_before:
        values["collect_seconds"] = _timed_collections()
    values["data_bytes"] = data_bytes = max(resident_bytes() - start_rss, 0)
    _mode = mode
    _check_memory(data_bytes, 1 if case.read is untouched else workers)

    tell(stage="applying the mode")
    start = time.perf_counter()
    _applied = mode.apply(data)
    if mode.name != "none":
        values["freeze_seconds"] = time.perf_counter() - start
    del data
    if not mode.live:
        gc.collect()  # the original goes, as it would in a program that uses the copy
    try:
        return _fork_and_measure(case, mode, workers, values, collects_before, tell)
    finally:
        if _applied.close is not None and _is_parent():
            _applied.close()


_pid = os.getpid()


def _is_parent() -> bool:
    return os.getpid() == _pid


def _fork_and_measure(
    case: Case, mode: Mode, workers: int, values: dict[str, float | None], collected: bool, tell: Tell
) -> dict[str, Any]:
    assert _applied is not None and case.read is not None
    values["prefork_rss"] = resident_bytes()
    tell(stage=f"{workers} workers")
    result = fork_workers(_work, workers=workers, timeout=TIMEOUT)
    readings: tuple[Reading, ...] = result.results
    contents = {reading.content for reading in readings}
    if len(contents) != 1:
        raise CowfreezeError("the workers did not all read the same data")
    values.update(figures(result, _applied.frozen))
    reads = case.read is not untouched
    if reads:
        values["read_worker_seconds"] = statistics.median(reading.read_seconds for reading in readings)

    tell(stage="forks")
    fork, cycle = measure_forks(_FORK_SECONDS, _LEAST_FORKS)
    values["fork_seconds"], values["forks_per_second"] = fork, 1 / cycle
    tell(stage="exits")
    exits = measure_exits(workers if case.exits is None else case.exits)
    values["exit_bytes"] = max(end.faults for end in exits) * result.page_size
    values["exit_seconds"] = max(end.seconds for end in exits)
    statuses = sorted({end.status for end in exits})
    notes = [*_applied.notes, *result.notes]
    if statuses != [0]:
        notes.append(f"children ended by SIGTERM and sys.exit() had exit status {statuses}")
    if reads:
        tell(stage="the parent reads")
        values["read_parent_seconds"] = _parent_reads(case)
    if not collected:
        gc.enable()
        gc.unfreeze()
        gc.collect()
        values["collect_seconds"] = _timed_collections()
    if values.get("freeze_seconds") and values.get("collect_seconds"):
        values["freeze_ratio"] = (values["freeze_seconds"] or 0) / (values["collect_seconds"] or 1)
    reasons = dict.fromkeys(reason for worker in result.workers for reason in worker.reasons)
    return {
        "values": values,
        "notes": list(dict.fromkeys(notes)),
        "reasons": list(reasons),
        "content": list(next(iter(contents))),
        "exit_statuses": [end.status for end in exits],
        "method": result.method,
    }


def _work(_: int) -> Reading:
    if _mode.in_worker is not None:
        _mode.in_worker()
    assert _applied is not None and _case.read is not None
    start = time.perf_counter()
    content = _case.read(_applied.view)
    seconds = time.perf_counter() - start
    gc.collect()
    return Reading(content, seconds)


def _warm_worker(case: Case) -> None:
    """Run the worker's code in the parent on a few elements: specialising bytecode writes to it."""
    global _applied, _case
    _case = case
    if case.warmup and case.read is not None:
        _applied = Applied(case.build(case.warmup))
        for index in range(_WARM_RUNS):
            _work(index)
        _applied = None


def _timed_collections() -> float:
    found = []
    for _ in range(_COLLECTIONS):
        start = time.perf_counter()
        gc.collect()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:] or found)  # the first one also frees what loading left


def _parent_reads(case: Case) -> float:
    """Seconds of the second read: the first one takes back what the fork write-protected."""
    assert case.read is not None and _applied is not None
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        case.read(_applied.view)
        seconds = time.perf_counter() - start
    return seconds


def figures(result: WorkersResult, frozen: bool) -> dict[str, float | None]:
    """The columns that come from the workers. A figure that one worker lacks is None.

    copied is what the work copied; by the fork is what os.fork and its hooks write in any forked
    Python before the work's first line.
    """
    size = result.page_size
    copied = column(result, "copied_pages", size)
    startup = column(result, "startup_pages", size)
    values: dict[str, float | None] = {
        "copied_median": statistics.median(copied) if copied else None,
        "copied_max": max(copied) if copied else None,
        "startup_bytes": max(startup) if startup else None,
        "cluster_pss": result.cluster_pss,
        "minor_faults": result.minor_faults,
        "shared": result.shared_ratio,
    }
    uss = column(result, "uss")
    values["uss"] = max(uss) if uss else None
    if frozen:
        pages = column(result, "frozen_copied_pages")
        more = column(result, "startup_frozen_pages")
        # Both, because a frozen page that the fork's own hooks write is not shared either.
        values["frozen_copied_pages"] = max(map(sum, zip(pages, more))) if pages and more else None
    return values


def column(result: WorkersResult, name: str, unit: int = 1) -> list[int] | None:
    """NAME of all workers times UNIT; None if one of them is unknown."""
    found = [getattr(worker, name) for worker in result.workers]
    return None if any(value is None for value in found) else [value * unit for value in found]


def _check_memory(data_bytes: int, copies: int) -> None:
    """Refuse before the workers copy everything and the kernel kills a process by its choice."""
    free = available_memory()
    needed = data_bytes * copies
    if free is not None and needed > free:
        raise CowfreezeError(
            f"too little memory: workers may copy {format_size(needed)}, and {format_size(free)} is free; "
            "use fewer workers (--workers) or less data (--size)"
        )
