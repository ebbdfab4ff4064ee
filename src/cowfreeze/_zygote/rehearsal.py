"""What each worker does around its task, done once before the freeze, as far as it does no harm there.

Code writes itself when it runs for the first times (adaptive instructions, since 3.11). What runs in
this rehearsal is frozen as it will stay, and moved together by `relocate_code`; else each worker writes to
some fifty pages that hold one such function each.
"""

from __future__ import annotations

import concurrent.futures.process as futures
import io
import os
from multiprocessing import context, forkserver, pool, process, reduction, spawn, util
from typing import Any


class _Tasks:
    """Stands for both ends of a pool's queues: one task, then the sign to end."""

    def __init__(self, task: Any) -> None:
        self.waiting = [task, None]

    def get(self, *_: Any, **__: Any) -> Any:
        return self.waiting.pop(0)

    def put(self, *_: Any) -> None:
        """Nobody reads it."""


def _nothing(*_: Any) -> None:
    """The task."""


def rehearse(prepared: dict[str, Any]) -> None:
    """Run it, twice, because the second time is another. An error is none: then it is not rehearsed.

    Args:
        prepared: what spawn.prepare was called with.
    """
    for _ in range(2):
        for part in (_a_start, _a_pool, _an_executor, _a_queue):
            try:
                part(prepared)
            except Exception as error:
                util.debug(f"cowfreeze: {part.__name__} was not rehearsed: {error!r}")


def _a_start(prepared: dict[str, Any]) -> None:
    reader, writer = os.pipe()
    try:
        numbers: Any = forkserver
        numbers.write_signed(writer, 1)
        numbers.read_signed(reader)
    finally:
        util.close_fds(reader, writer)  # type: ignore[attr-defined]
    buffer = io.BytesIO()
    stands_in: Any = object()
    context.set_spawning_popen(stands_in)
    try:
        reduction.dump({name: value for name, value in prepared.items() if name != "log_to_stderr"}, buffer)
        reduction.dump(context.ForkServerProcess(target=_nothing, args=(1,)), buffer)
    finally:
        context.set_spawning_popen(None)
    buffer.seek(0)
    pickles: Any = reduction
    spawn.prepare(pickles.pickle.load(buffer))
    pickles.pickle.load(buffer).run()
    process.current_process().name = prepared["name"]
    util._flush_std_streams()  # type: ignore[attr-defined]


def _a_pool(prepared: dict[str, Any]) -> None:
    workers: Any = pool
    tasks = _Tasks((0, 0, workers.mapstar, ((_nothing, (1,)),), {}))
    workers.worker(tasks, tasks)


def _an_executor(prepared: dict[str, Any]) -> None:
    workers: Any = futures
    tasks = _Tasks(workers._CallItem(0, _nothing, (1,), {}))
    workers._process_worker(tasks, tasks, None, ())


def _a_queue(prepared: dict[str, Any]) -> None:
    queue: Any = context.ForkServerContext().SimpleQueue()
    queue.put((0, 0, (True, [1])))
    queue.get()
    queue.close()
