"""status(): what this process has frozen."""

from __future__ import annotations

import dataclasses
from typing import Any

from cowfreeze import _core
from cowfreeze._freeze import freeze
from cowfreeze._sizes import format_size
from cowfreeze._support import why_not


@dataclasses.dataclass(frozen=True)
class Status:
    """What this process, or the one that it was forked from, has frozen so far.

    Attributes:
        freezes: calls of ``freeze`` that froze something or could have.
        objects, bytes: what they froze, all together.
        pages: pages that hold frozen objects.
        pid: the process that froze last; None: nobody.
        inherited: that was not this process: it is a worker, whatever its pid is.
        at: when it was, in seconds since the epoch; None: never.
        notes: of the last freeze.
        unsupported: why nothing is frozen here; "" if it could be.
    """

    freezes: int
    objects: int
    bytes: int
    pages: int
    pid: int | None
    inherited: bool
    at: float | None
    notes: tuple[str, ...]
    unsupported: str

    @property
    def frozen(self) -> bool:
        """Has anything been frozen?"""
        return self.freezes > 0

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"frozen": self.frozen, **dataclasses.asdict(self), "notes": list(self.notes)}

    def __str__(self) -> str:
        if self.unsupported:
            return f"nothing is frozen: {self.unsupported}"
        if not self.frozen or self.at is None:
            return "nothing is frozen"
        import time

        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        text = (
            f"{self.objects:,} objects are frozen, {format_size(self.bytes)} on {self.pages:,} pages, by "
            f"{self.freezes:,} freeze{'s' if self.freezes != 1 else ''}, the last at {clock} in process {self.pid}"
        )
        return "\n".join([text + (", which forked this one" if self.inherited else ""), *self.notes])


def status() -> Status:
    """What this process has frozen: how much, when, and what a reader of the figures should know.

    Returns:
        A Status; ``print()`` it, or take ``to_dict()``. In a worker it is that of the parent. From
        outside of the process the same is in ``/proc/PID/maps`` and in ``cowfreeze top`` and ``doctor``.
    """
    done = freeze.done
    report = done.report
    return Status(
        freezes=done.freezes,
        objects=done.objects,
        bytes=done.bytes,
        pages=_core.frozen_pages(),
        pid=done.pid or None,
        inherited=done.freezes > 0 and _core.is_inherited(),
        at=done.at or None,
        notes=() if report is None else report.notes,
        unsupported=why_not(),
    )
