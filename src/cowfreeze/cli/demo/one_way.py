"""One way of `cowfreeze demo`, run in a fresh interpreter process of its own.

Freezing cannot be undone, so each way gets a process. The parent command starts

    python -c <calls program()> '{"way": ..., "json": ..., "workers": ..., "pipe": 5}'

and reads one JSON object per line from the pipe: `{"stage": text}` while it works and at the
end either `{"row": {...}}` (the fields of `WayResult`) or `{"error": text, "exit_code": n}`.
A pipe of its own, because stdout and stderr belong to the data's and the workers' messages.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from typing import Any

from cowfreeze import WorkersResult, fork_workers, freeze
from cowfreeze._errors import CowfreezeError
from cowfreeze._sizes import format_size
from cowfreeze._system.memory import available_memory, resident_bytes
from cowfreeze.bench.cases.reader import Reading, read
from cowfreeze.bench.cases.ucd import unicode_records
from cowfreeze.cli.command import CommandError
from cowfreeze.cli.demo.data import json_file
from cowfreeze.cli.demo.result import COWFREEZE, GC_FREEZE, PLAIN, WayResult

WORKER_TIMEOUT = 600.0  # seconds; a worker that takes longer hangs

_data: Any = None  # what the workers read; a global, because a worker gets only its number


def _worker(_: int) -> Reading:
    return read(_data)


def main(pipe: int, way: str, path: str | None, workers: int) -> int:
    """Run WAY with WORKERS workers on the file PATH (None: Unicode) and report through PIPE."""
    with os.fdopen(pipe, "w", encoding="utf-8", buffering=1) as out:

        def tell(**message: Any) -> None:
            print(json.dumps(message), file=out, flush=True)

        try:
            tell(row=_run(way, path, workers, tell).to_dict())
        except CowfreezeError as error:
            tell(error=str(error), exit_code=getattr(error, "exit_code", 1))
        except MemoryError:
            global _data
            _data = None  # the message needs memory too
            tell(error=f"too little memory to build the data and read it in {workers} workers", exit_code=1)
    return 0


def _run(way: str, path: str | None, workers: int, tell: Callable[..., None]) -> WayResult:
    global _data
    tell(stage="building the data")
    gc.collect()
    before = resident_bytes()
    start = time.perf_counter()
    _data = unicode_records() if path is None else json_file(path)
    build_seconds = time.perf_counter() - start
    gc.collect()
    data_bytes = max(resident_bytes() - before, 0)
    _check_memory(data_bytes, workers)

    tell(stage="freezing" if way != PLAIN else "forking")
    freeze_seconds, frozen_objects, notes = _freeze(way)

    tell(stage=f"{workers} workers read everything and collect")
    result = fork_workers(_worker, workers=workers, timeout=WORKER_TIMEOUT)
    readings: tuple[Reading, ...] = result.results
    if len({reading.content for reading in readings}) != 1:
        raise CommandError(f"the workers of the way {way} did not all read the same data")
    return WayResult(
        way=way,
        records=len(_data) if hasattr(_data, "__len__") else 1,
        data_bytes=data_bytes,
        content=readings[0].content,
        copied_bytes=_worst(result, "copied_pages", unit=result.page_size),
        startup_bytes=_worst(result, "startup_pages", unit=result.page_size),
        # Without frozen objects there is no such page to count: 0 would look like a success.
        frozen_copied_pages=(
            _worst(result, "startup_frozen_pages", "frozen_copied_pages") if way == COWFREEZE else None
        ),
        cluster_pss=result.cluster_pss,
        frozen_objects=frozen_objects,
        freeze_seconds=freeze_seconds,
        read_seconds=max(reading.read_seconds for reading in readings),
        collect_seconds=max(reading.collect_seconds for reading in readings),
        build_seconds=build_seconds,
        page_size=result.page_size,
        method=result.method,
        notes=notes + tuple(result.notes),
        reasons=tuple(dict.fromkeys(reason for worker in result.workers for reason in worker.reasons)),
    )


def _freeze(way: str) -> tuple[float | None, int | None, tuple[str, ...]]:
    """Freeze in this way: seconds, objects, notes.

    Both times contain one full collection: a user pays for it in either case, because freezing
    garbage keeps it for ever.
    """
    start = time.perf_counter()
    if way == GC_FREEZE:
        gc.collect()
        gc.freeze()
        return time.perf_counter() - start, gc.get_freeze_count(), ()
    if way == COWFREEZE:
        report = freeze(_data)
        return time.perf_counter() - start, report.objects, tuple(report.notes)
    return None, None, ()


def _worst(result: WorkersResult, *figures: str, unit: int = 1) -> int | None:
    """The sum of FIGURES of the worker where it is largest, times UNIT; None if one is unknown.

    Start-up is added and not left out: its pages cost memory as all others do, whoever wrote them.
    """
    values = [[getattr(worker, figure) for figure in figures] for worker in result.workers]
    if any(value is None for row in values for value in row):
        return None
    return max(map(sum, values)) * unit


def _check_memory(data_bytes: int, workers: int) -> None:
    """Refuse before the workers copy everything and the kernel kills a process by its choice."""
    free = available_memory()
    needed = data_bytes * workers
    if free is not None and needed > free:
        raise CommandError(
            f"too little memory: {workers} workers that copy {format_size(data_bytes)} each need "
            f"{format_size(needed)}, and {format_size(free)} is free; use fewer workers (--workers) or "
            "less data (--json)"
        )


def program(order: str) -> int:
    """`main` with its arguments as one JSON object; called by the child's first lines in demo.py."""
    arguments = json.loads(order)
    return main(arguments["pipe"], arguments["way"], arguments["json"], arguments["workers"])
