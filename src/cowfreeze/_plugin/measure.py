"""One measurement: preload, warm up, freeze, fork workers and collect, all in a zygote.

    zygote   preload()  -> the data
             body()     warm-up: caches, imports and inline caches that the first call fills
                        are no copies of a worker that runs for days
             freeze     the data, the heap or nothing
             fork_workers(body)
             pickles the result

The session's heap is in every worker's baseline, so what is counted is the difference from
the fork on; how much the session holds does not matter.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import cowfreeze
from cowfreeze._plugin import causes, zygote
from cowfreeze._plugin.outcome import Ending, Told, attempt, forget_captured, load_error
from cowfreeze._plugin.result import CowResult, Explanation
from cowfreeze._plugin.settings import Settings
from cowfreeze._workers.fork import fork_and_explain
from cowfreeze._workers.report import EXITED, RETURNED, WorkerFailed, WorkersResult


class Job(NamedTuple):
    """What to measure.

    Attributes:
        item: the test; formats what a body raises.
        settings: how.
        preload: called in the zygote, returns the data; each element is a root to freeze.
        body: called with the data, unless ``alone``.
        alone: the body takes no arguments (it has the data in a closure).
        keep: hand up what the body returns.
        explain: also find out the causes.
    """

    item: pytest.Item
    settings: Settings
    preload: Callable[[], tuple[Any, ...]]
    body: Callable[..., Any]
    alone: bool
    keep: bool
    explain: bool


class _Raw(NamedTuple):
    result: WorkersResult
    objects: int | None
    size: int | None
    seconds: float | None
    notes: tuple[str, ...]
    explanation: Explanation


class BodyRaised(Exception):
    """Carries what a body raised, until it is raised in its own right."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.where)
        self.told = told
        self.error = load_error(told)


# Seconds beyond `timeout` for each warm-up, the preload and the workers: freezing, forking, measuring.
_AROUND = 30.0


def measure(job: Job) -> tuple[CowResult, list[tuple[str, str]]]:
    """The figures and what the workers' output was.

    Raises:
        BodyRaised: preload, warm-up or a worker raised.
        WorkerFailed: a worker did not return: killed, exited, timed out, or its value is lost.
        CowfreezeError: no zygote or worker could be forked, or freezing failed.
    """
    timeout, warmup = job.settings.timeout, job.settings.warmup
    limit = None if timeout is None else timeout * (warmup + 2) + _AROUND
    answer: Told | _Raw = zygote.run(lambda: _in_zygote(job), limit)
    if isinstance(answer, Told):
        raise BodyRaised(answer)
    sections = []
    for worker in answer.result.workers:
        if isinstance(worker.result, Told):
            sections += worker.result.sections
    return _finish(job.settings, answer), sections


def _finish(settings: Settings, raw: _Raw) -> CowResult:
    workers = []
    first: Told | None = None
    lost = []
    for worker in raw.result.workers:
        value = None
        if isinstance(worker.result, Told):
            told = worker.result
            if told.error is not None:
                first = first or told
            elif told.lost is not None:
                lost.append(told.lost)
            elif told.value is not None:
                value = pickle.loads(told.value)
        elif worker.outcome != RETURNED:
            lost.append(f"worker {worker.index} {_status(worker.outcome, worker.status)}")
        workers.append(dataclasses.replace(worker, result=value))
    result = dataclasses.replace(raw.result, workers=tuple(workers))
    if first is not None:
        raise BodyRaised(first)
    if lost:
        raise WorkerFailed(
            f"{len(lost)} of {len(workers)} workers did not come back: {'; '.join(lost)}. "
            "What they copied says nothing about the work they did not do.",
            result,
        )
    return CowResult(
        measured=result,
        freeze=settings.freeze,
        warmup=settings.warmup,
        frozen_objects=raw.objects,
        frozen_bytes=raw.size,
        freeze_seconds=raw.seconds,
        explanation=raw.explanation,
        notes=raw.notes,
    )


def _status(outcome: str, status: str) -> str:
    return f"{status}, before it could measure its pages" if outcome == EXITED else status


def _in_zygote(job: Job) -> Ending | _Raw:
    notes = _stop_tracing()
    forget_captured(job.item)
    data, ending = attempt(job.item, "preload", job.preload)
    if ending is not None:
        return ending
    arguments: tuple[Any, ...] = () if job.alone else data
    for _ in range(job.settings.warmup):
        _, ending = attempt(job.item, "warm-up", lambda: job.body(*arguments))
        if ending is not None:
            return ending
    report = _freeze(job.settings.freeze, data)
    page_size = os.sysconf("SC_PAGE_SIZE")

    def wants(copied: int | None, frozen: int | None) -> bool:
        return job.explain or _is_over(job.settings, (copied or 0) * page_size, frozen or 0)

    result = fork_and_explain(
        _target(job, arguments), job.settings.workers, job.settings.timeout, wants
    )
    wanted = job.explain or _is_over(job.settings, result.copied or 0, result.frozen_copied or 0)
    explanation = causes.explain(result) if wanted else causes.not_asked()
    return _Raw(
        result,
        None if report is None else report.objects,
        None if report is None else report.bytes,
        None if report is None else report.seconds,
        (*notes, *(() if report is None else report.notes), *result.notes),
        explanation,
    )


def _is_over(settings: Settings, copied: int, frozen: int) -> bool:
    """Whether the test is going to fail and its report needs the causes. (After ``cow.run``
    the test chooses the limits; the defaults stand in for them here.)"""
    return copied > settings.max_copied or frozen > settings.max_frozen


def _target(job: Job, arguments: tuple[Any, ...]) -> Callable[[int], Ending]:
    item, body, keep = job.item, job.body, job.keep

    def target(index: int) -> Ending:
        try:
            return Ending(item, index, body(*arguments), None, keep)
        except BaseException as error:
            return Ending(item, index, None, error)

    return target


def _freeze(mode: str, data: tuple[Any, ...]) -> cowfreeze.FreezeReport | None:
    if mode == "none":
        gc.collect()  # as a freeze would: garbage of the session is nobody's figure
        return None
    # Without roots, freeze() takes the whole heap; "data" without data has been refused.
    assert mode == "heap" or data
    roots = data if mode == "data" else ()
    return cowfreeze.freeze(*roots, allow_forked=True, threads="allow")


def _stop_tracing() -> list[str]:
    """Coverage and debuggers write counters and inline instructions while a body runs. They
    are switched off in the zygote; in the session they go on."""
    tools = []
    if sys.gettrace() is not None or sys.getprofile() is not None:
        tools.append("a trace or profile function")
        sys.settrace(None)
        sys.setprofile(None)
    monitoring: Any = getattr(sys, "monitoring", None)
    for tool in range(6) if monitoring is not None else ():
        name = monitoring.get_tool(tool)
        if name is None:
            continue
        tools.append(f"the monitoring tool {name!r}")
        monitoring.set_events(tool, 0)
        for event in vars(monitoring.events).values():
            if isinstance(event, int) and event and event & (event - 1) == 0:
                monitoring.register_callback(tool, event, None)
    if not tools:
        return []
    return [
        f"{' and '.join(tools)} was active and is switched off in the zygote; what only workers "
        "run does not count as covered"
    ]
