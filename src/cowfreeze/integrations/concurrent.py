"""concurrent.futures: a ProcessPoolExecutor whose workers share what is frozen.

    with process_pool_executor(8, preload=["your.data"]) as pool:     # fork server; the data's module
    with process_pool_executor(8) as pool:                            # fork, from here and now

A forked executor starts all its workers at the first submit, so it must not be frozen later; and
its workers are not replaced (max_tasks_per_child needs another start method).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cowfreeze
from cowfreeze.integrations._common import freeze_for
from cowfreeze.integrations._settings import Settings, Warmup
from cowfreeze.integrations.multiprocessing import forkserver_context


def process_pool_executor(
    max_workers: int | None = None,
    *,
    preload: Sequence[str] | None = None,
    warmup: Warmup = None,
    relocate_code: bool | None = None,
    fast_exit: bool | None = None,
    refreeze: bool | None = None,
    **options: Any,
) -> ProcessPoolExecutor:
    """A ProcessPoolExecutor after a freeze.

    Args:
        max_workers: as ProcessPoolExecutor takes it.
        preload: modules that hold the data: workers are forked from a fork server that imports and
            freezes them. None: the heap of this process is frozen now, and workers are forked from
            it at the first submit; no other thread should run.
        warmup: what workers will do, done once before the freeze: a function, or ``"module:function"``.
        relocate_code: as `cowfreeze.freeze` takes it.
        fast_exit, refreeze: without effect: workers end by ``os._exit`` and are all forked at once.
        options: for ProcessPoolExecutor, except mp_context. `initializer=` runs in each worker:
            what it makes is not shared.

    Raises:
        TypeError: mp_context is given.
        CowfreezeError: the fork server runs already.
    """
    if "mp_context" in options:
        raise TypeError("process_pool_executor() chooses mp_context itself: by preload=")
    if preload is not None:
        context = forkserver_context(
            *preload, warmup=warmup, relocate_code=relocate_code, fast_exit=fast_exit, refreeze=refreeze
        )
        return ProcessPoolExecutor(max_workers, mp_context=context, **options)
    settings = Settings(warmup, relocate_code, fast_exit, refreeze)
    if cowfreeze.supported:  # asked for by name, here and now: each time, and what fails is raised
        cowfreeze.freeze(warmup=settings.find_warmup(), relocate_code=settings.relocate_code)
    else:
        freeze_for("ProcessPoolExecutor", settings)  # says why not, once
        return ProcessPoolExecutor(max_workers, **options)  # where there may be no fork
    return ProcessPoolExecutor(max_workers, mp_context=multiprocessing.get_context("fork"), **options)
