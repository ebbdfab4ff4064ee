"""What fork_workers found out: one WorkerReport per worker, one WorkersResult for all.

Every figure is either what was measured or None, and with None stands a reason: an
unknown figure is never 0, because 0 is the best result there is. The classes here hold
and judge figures; how they come about stands in run.py.

    page   the unit of truth: the operating system copies whole pages
    copied a page that existed in the parent at the fork and that this worker has a copy
           of, because it wrote to the page while the target ran
    start  the same, but written by the interpreter between the fork and the target: thread
           states, locks and at-fork functions cost about a hundred pages in any program
    frozen a copied page that holds a frozen object: the freeze missed a writer
    new    a page that the worker filled for the first time; normal
"""

from __future__ import annotations

import dataclasses
import reprlib
import textwrap
from typing import TYPE_CHECKING, Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._explain.explanation import Explanation, causes_text
from cowfreeze._sizes import check_count, format_size, parse_size
from cowfreeze._tables import Table, count_cell, render, seconds_cell, size_cell

if TYPE_CHECKING:
    from rich.console import RenderableType

# The values of WorkerReport.outcome.
RETURNED = "returned"
RAISED = "raised"
EXITED = "exited"
KILLED = "killed"
TIMED_OUT = "timed out"
RESULT_LOST = "result lost"
VANISHED = "vanished"


class _AboutResult(CowfreezeError):
    """An error about a finished run. It keeps the result, so that no figure is lost.

    Attributes:
        result: the result that was judged, or None.
    """

    def __init__(self, message: str, result: WorkersResult | None = None) -> None:
        # Only the message goes into args: unpickling calls the class with args and
        # restores `result` from __dict__ (pytest-xdist and process pools pickle errors).
        super().__init__(message)
        self.result = result


class PagesCopied(_AboutResult, AssertionError):
    """Workers copied more pages than the assertion allows, or it is unknown whether they did.

    It is an AssertionError, so that test runners count it as a failed test. Unknown
    figures raise it too: an assertion that passes on what nobody measured proves nothing.
    """


class WorkerFailed(_AboutResult):
    """A worker raised, exited, was killed or timed out, so there is no result to judge."""

    exit_code = 4


@dataclasses.dataclass(frozen=True)
class WorkerReport:
    """One worker: how it ended, what it gave back and which pages it copied.

    Attributes:
        index: position among the workers, from 0.
        pid: its process id; the process is gone and the number may be in use again.
        outcome: "returned"; "raised" (an exception left the target); "exited" (sys.exit or
            os._exit in the target); "killed" (by a signal that cowfreeze did not send);
            "timed out"; "result lost" (the target returned, but its result cannot be
            pickled or sent); "vanished" (it ended without a word and somebody else took
            its exit status).
        status: the same as a sentence, with the signal, exit status or error.
        exitcode: exit status of the process; -N when signal N ended it; None when the
            application's own SIGCHLD handling took the status first.
        result: what the target returned; None for every other outcome.
        error: the exception, when it could be pickled in the worker and unpickled here.
        traceback: text of the traceback in the worker, or None.
        copied_pages: pages that existed at the fork and were copied while the target ran,
            measured in the worker right before and right after the target. A page that it
            copied and gave back again is no copy any more, and does not count.
        frozen_copied_pages: those of them that hold frozen objects.
        startup_pages: pages that the interpreter copied before the target began; not in
            copied_pages.
        startup_frozen_pages: those of them that hold frozen objects.
        new_pages: pages that the worker filled for the first time.
        minor_faults, major_faults: page faults while the target ran (getrusage). Minor
            faults are an upper bound for copied plus new pages.
        copied_by_area: copied pages by kind of mapping, as far as the audit tells.
        uss: bytes that only this process has, right after measuring (psutil).
        pss: bytes, each page divided by the number of processes that share it (psutil);
            the witness counts as one of them.
        seconds: time from the start of the target to its end.
        scan_seconds: time that measuring the pages took.
        reasons: why something is None, one sentence each.
    """

    index: int
    pid: int
    outcome: str
    status: str
    exitcode: int | None
    result: Any
    error: BaseException | None
    traceback: str | None
    copied_pages: int | None
    frozen_copied_pages: int | None
    new_pages: int | None
    minor_faults: int | None
    major_faults: int | None
    copied_by_area: dict[str, int]
    startup_pages: int | None
    startup_frozen_pages: int | None
    uss: int | None
    pss: int | None
    seconds: float | None
    scan_seconds: float | None
    reasons: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether the worker did anything but return, or exit with status 0."""
        return not (self.outcome == RETURNED or (self.outcome == EXITED and self.exitcode == 0))

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON; result and error as shortened text."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["result"] = None if self.result is None else reprlib.repr(self.result)
        values["error"] = None if self.error is None else reprlib.repr(self.error)
        values["copied_by_area"] = dict(self.copied_by_area)
        values["reasons"] = list(self.reasons)
        values["failed"] = self.failed
        return values


@dataclasses.dataclass(frozen=True)
class WorkersResult:
    """What fork_workers returns; a table when printed.

    Attributes:
        workers: one report per worker, in the order of their index.
        method: how the copied pages were found, as the audit names it; None when no worker
            could measure.
        page_size: bytes per page on this machine.
        seconds: time from the first fork to the end of the last worker.
        inherited: anonymous memory of the parent just before the fork, in bytes, with what
            ``freeze(remap=True)`` has moved to memfds: what the
            workers could copy. Source: "Anonymous" in /proc/self/smaps_rollup.
        cluster_pss: memory of parent and workers together in bytes, each shared page
            counted once, while all workers were alive; without what only the witness held.
        notes: what a reader of the figures must know, one sentence each.
        explanations: of the workers that were explained, see ``explain()``.
    """

    workers: tuple[WorkerReport, ...]
    method: str | None
    page_size: int
    seconds: float
    inherited: int | None
    cluster_pss: int | None
    notes: tuple[str, ...]
    explanations: tuple[Explanation, ...] = ()

    @property
    def results(self) -> tuple[Any, ...]:
        """What the targets returned, in the order of the workers.

        Raises:
            WorkerFailed: a worker has no result; the others' stand in ``workers``.
        """
        self._check_outcomes()
        return tuple(worker.result for worker in self.workers)

    @property
    def copied(self) -> int | None:
        """Bytes that the worst worker copied; None when one worker's figure is unknown."""
        pages = self._worst("copied_pages")
        return None if pages is None else pages * self.page_size

    @property
    def frozen_copied(self) -> int | None:
        """Pages with frozen objects that the worst worker copied; None when unknown."""
        return self._worst("frozen_copied_pages")

    @property
    def minor_faults(self) -> int | None:
        """Minor page faults of the worst worker; None when unknown."""
        return self._worst("minor_faults")

    @property
    def shared_ratio(self) -> float | None:
        """Part of the inherited memory that the work of the worst worker did not copy, 0.0 to 1.0.

        What a worker copies before its work (`startup_pages`) is not its work's.
        """
        copied = self.copied
        if copied is None or not self.inherited:
            return None
        return max(0.0, 1 - copied / self.inherited)

    def assert_shared(
        self, max_copied: int | str = "256 KiB", max_frozen: int = 16
    ) -> WorkersResult:
        """Raise unless every worker kept the parent's pages shared.

        Args:
            max_copied: what each worker may copy, in bytes or as "256 KiB". A worker copies
                some pages in any case: its stack, the allocator's and the interpreter's state.
            max_frozen: how many of the copied pages may hold frozen objects.

        Returns:
            This result, so that ``fork_workers(...).assert_shared()`` can be kept.

        Raises:
            PagesCopied: a worker is above a limit, or its figures are unknown.
            WorkerFailed: a worker did not return (or exit with status 0): its figures say
                nothing about the work it did not do.
            TypeError, ValueError: a limit that is none.
        """
        limit = parse_size(max_copied, "max_copied")
        max_frozen = check_count(max_frozen, "max_frozen")
        self._check_outcomes()
        for worker in self.workers:
            if worker.copied_pages is None or worker.frozen_copied_pages is None:
                raise PagesCopied(self._unknown_text(worker), self)
        over = [worker for worker in self.workers if self._is_over(worker, limit, max_frozen)]
        if over:
            raise PagesCopied(self._copied_text(over, limit, max_frozen), self)
        return self

    def explain(self, top: int = 20, worker: int | None = None) -> Explanation:
        """Which object and field was written on each page that a worker copied.

        Args:
            top: how many causes the table shows; those that are unknown always are.
            worker: index of the worker; by default the explained one with most copied pages.

        Raises:
            CowfreezeError: nothing was explained: it has to happen while the workers live,
                so ask for it with ``fork_workers(..., explain=True)``.
            TypeError, ValueError: TOP is no number of at least 1; no such worker.
        """
        top = check_count(top, "top", least=1)
        if not self.explanations:
            raise CowfreezeError(
                "the workers' pages were not explained, and the workers are gone: call "
                "fork_workers(..., explain=True), or assert_shared(target, ...), which explains "
                "what is above its limits"
            )
        chosen = [e for e in self.explanations if worker is None or e.worker == worker]
        if not chosen:
            known = ", ".join(str(e.worker) for e in self.explanations)
            raise ValueError(f"worker={worker!r} was not explained: give one of {known}")
        return dataclasses.replace(max(chosen, key=lambda e: e.pages), top=top)

    def to_dict(self) -> dict[str, Any]:
        """All attributes and properties but ``results`` as plain values for JSON."""
        return {
            "workers": [worker.to_dict() for worker in self.workers],
            "method": self.method,
            "page_size": self.page_size,
            "seconds": self.seconds,
            "inherited": self.inherited,
            "cluster_pss": self.cluster_pss,
            "notes": list(self.notes),
            "explanations": [explanation.to_dict() for explanation in self.explanations],
            "copied": self.copied,
            "frozen_copied": self.frozen_copied,
            "minor_faults": self.minor_faults,
            "shared_ratio": self.shared_ratio,
        }

    def to_table(self) -> Table:
        """The figures of all workers as a table of text."""
        ratio = self.shared_ratio
        title = (
            f"{len(self.workers)} workers, {size_cell(self.inherited)} inherited, "
            f"{'unknown' if ratio is None else f'{ratio:.1%}'} not copied by the worst, "
            f"cluster PSS {size_cell(self.cluster_pss)}, {seconds_cell(self.seconds)}, "
            f"method {self.method or 'unknown'}"
        )
        columns = "worker copied frozen start new faults USS PSS time".split()
        rows = [
            (
                f"{worker.index} {worker.status}",
                size_cell(self._bytes(worker.copied_pages)),
                _pages_cell(worker.frozen_copied_pages),
                size_cell(self._bytes(worker.startup_pages)),
                size_cell(self._bytes(worker.new_pages)),
                count_cell(worker.minor_faults),
                size_cell(worker.uss),
                size_cell(worker.pss),
                seconds_cell(worker.seconds),
            )
            for worker in self.workers
        ]
        reasons = [f"worker {w.index}: {reason}" for w in self.workers for reason in w.reasons]
        return Table(title, columns, rows, [*reasons, *self.notes])

    def __str__(self) -> str:
        return render(self.to_table())

    def __rich__(self) -> RenderableType:
        return self.to_table().__rich__()

    def _worst(self, name: str) -> int | None:
        worst = 0
        for worker in self.workers:
            value: int | None = getattr(worker, name)
            if value is None:
                return None
            worst = max(worst, value)
        return worst

    def _bytes(self, pages: int | None) -> int | None:
        return None if pages is None else pages * self.page_size

    def _is_over(self, worker: WorkerReport, limit: int, max_frozen: int) -> bool:
        assert worker.copied_pages is not None and worker.frozen_copied_pages is not None
        return (
            worker.copied_pages * self.page_size > limit or worker.frozen_copied_pages > max_frozen
        )

    def _check_outcomes(self) -> None:
        failed = [worker for worker in self.workers if worker.failed]
        if not failed:
            return
        text = (
            f"{len(failed)} of {len(self.workers)} workers did not return a result: "
            + "; ".join(f"worker {worker.index} {worker.status}" for worker in failed)
            + "."
        )
        first = next((worker for worker in failed if worker.traceback), None)
        if first is not None:
            assert first.traceback is not None
            text += f"\n\nIn worker {first.index}:\n{textwrap.indent(first.traceback, '  ')}"
        cause = next((worker.error for worker in failed if worker.error is not None), None)
        raise WorkerFailed(text, self) from cause

    def _unknown_text(self, worker: WorkerReport) -> str:
        why = " ".join(worker.reasons) or "The audit gave no reason."
        return (
            f"it is unknown how many pages worker {worker.index} copied, so nothing is "
            f"proven. {why}\n\n{self}"
        )

    def _copied_text(self, over: list[WorkerReport], limit: int, max_frozen: int) -> str:
        worst = max(over, key=lambda worker: worker.copied_pages or 0)
        most_frozen = max(over, key=lambda worker: worker.frozen_copied_pages or 0)
        pages, frozen = worst.copied_pages or 0, most_frozen.frozen_copied_pages or 0
        text = (
            f"worker {worst.index} copied {format_size(pages * self.page_size)} "
            f"({pages:,} pages of {format_size(self.page_size)}; "
            f"limit {format_size(limit)}); "
            f"{_pages_cell(frozen)} with frozen objects{_whose(most_frozen, worst)} "
            f"(limit {max_frozen:,}). {len(over)} of {len(self.workers)} workers "
            f"{'is' if len(over) == 1 else 'are'} over a limit."
        )
        areas = sorted(worst.copied_by_area.items(), key=lambda item: -item[1])
        if areas:
            text += " By area: " + ", ".join(f"{name} {count:,}" for name, count in areas) + "."
        where = f"Where to look: {_advice(frozen, max_frozen)}"
        if self.explanations:
            where = causes_text(self._explanation_of(worst)) or where
        else:
            where += " fork_workers(..., explain=True) names objects and fields."
        return f"{text}\n{where}\n\n{self}"

    def _explanation_of(self, worker: WorkerReport) -> Explanation:
        found = [e for e in self.explanations if e.worker == worker.index]
        return found[0] if found else self.explanations[0]


def _pages_cell(pages: int | None) -> str:
    text = count_cell(pages)
    return text if pages is None else f"{text} page" + ("" if pages == 1 else "s")


def _whose(worker: WorkerReport, other: WorkerReport) -> str:
    return "" if worker is other else f" in worker {worker.index}"


def _advice(frozen: int, max_frozen: int) -> str:
    if frozen > max_frozen:
        return (
            "frozen pages were written, so either frozen containers are changed in the "
            "worker (assignments, appends, caches kept in frozen objects), or this Python "
            "has no immortal objects (3.10, 3.11)."
        )
    return (
        "the copied pages hold objects that are not frozen. Was cowfreeze.freeze() called "
        "before the fork, on everything that the target reads? What the target itself "
        "changes (counters, caches, module globals) is copied in any case."
    )
