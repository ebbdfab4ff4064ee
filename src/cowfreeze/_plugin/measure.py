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

import contextlib
import dataclasses
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import cowfreeze
from cowfreeze import _core
from cowfreeze._plugin import causes, zygote
from cowfreeze._plugin.harvest import Harvest
from cowfreeze._plugin.outcome import (
    Ending,
    Told,
    attempt,
    dump_late,
    forget_captured,
    load_error,
    load_value,
)
from cowfreeze._plugin.result import CowResult, Explanation
from cowfreeze._plugin.settings import Settings
from cowfreeze._workers.fork import fork_and_explain
from cowfreeze._workers.processes import room_for_pages
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
    tolds: list[Told]  # of what ran in the zygote; the workers' are in the result
    warmup_frozen: int | None


class BodyRaised(Exception):
    """Carries what a body raised, until it is raised in its own right; TOLDS of all bodies."""

    def __init__(self, told: Told, tolds: list[Told]) -> None:
        super().__init__(told.where)
        self.told = told
        self.tolds = tolds
        assert told.error is not None
        self.error = load_error(told.error)


# Seconds beyond `timeout` for each warm-up, the preload and the workers: freezing, forking, measuring.
_AROUND = 30.0


def measure(job: Job) -> tuple[CowResult, list[Told]]:
    """The figures, and what the bodies told.

    Raises:
        BodyRaised: preload, warm-up or a worker raised.
        WorkerFailed: a worker did not return: killed, exited, timed out, or its value is lost.
        CowfreezeError: no zygote or worker could be forked, or freezing failed.
    """
    timeout, warmup = job.settings.timeout, job.settings.warmup
    limit = None if timeout is None else timeout * (warmup + 2) + _AROUND
    answer: _Raw | list[Told] = zygote.run(lambda: _in_zygote(job), limit)
    if isinstance(answer, list):
        raise BodyRaised(answer[-1], answer)
    return _finish(job.settings, answer)


def _finish(settings: Settings, raw: _Raw) -> tuple[CowResult, list[Told]]:
    workers = []
    tolds = list(raw.tolds)
    lost = []
    for worker in raw.result.workers:
        value = None
        if isinstance(worker.result, Told):
            told = worker.result
            tolds.append(told)
            if told.lost is not None:
                lost.append(told.lost)
            elif told.value is not None:
                value, why = load_value(told)
                lost += [why] if why else []
        elif worker.outcome != RETURNED:
            lost.append(f"worker {worker.index} {_status(worker.outcome, worker.status)}")
        workers.append(dataclasses.replace(worker, result=value))
    result = dataclasses.replace(raw.result, workers=tuple(workers))
    raised = [told for told in tolds if told.error is not None]
    if raised:
        raise BodyRaised(raised[0], tolds)
    if lost:
        raise WorkerFailed(
            f"{len(lost)} of {len(workers)} workers did not come back: {'; '.join(lost)}. "
            "What they copied says nothing about the work they did not do.",
            result,
        )
    found = CowResult(
        measured=result,
        freeze=settings.freeze,
        warmup=settings.warmup,
        frozen_objects=raw.objects,
        frozen_bytes=raw.size,
        freeze_seconds=raw.seconds,
        explanation=raw.explanation,
        notes=raw.notes,
        warmup_frozen=raw.warmup_frozen,
    )
    return found, tolds


def _status(outcome: str, status: str) -> str:
    return f"{status}, before it could measure its pages" if outcome == EXITED else status


def _in_zygote(job: Job) -> _Raw | list[Told]:
    """The figures; or what was told up to a body that failed here."""
    notes = _stop_tracing()
    forget_captured(job.item)
    harvest = Harvest(job.item)
    data, told = attempt(harvest, "preload", job.preload)
    tolds = [told]
    if told.error is not None:
        return tolds
    arguments: tuple[Any, ...] = () if job.alone else data
    first = _FirstWrites(job.settings, data)
    for _ in range(job.settings.warmup):
        _, told = attempt(harvest, "warm-up", lambda: job.body(*arguments), job.keep)
        tolds.append(told)
        if told.error is not None:
            return tolds
    warmup_frozen = first.count()
    reports = [*first.reports, *_freeze(job.settings.freeze, data)]
    page_size = os.sysconf("SC_PAGE_SIZE")

    def wants(copied: int | None, frozen: int | None) -> bool:
        return job.explain or _is_over(job.settings, (copied or 0) * page_size, frozen or 0)

    harvest.begin()
    result = fork_and_explain(
        _target(job, harvest, arguments), job.settings.workers, job.settings.timeout, wants
    )
    wanted = job.explain or _is_over(job.settings, result.copied or 0, result.frozen_copied or 0)
    explanation = causes.explain(result) if wanted else causes.not_asked()
    tolds.append(told._replace(where="zygote", late=dump_late(job.item, harvest.close()), **_NOTHING))
    return _Raw(
        result,
        sum(report.objects for report in reports) if reports else None,
        sum(report.bytes for report in reports) if reports else None,
        sum(report.seconds for report in reports) if reports else None,
        (*notes, *dict.fromkeys(note for report in reports for note in report.notes), *result.notes),
        explanation,
        tolds,
        warmup_frozen,
    )


# Of a Told that has something to say about a teardown only.
_NOTHING: dict[str, Any] = {
    "value": None, "report": None, "reports": [], "warnings": [], "properties": [], "marks": [], "sections": [],
}  # fmt: skip


class _FirstWrites:
    """How many pages with frozen objects a warm-up writes, which a worker without one would copy.

    `d["n"] = 1` writes once: the same value again is no write. So a body that was warmed up copies
    nothing, and a server whose workers begin cold copies all. The data is frozen before the
    warm-up too, else reading alone would write to it, by counting references.
    """

    def __init__(self, settings: Settings, data: tuple[Any, ...]) -> None:
        self._audit: _core.WorkerAudit | None = None
        self.reports: list[cowfreeze.FreezeReport] = []
        # Before 3.12 nothing is immortal and reading writes; with the whole heap it is the code
        # that writes to itself when it runs for the first time.
        if settings.freeze != "data" or not settings.warmup or sys.version_info < (3, 12):
            return
        self.reports = _freeze("data", data, seal=False)
        with contextlib.suppress(OSError, MemoryError):
            self._witness = _core.Witness()
            self._audit = _core.WorkerAudit(self._witness)
            self._pages = _core.PageList(room_for_pages(), False)
            self._measure(False)

    def count(self) -> int | None:
        """Pages; None: not asked, or unknown."""
        if self._audit is None:
            return None
        found: int | None = None
        with contextlib.suppress(OSError):
            found = self._measure(True)["frozen_copied_pages"]
        self._audit = None
        self._witness.close()
        return found

    def _measure(self, since: bool) -> dict[str, Any]:
        assert self._audit is not None
        read_end, write_end = os.pipe()
        try:
            self._audit.measure_into(write_end, self._pages, since)
            return _core.decode_record(os.read(read_end, _core.RECORD_SIZE))
        finally:
            os.close(read_end)
            os.close(write_end)


def _is_over(settings: Settings, copied: int, frozen: int) -> bool:
    """Whether the test is going to fail and its report needs the causes. (After ``cow.run``
    the test chooses the limits; the defaults stand in for them here.)"""
    return copied > settings.max_copied or frozen > settings.max_frozen


def _target(job: Job, harvest: Harvest, arguments: tuple[Any, ...]) -> Callable[[int], Ending]:
    body, keep = job.body, job.keep

    def target(index: int) -> Ending:
        try:
            return Ending(harvest, index, body(*arguments), None, keep)
        except BaseException as error:
            return Ending(harvest, index, None, error)

    return target


def _freeze(mode: str, data: tuple[Any, ...], **options: Any) -> list[cowfreeze.FreezeReport]:
    if mode == "none":
        gc.collect()  # as a freeze would: garbage of the session is nobody's figure
        return []
    # Without roots, freeze() takes the whole heap; "data" without data has been refused.
    assert mode == "heap" or data
    roots = data if mode == "data" else ()
    return [cowfreeze.freeze(*roots, allow_forked=True, threads="allow", **options)]


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
