"""The plan, its order, and running it: one room after the other.

One at a time, so that cells do not compete for memory and processors. Within a round the order is
shuffled: what the machine does meanwhile (another job, a hotter processor) then does not hit
the same mode each time. Rounds follow each other, so that an interrupted run has whole rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._sizes import format_size
from cowfreeze._system.memory import available_memory
from cowfreeze.bench.cases import CASES
from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.fresh_interpreter import ending, run_room
from cowfreeze.bench.modes import MODES
from cowfreeze.bench.report.results import Cell

_PROGRAM = "cowfreeze.bench.one_run:program"
_WARM = "cowfreeze._system.memory:program"
_MARGIN = 0.9  # part of the free memory that may be planned for
_MOST_WARM = 4 << 30  # bytes; more takes longer than it explains


@dataclass(frozen=True)
class Planned:
    """A cell that is to be measured. `reason`: it will not be, and why."""

    case: str
    mode: str
    round: int
    size: int
    workers: int
    app: str | None = None
    work: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """All cells in the order in which they run.

    Attributes:
        largest: bytes that the largest of them needs.
        notes: sizes that were made smaller.
    """

    cells: tuple[Planned, ...]
    seed: int
    rounds: int
    largest: int = 0
    notes: tuple[str, ...] = ()


def make_plan(
    cases: list[str], modes: list[str], rounds: int, size: int | None, workers: int | None, seed: int
) -> Plan:
    """The plan for CASES and MODES (names that exist).

    Raises:
        CowfreezeError: a case would need more memory than there is; nothing has been allocated.
    """
    free = available_memory()
    cells: list[Planned] = []
    notes: list[str] = []
    largest = 0
    sizes: dict[str, tuple[int, int]] = {}
    for name in cases:
        case = CASES[name]
        count = (case.workers if case.workers is not None else 4) if workers is None or case.workers == 0 else workers
        wanted, note = _size_that_fits(case, size, count, free)
        if note:
            notes.append(note)
        sizes[name] = wanted, count
        if case.missing() is None:
            largest = max(largest, case.bytes_needed(wanted, count))
    order = random.Random(seed)
    for number in range(rounds):
        turn = []
        for name in cases:
            case, (wanted, count) = CASES[name], sizes[name]
            for mode in modes:
                reason = case.missing()
                if reason is None and case.modes is not None and mode not in case.modes:
                    reason = case.why_not
                turn.append(Planned(name, mode, number, wanted, count, reason=reason))
        order.shuffle(turn)
        cells += turn
    return Plan(tuple(cells), seed, rounds, largest, tuple(notes))


def app_plan(app: str, work: str | None, modes: list[str], rounds: int, workers: int | None, seed: int) -> Plan:
    """The plan for the user's own application, whose size nobody knows before it is built."""
    count = 4 if workers is None else workers
    order = random.Random(seed)
    cells: list[Planned] = []
    for number in range(rounds):
        turn = [Planned("app", mode, number, 0, count, app, work) for mode in modes]
        order.shuffle(turn)
        cells += turn
    return Plan(tuple(cells), seed, rounds)


def _size_that_fits(case: Case, size: int | None, workers: int, free: int | None) -> tuple[int, str]:
    wanted = case.default_size if size is None else size
    needed = case.bytes_needed(wanted, workers)
    if free is None or needed <= free * _MARGIN or case.missing() is not None:
        return wanted, ""
    fits = case.largest(int(free * _MARGIN), workers)
    if case.scales and size is None and fits > 0:
        return fits, f"{case.name}: {fits:,} {case.unit} instead of {wanted:,}, which is what fits into memory"
    raise CowfreezeError(
        f"too little memory for {case.name}: {wanted:,} {case.unit} and {workers} workers need about "
        f"{format_size(needed)}, and {format_size(free)} is free (a tenth of it is left alone). "
        f"Use fewer workers (--workers) or less data (--size, at most {fits:,})"
    )


def warm_up(plan: Plan) -> None:
    """Touch as much memory as the largest cell will need, in a process of its own."""
    free = available_memory()
    size = min(plan.largest, _MOST_WARM if free is None else min(_MOST_WARM, free // 2))
    run_room(_WARM, {"bytes": size}, lambda message: None)


def run_plan(plan: Plan, say: Callable[[Planned, str], None]) -> Iterator[Cell]:
    """Measure the cells one after another; SAY is told what goes on.

    Closing the iterator, or an interrupt inside of it, ends the room that runs, with its workers.
    """
    for planned in plan.cells:
        say(planned, "starting")
        yield _run(planned, say)


def _run(planned: Planned, say: Callable[[Planned, str], None]) -> Cell:
    cell = Cell(planned.case, planned.mode, planned.round, planned.size, planned.workers)
    if planned.reason is not None:
        return replace(cell, reason=planned.reason)
    order: dict[str, Any] = {
        "case": planned.case,
        "mode": planned.mode,
        "size": planned.size,
        "workers": planned.workers,
        "app": planned.app,
        "work": planned.work,
    }
    try:
        last, status = run_room(_PROGRAM, order, lambda message: say(planned, message["stage"]))
    except OSError as error:
        return replace(cell, error=f"no process could be started: {error}")
    if "reason" in last:
        return replace(cell, reason=last["reason"])
    if "error" in last:
        return replace(cell, error=last["error"])
    if "row" not in last:
        return replace(cell, error=f"it ended without a result: {ending(status, 'use less data (--size)')}")
    known = Cell.from_dict({**_plain(cell), **last["row"]})
    return known


def _plain(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in ("case", "mode", "round", "size", "workers")}


def choose(names: list[str], known: dict[str, Any], what: str) -> list[str]:
    """NAMES without repetitions, in the order of KNOWN.

    Raises:
        CowfreezeError: one is unknown; the text lists what there is.
    """
    for name in names:
        if name not in known:
            raise CowfreezeError(f"there is no {what} {name!r}; there are: {', '.join(known)}")
    return [name for name in known if name in names]


def default_cases() -> list[str]:
    """What `cowfreeze bench` runs without a name: all but those that need minutes or much memory."""
    return [name for name in CASES if name not in ("coco", "bigdict", "fork")]


def mode_state(name: str) -> str:
    """Why a mode is not there, or "" """
    from cowfreeze.bench.modes import Unavailable

    try:
        MODES[name].before()
    except Unavailable as error:
        return str(error)
    finally:
        import gc

        gc.enable()  # a mode may have turned it off
    return ""
