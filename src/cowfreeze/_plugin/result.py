"""CowResult: the figures of one measurement, plain data without the test's objects."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cowfreeze._plugin.settings import MAX_COPIED, MAX_FROZEN, MAX_FROZEN_BY_WARMUP
from cowfreeze._sizes import check_count, format_size, parse_size
from cowfreeze._tables import Table, group, render
from cowfreeze._workers.report import PagesCopied, WorkerReport, WorkersResult

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The causes of copied pages, or why they are not known.

    Attributes:
        text: a table; None when unknown.
        data: the same as plain data; None when unknown.
        reason: why it is unknown, or None.
    """

    text: str | None
    data: dict[str, Any] | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """All attributes."""
        return dataclasses.asdict(self)


def warmup_text(pages: int | None) -> str:
    """What the reader of a green test must know of its warm-up."""
    return (
        f"the warm-up wrote {pages:,} pages with frozen objects, which each worker that begins without one copies: "
        "warm up before the freeze in production too, or measure with warmup=0"
    )


@dataclasses.dataclass(frozen=True)
class CowResult:
    """What forked workers copied; a table when printed.

    Attributes:
        measured: what ``cowfreeze.fork_workers`` found, with the value that each worker's
            body returned.
        freeze: what was frozen before the fork: "data", "heap" or "none".
        warmup: how often the body had run before.
        frozen_objects: how many objects were frozen; None when nothing was to be.
        frozen_bytes: bytes of these objects.
        freeze_seconds: how long that took.
        explanation: the causes, or why they are not known.
        notes: what a reader of the figures must know, one sentence each.
        warmup_frozen: pages with frozen objects that the warm-up wrote, and that a worker without
            one copies; None when unknown, or when there was none. Asked where the data is frozen,
            on CPython 3.12 and later.
    """

    measured: WorkersResult
    freeze: str
    warmup: int
    frozen_objects: int | None
    frozen_bytes: int | None
    freeze_seconds: float | None
    explanation: Explanation
    notes: tuple[str, ...]
    warmup_frozen: int | None = None

    @property
    def workers(self) -> tuple[WorkerReport, ...]:
        """One report per worker."""
        return self.measured.workers

    @property
    def results(self) -> tuple[Any, ...]:
        """What the body returned in each worker (pickled and unpickled)."""
        return self.measured.results

    @property
    def copied(self) -> int | None:
        """Bytes that the worst worker copied while the body ran; None when unknown."""
        return self.measured.copied

    @property
    def frozen_copied(self) -> int | None:
        """Pages with frozen objects that the worst worker copied; None when unknown, and
        when nothing was frozen: 0 would look like a success."""
        return None if self.freeze == "none" else self.measured.frozen_copied

    @property
    def by_cause(self) -> dict[str, int] | None:
        """Copied pages by cause ("list: list contents"), of the explained worker that copied
        most; several causes can share a page. None when it is unknown: see explanation.reason."""
        if self.explanation.data is None:
            return None
        return {
            f"{cause['type']}: {cause['field']}": cause["pages"]
            for cause in self.explanation.data.get("causes", ())
        }

    @property
    def faults(self) -> int | None:
        """Minor page faults of the worst worker; None when unknown. Source: getrusage."""
        return self.measured.minor_faults

    @property
    def shared_ratio(self) -> float | None:
        """Part of the inherited memory (the session's and the data) that the body did not copy
        in the worst worker, 0.0 to 1.0; None when unknown."""
        return self.measured.shared_ratio

    def assert_shared(
        self, max_copied: int | str = MAX_COPIED, max_frozen: int = MAX_FROZEN
    ) -> CowResult:
        """Raise unless every worker kept the pages shared.

        Args:
            max_copied: what each worker may copy, in bytes or as "256 KiB".
            max_frozen: how many of the copied pages may hold frozen objects.

        Returns:
            This result.

        Raises:
            PagesCopied: a worker is above a limit, or its figures are unknown.
            TypeError, ValueError: a limit that is none.
        """
        __tracebackhide__ = True
        limit = parse_size(max_copied, "max_copied")
        max_frozen = check_count(max_frozen, "max_frozen")
        unknown = self.unknown
        if unknown is not None:
            raise PagesCopied(
                f"it is unknown how many pages a worker copied, so nothing is proven: {unknown}",
                self.measured,
            )
        assert self.copied is not None
        if self.copied > limit or (self.frozen_copied or 0) > max_frozen:
            raise PagesCopied(self._sentence(self.copied, limit, max_frozen), self.measured)
        return self

    @property
    def unknown(self) -> str | None:
        """Why a worker's figures are unknown; None when all are known."""
        for worker in self.workers:
            if worker.copied_pages is None or worker.frozen_copied_pages is None:
                return " ".join(worker.reasons) or "the audit gave no reason"
        return None

    def _sentence(self, copied: int, limit: int, max_frozen: int) -> str:
        pages = copied // self.measured.page_size
        text = (
            f"workers copied {format_size(copied)} (limit {format_size(limit)}): "
            f"{pages:,} page{'s' if pages != 1 else ''}"
        )
        if self.frozen_copied is not None:
            text += f", {self.frozen_copied:,} with frozen objects (limit {max_frozen:,})"
        if self.shared_ratio is not None:
            text += f"; {self.shared_ratio:.1%} of the inherited memory was not copied"
        return text

    def to_dict(self) -> dict[str, Any]:
        """All attributes and properties but ``results`` as plain values for JSON."""
        return {
            "copied": self.copied,
            "frozen_copied": self.frozen_copied,
            "shared_ratio": self.shared_ratio,
            "faults": self.faults,
            "freeze": self.freeze,
            "warmup": self.warmup,
            "warmup_frozen": self.warmup_frozen,
            "frozen_objects": self.frozen_objects,
            "frozen_bytes": self.frozen_bytes,
            "freeze_seconds": self.freeze_seconds,
            "explanation": self.explanation.to_dict(),
            "notes": list(self.notes),
            "measured": self.measured.to_dict(),
        }

    def _parts(self) -> tuple[Table | str, ...]:
        frozen = "nothing frozen"
        if self.frozen_objects is not None:
            frozen = f"{self.frozen_objects:,} objects frozen ({self.freeze})"
            if self.frozen_bytes is not None:
                frozen += f", {format_size(self.frozen_bytes)}"
        notes = [note for note in self.notes if note not in self.measured.notes]
        if (self.warmup_frozen or 0) > MAX_FROZEN_BY_WARMUP:
            notes.insert(0, warmup_text(self.warmup_frozen))
        return (
            f"{frozen}, warmed up {self.warmup} time{'' if self.warmup == 1 else 's'}",
            self.measured.to_table(),
            *(f"note: {note}" for note in notes),
        )

    def __rich__(self) -> RenderableType:
        return group(*self._parts())

    def __str__(self) -> str:
        return render(*self._parts())
