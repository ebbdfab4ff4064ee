"""The part of a run that explains copied pages; does nothing unless that is wanted.

    prepare   before the witness is forked: room for what the workers' traps note
    open      after the last fork: the memory of witness and workers, for reading
    explain   while the workers wait: from pages to causes
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from cowfreeze import _core
from cowfreeze._explain.explanation import Explanation
from cowfreeze._workers import find_causes as attribution
from cowfreeze._workers.endings import PageFigures, page_figures
from cowfreeze._workers.processes import error_text, room_for_pages

if TYPE_CHECKING:
    from cowfreeze._workers.state import State
    from cowfreeze._workers.worker import Worker

# Of a worker's copied pages and frozen ones (None: unknown): shall they be explained?
Wants = Callable[[Optional[int], Optional[int]], bool]

# Shall the workers run under a trap, so that causes have lines? Perf changes nothing for them but
# some microseconds per copied page, so it is taken without being asked for; protected pages do.
ALWAYS = "always"
IF_CHEAP = "if perf is allowed"


class Explaining:
    """What a run keeps for explaining its workers."""

    def __init__(self, wants: Wants | None, trap: str | None) -> None:
        self.wants = wants
        self.names: Sequence[tuple[str, Any]] = ()  # where paths begin, before all else
        self.trap = trap
        self.witness_memory: int | None = None
        self.why_not = ""
        self.why_not_worker: dict[int, str] = {}
        self.collections = -1
        self.explanations: dict[int, Explanation] = {}

    def prepare(self, state: State) -> None:
        if self.wants is None:
            return
        # What a worker's count of full collections starts with; -1: the collector leaves
        # part of the heap alone, so that nothing follows from a collection.
        if gc.get_freeze_count() == 0 or _collector_sees_all():
            self.collections = gc.get_stats()[2]["collections"]
        if self.trap is None:
            return
        try:
            room = room_for_pages()
            for worker in state.workers:
                # A write per page at most; one that is copied twice is noted once.
                worker.trapped = _core.TrapBuffer(room, shared=True)
                worker.trap_backend = 1 if self.trap == IF_CHEAP else 0
        except (OSError, MemoryError) as error:
            self.why_not = f"no room to note the copied pages in: {error_text(error)}"

    def open(self, state: State) -> None:
        """After the last fork, so that no worker inherits the descriptors; before a worker
        can change its user, which would take the right to open them away."""
        if self.wants is None or state.witness is None or not _core.proc_is_ours():
            return  # where /proc numbers others, the workers' figures say so
        try:
            self.witness_memory = attribution.open_memory(state.witness.pid)
        except OSError as error:
            self.why_not = _may_not_read("the witness", error)
            return
        for worker in state.workers:
            try:
                worker.memory = attribution.open_memory(worker.pid)
            except OSError as error:
                self.why_not_worker[worker.index] = _may_not_read("the worker", error)

    def explain(self, state: State) -> None:
        """Find out what was written on the pages of the workers that wait for their release."""
        if self.wants is None:
            return
        waiting = []
        for worker in state.workers:
            records = state.mailbox.get(worker.index).records
            figures = page_figures(records) if records else PageFigures()
            if not self.wants(figures.copied_pages, figures.frozen_copied_pages):
                continue
            one = self._waiting(worker, figures)
            if one is None:
                why = self._reason(state, worker, figures)
                self.explanations[worker.index] = attribution.unexplained(worker.index, why)
            else:
                waiting.append(one)
        if not waiting or state.witness is None or self.witness_memory is None:
            return
        try:
            self.explanations.update(
                attribution.explain_waiting(
                    state.witness, self.witness_memory, waiting, state.target, state.calls, self.names
                )
            )
        except Exception as error:  # what the workers did must not be lost over it
            for one in waiting:
                self.explanations[one.number] = attribution.unexplained(
                    one.number, error_text(error)
                )

    def _waiting(self, worker: Worker, figures: PageFigures) -> attribution.Waiting | None:
        """WORKER as the attribution wants it; None: it cannot be explained."""
        if self.why_not or self.witness_memory is None or worker.ended:
            return None
        if worker.pages is None or worker.memory is None or figures.copied_pages is None:
            return None
        collected = worker.pages.collections > self.collections >= 0
        return attribution.Waiting(
            worker.index, worker.pages, worker.memory, figures.copied_pages, collected,
            worker.trapped, self.trap == IF_CHEAP,
        )  # fmt: skip

    def _reason(self, state: State, worker: Worker, figures: PageFigures) -> str:
        if worker.ended:
            return "the worker had ended before its pages could be looked at"
        return (
            self.why_not
            or self.why_not_worker.get(worker.index)
            or state.no_witness
            or " ".join(figures.reasons)
            or "the worker could not measure its pages"
        )

    def in_order(self) -> tuple[Explanation, ...]:
        return tuple(self.explanations[index] for index in sorted(self.explanations))

    def close(self) -> None:
        if self.witness_memory is not None:
            os.close(self.witness_memory)
            self.witness_memory = None


def _may_not_read(whose: str, error: OSError) -> str:
    return (
        f"the memory of {whose} may not be read ({error_text(error)}), so nothing tells what was "
        "written on its pages: kernel.yama.ptrace_scope must be below 2, the parent dumpable "
        "(a change of user before the fork makes it not so) and /proc not hidden; or run as root"
    )


def _collector_sees_all() -> bool:
    """Was gc.freeze() never called? 3.12 and 3.13 put immortal objects into the permanent
    generation by themselves, so its size does not tell; an ordinary old object does."""
    probe = globals()
    return any(found is probe for found in gc.get_objects())
