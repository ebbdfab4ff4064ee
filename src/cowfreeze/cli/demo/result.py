"""What `cowfreeze demo` found: one row per way, the table, the conclusion in words."""

from __future__ import annotations

import dataclasses
import platform
import sys
from typing import Any

from cowfreeze._sizes import format_size
from cowfreeze._tables import UNKNOWN, Table, count_cell, render, seconds_cell, size_cell

PLAIN = "plain fork"
GC_FREEZE = "gc.freeze()"
COWFREEZE = "cowfreeze.freeze()"
WAYS = (PLAIN, GC_FREEZE, COWFREEZE)
DASH = "–"

SMALL_DATA = 10 * 1024 * 1024  # bytes; below it the interpreter's own pages dominate
KEPT = 0.05  # a worker that copies less than this share of the data keeps it shared


@dataclasses.dataclass(frozen=True)
class WayResult:
    """One way to fork. Sizes in bytes, times in seconds; None is "unknown" or "does not apply".

    copied_bytes, startup_bytes, frozen_copied_pages, read_seconds and collect_seconds are those of
    the worker with the largest figure. copied_bytes is what the worker's own work copied;
    startup_bytes is what os.fork and its hooks copy in any Python program before the worker's first
    line runs; frozen_copied_pages counts both. data_bytes is how much the resident set grew while
    the data was built. `content` is what each worker read: containers, strings, other values,
    checksum.
    """

    way: str
    records: int
    data_bytes: int
    content: tuple[int, int, int, int]
    copied_bytes: int | None
    startup_bytes: int | None
    frozen_copied_pages: int | None
    cluster_pss: int | None
    frozen_objects: int | None
    freeze_seconds: float | None
    read_seconds: float
    collect_seconds: float
    build_seconds: float
    page_size: int
    method: str | None
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def copied_in_all_bytes(self) -> int | None:
        """From the fork on: by the fork itself and by the work. At most: the two may come from
        different workers."""
        if self.copied_bytes is None or self.startup_bytes is None:
            return None
        return self.copied_bytes + self.startup_bytes

    @property
    def copied_share(self) -> float | None:
        """Bytes copied by the work per byte of data."""
        if self.copied_bytes is None or not self.data_bytes:
            return None
        return self.copied_bytes / self.data_bytes

    def to_dict(self) -> dict[str, Any]:
        """The fields, `copied_in_all_bytes` and `copied_share`, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "copied_in_all_bytes": self.copied_in_all_bytes,
            "copied_share": self.copied_share,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> WayResult:
        """The inverse of `to_dict`, also after a trip through JSON."""
        names = {field.name for field in dataclasses.fields(cls)}
        lists = {name: tuple(fields[name]) for name in ("content", "notes", "reasons")}
        return cls(**{**{name: value for name, value in fields.items() if name in names}, **lists})


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """All ways of one run, in the order of `WAYS`."""

    source: str
    workers: int
    seconds: float
    ways: tuple[WayResult, ...]

    def way(self, name: str) -> WayResult:
        """The row of the way NAME."""
        return next(row for row in self.ways if row.way == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything that the table shows, and more, ready for JSON."""
        return {
            "source": self.source,
            "python": platform.python_version(),
            "workers": self.workers,
            "seconds": self.seconds,
            "ways": [row.to_dict() for row in self.ways],
            "conclusion": self.conclusion(),
            "notes": list(self.notes()),
        }

    def conclusion(self) -> str:
        """One or two sentences that follow from the figures, whichever way they fell."""
        plain, gc_freeze, frozen = (self.way(name) for name in WAYS)
        if frozen.copied_bytes is None or plain.copied_bytes is None or gc_freeze.copied_bytes is None:
            reasons = [reason for row in self.ways for reason in row.reasons]
            return "How much the workers copied is unknown here: " + (reasons[0] if reasons else "no reason was given")
        text = (
            f"Of {format_size(frozen.data_bytes)} of data, a worker that reads it all copies "
            f"{_amount(plain)} with plain fork, {_amount(gc_freeze)} with gc.freeze() "
            f"and {_amount(frozen)} with cowfreeze.freeze()"
        )
        if plain.cluster_pss is not None and frozen.cluster_pss is not None:
            text += (
                f"; parent and {self.workers} workers together take {format_size(frozen.cluster_pss)} "
                f"instead of {format_size(plain.cluster_pss)}"
            )
        return text + "."

    def notes(self) -> tuple[str, ...]:
        """What a reader must know to trust the table: limits of this Python, unknown figures."""
        notes: list[str] = []
        if sys.version_info < (3, 12):
            notes.append(
                f"Python {sys.version_info[0]}.{sys.version_info[1]} has no immortal objects: reading writes the "
                "reference count of every object, and no freeze can stop that. Freezing only keeps the collector "
                "away from the data. Python 3.12 or newer is needed to share it."
            )
        if max(row.data_bytes for row in self.ways) < SMALL_DATA:
            notes.append(
                f"The data takes less than {format_size(SMALL_DATA)}: pages of the interpreter itself "
                "dominate these figures."
            )
        for row in self.ways:
            notes += [f"{row.way}: {note}" for note in row.notes]
            notes += [f"{row.way}: unknown: {reason}" for reason in row.reasons]
        return tuple(dict.fromkeys(notes))


def _amount(row: WayResult) -> str:
    share = row.copied_share
    if share is None or share < KEPT:
        return format_size(row.copied_bytes) if row.copied_bytes is not None else "an unknown amount"
    return f"{share:.0%}"


def table_text(result: DemoResult) -> str:
    """RESULT for people: title, table, notes, conclusion.

    "unknown" is a figure that could not be measured; a dash is one that does not exist in that way.
    What the fork itself copies stands beside what the work copies, because no freeze of data can
    lower it: the interpreter's hooks write about half a MiB in every forked child.
    """
    rows = [
        (
            row.way,
            size_cell(row.copied_bytes),
            size_cell(row.startup_bytes),
            UNKNOWN if row.copied_share is None else f"{row.copied_share:.1%}",
            count_cell(row.frozen_copied_pages) if row.way == COWFREEZE else DASH,
            size_cell(row.cluster_pss),
            DASH if row.way == PLAIN else seconds_cell(row.freeze_seconds),
            seconds_cell(row.read_seconds),
        )
        for row in result.ways
    ]
    first = result.ways[0]
    title = (
        f"{result.source}: {first.records:,} records, {format_size(first.data_bytes)}, "
        f"{result.workers} workers, Python {platform.python_version()}, {result.seconds:.0f} s"
    )
    columns = (
        "way",
        "copied per worker",
        "and by the fork",
        "of data",
        "frozen pages copied",
        "cluster PSS",
        "freeze",
        "read",
    )
    table = render(Table(title, columns, rows), width=124)
    return "\n".join([table, "", *(f"note: {note}" for note in result.notes()), result.conclusion()])
