"""What a benchmark found: cells as they were measured, rows made of them, and the file.

    cell   one case, one mode, one round: the figures of one process
    row    one case and mode: the figures of all its rounds, or the reason why there are none

The file is JSON that `python -m pyperf compare_to` reads: pyperf's "benchmarks" with one entry
per case, mode and metric, and beside them, under "cowfreeze", everything that was measured, from
which the tables and charts can be made again. pyperf refuses values that are 0 (it divides by
them), so a metric that was 0 in a round stands in the second part alone.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._files import write_whole
from cowfreeze.bench.report.metrics import BYTE, COUNT, METRICS, SECOND

FORMAT = 1
SPREAD = 0.05  # (largest - smallest) / median above which a figure is called noisy


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement. `reason`: the mode is not there; `error`: it was, and it failed."""

    case: str
    mode: str
    round: int
    size: int
    workers: int
    values: dict[str, float | None] = dataclasses.field(default_factory=dict)
    points: tuple[tuple[float, float, float], ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    content: tuple[int, ...] = ()
    exit_statuses: tuple[int, ...] = ()
    reason: str | None = None
    error: str | None = None

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Cell:
        """The inverse of dataclasses.asdict, also after a trip through JSON."""
        known = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in fields.items() if name in known}
        for name in ("notes", "reasons", "content", "exit_statuses"):
            kept[name] = tuple(kept.get(name) or ())
        kept["points"] = tuple((float(a), float(b), float(c)) for a, b, c in kept.get("points") or ())
        return cls(**kept)


@dataclasses.dataclass(frozen=True)
class Row:
    """All rounds of one case in one mode."""

    case: str
    mode: str
    cells: tuple[Cell, ...]

    @property
    def measured(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.reason is None and cell.error is None)

    @property
    def why_not(self) -> str | None:
        """Why there is no figure; None if there is one."""
        if self.measured:
            return None
        for cell in self.cells:
            if cell.error is not None:
                return f"failed: {cell.error}"
        return next((cell.reason for cell in self.cells if cell.reason is not None), "not run")

    def has(self, name: str) -> bool:
        """Does this metric exist here (it may be unknown)?"""
        return any(name in cell.values for cell in self.measured)

    def values(self, name: str) -> list[float]:
        """The known values of the rounds."""
        found = [cell.values.get(name) for cell in self.measured]
        return [value for value in found if value is not None]

    def median(self, name: str) -> float | None:
        """None if a round does not know it: unknown is not left out of a median."""
        found = self.values(name)
        return statistics.median(found) if found and len(found) == len(self.measured) else None

    def spread(self, name: str) -> float | None:
        """(largest - smallest) / median over the rounds; None with fewer than two, or around 0."""
        found = self.values(name)
        if len(found) < 2:
            return None
        middle = statistics.median(found)
        return (max(found) - min(found)) / middle if middle else None


@dataclasses.dataclass(frozen=True)
class BenchResult:
    """One run of `cowfreeze bench`.

    Attributes:
        command: the command line that repeats it.
        planned: how many cells there were to be; fewer than that were measured when interrupted.
        seed: of the order in which the cells ran.
    """

    command: str
    machine: dict[str, str]
    cells: tuple[Cell, ...]
    planned: int
    rounds: int
    seconds: float
    seed: int
    interrupted: bool = False
    started: str = ""

    def rows(self) -> Iterator[Row]:
        """Rows in the order of cases and modes, as far as they occur."""
        from cowfreeze.bench.cases import CASES
        from cowfreeze.bench.modes import MODES

        found: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.case, cell.mode), []).append(cell)
        cases, modes = [*CASES], [*MODES]

        def place(key: tuple[str, str]) -> tuple[int, str, int]:
            case, mode = key
            return (
                cases.index(case) if case in cases else len(cases),
                case,
                modes.index(mode) if mode in modes else len(modes),
            )

        for key in sorted(found, key=place):
            yield Row(*key, tuple(sorted(found[key], key=lambda cell: cell.round)))

    def by_case(self) -> dict[str, list[Row]]:
        """The rows of each case."""
        found: dict[str, list[Row]] = {}
        for row in self.rows():
            found.setdefault(row.case, []).append(row)
        return found

    @property
    def failed(self) -> tuple[Cell, ...]:
        """Cells that should have worked."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BenchResult:
        """The inverse of `to_dict`, also after a trip through JSON."""
        known = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in fields.items() if name in known}
        return cls(**{**kept, "cells": tuple(Cell.from_dict(cell) for cell in fields["cells"])})


def to_json(result: BenchResult) -> str:
    """The file's text."""
    metadata = {
        "command": result.command,
        "python_version": result.machine.get("python", ""),
        "platform": result.machine.get("machine", ""),
        "kernel": result.machine.get("kernel", ""),
    }
    document = {
        "version": "1.0",  # pyperf's
        "metadata": {name: value for name, value in metadata.items() if value},  # pyperf refuses empty ones
        "benchmarks": list(_pyperf(result)),
        "cowfreeze": {"format": FORMAT, **result.to_dict()},
    }
    return json.dumps(document, indent=1) + "\n"


def _pyperf(result: BenchResult) -> Iterator[dict[str, Any]]:
    for row in result.rows():
        for name, metric in METRICS.items():
            values = row.values(name)
            if metric.unit not in (BYTE, SECOND, COUNT) or not values or min(values) <= 0:
                continue
            yield {
                "metadata": {"name": f"{row.case}/{row.mode}/{name}", "unit": metric.unit},
                "runs": [{"values": [value]} for value in values],
            }


def save(result: BenchResult, path: str) -> None:
    """Write the file in one step: an interrupt leaves the old one or the new one."""
    try:
        write_whole(path, to_json(result))
    except OSError as error:
        raise CowfreezeError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: str) -> BenchResult:
    """Read a file that `save` wrote.

    Raises:
        CowfreezeError: it cannot be read, or is not such a file.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CowfreezeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CowfreezeError(f"{path} is not JSON: {error}") from error
    part = document.get("cowfreeze") if isinstance(document, dict) else None
    if not isinstance(part, dict) or part.get("format") != FORMAT:
        raise CowfreezeError(f"{path} is no result of this version's `cowfreeze bench -o`")
    try:
        return BenchResult.from_dict(part)
    except (AttributeError, KeyError, TypeError) as error:
        raise CowfreezeError(f"{path} is damaged: it says it is a result of `cowfreeze bench -o`, and is not") from error
