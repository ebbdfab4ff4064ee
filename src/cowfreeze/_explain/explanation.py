"""Why one worker copied its pages: causes (causes.py), those on most pages first.

What a page is by its best known cause (an object, an allocator's structure, the interpreter
and libraries, unknown) adds up to all pages, so that what is unknown cannot hide.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import TYPE_CHECKING, Any

from cowfreeze._explain.causes import UNKNOWN, PageCause
from cowfreeze._sizes import format_size
from cowfreeze._tables import Table, count_cell, render, seconds_cell

if TYPE_CHECKING:
    import os

    from rich.console import RenderableType

    from cowfreeze._explain.memory_map import Layout


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why one worker copied its pages; a table when printed.

    Attributes:
        worker: index of the worker.
        pages: copied pages that were compared with the witness: those that the target copied,
            without the ones of the start. 0 if nothing was copied, or if `notes` says why
            they could not be looked at.
        unlisted: copied pages that were not looked at; `notes` says why.
        object_pages, allocator_pages, system_pages, unknown_pages: the same pages by the
            best that is known about each; they add up to ``pages``. System: interpreter
            state, C stack, variables of libraries.
        causes: all causes, those on most pages first.
        top: how many of them the table and ``to_dict()`` show; the unknown ones always.
        objects: how many objects were indexed to find owners.
        seconds: time that explaining took, for all workers together.
        page_size: bytes per page.
        notes: what a reader must know, one sentence each.
        addresses: array('Q') of the pages' addresses, ascending.
        main: array('I'), for each of them the position in ``causes`` of the cause with most
            words.
        owners, owner_of: texts for objects, without repetition, and array('I') with, for each of
            the first pages in ``addresses``, the position in ``owners`` of an object there that
            the main cause wrote; 0, an empty text, where there is none.
        layout: what lay where at the fork; None if it could not be read (``notes`` says why).
    """

    worker: int
    pages: int
    unlisted: int
    object_pages: int
    allocator_pages: int
    system_pages: int
    unknown_pages: int
    causes: tuple[PageCause, ...]
    top: int
    objects: int
    seconds: float
    page_size: int
    notes: tuple[str, ...] = ()
    addresses: array[int] = dataclasses.field(default_factory=lambda: array("Q"), repr=False)
    main: array[int] = dataclasses.field(default_factory=lambda: array("I"), repr=False)
    owners: tuple[str, ...] = dataclasses.field(default=("",), repr=False)
    owner_of: array[int] = dataclasses.field(default_factory=lambda: array("I"), repr=False)
    layout: Layout | None = dataclasses.field(default=None, repr=False)

    @property
    def named_ratio(self) -> float | None:
        """Part of the pages with an object or an allocator's structure; None without pages."""
        if self.pages == 0:
            return None
        return (self.object_pages + self.allocator_pages) / self.pages

    @property
    def shown(self) -> tuple[PageCause, ...]:
        """The first ``top`` causes, and the unknown ones behind them."""
        rest = self.causes[self.top :]
        return self.causes[: self.top] + tuple(c for c in rest if c.kind == UNKNOWN)

    def to_dict(self) -> dict[str, Any]:
        """The shown causes and all totals as plain values for JSON."""
        names = (
            "worker pages unlisted object_pages allocator_pages system_pages unknown_pages top "
            "objects seconds page_size named_ratio"
        ).split()
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        values["causes"] = [cause.to_dict() for cause in self.shown]
        values["more_causes"] = len(self.causes) - len(self.shown)
        values["notes"] = list(self.notes)
        return values

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write a map of all inherited pages to FILE, whose ending chooses the form.

        ``.html`` is one page for a browser, without anything from a network: point at a page for
        its address, mapping, cause and owner. ``.png`` and ``.svg`` need matplotlib (the extra
        ``plot``).

        Raises:
            ValueError: another ending.
            CowfreezeError: matplotlib is missing, or the layout of the memory is unknown.
            OSError: FILE cannot be written.
        """
        from cowfreeze._explain.picture import save

        save(self, file)

    def _table(self) -> Table:
        title = (
            f"worker {self.worker} copied {count_cell(self.pages)} pages "
            f"({format_size(self.pages * self.page_size)}): {count_cell(self.object_pages)} with "
            f"objects, {count_cell(self.allocator_pages)} of allocators only, "
            f"{count_cell(self.system_pages)} interpreter, stack and libraries, "
            f"{count_cell(self.unknown_pages)} unknown; {seconds_cell(self.seconds)}"
        )
        rows = [
            (
                cause.name
                + (f"\n    {cause.where}" if cause.where else "")
                + (f"\n    written at {cause.line}" if cause.line else ""),
                count_cell(cause.pages),
                count_cell(cause.alone),
                count_cell(cause.words),
            )
            for cause in self.shown
        ]
        notes = list(self.notes)
        more = len(self.causes) - len(self.shown)
        if more:
            notes.insert(0, f"{more:,} more causes; top={len(self.causes)} shows all")
        return Table(title, ("cause, and its most written owner", "pages", "alone", "words"), rows, notes)

    def __str__(self) -> str:
        return render(self._table())

    def __rich__(self) -> RenderableType:
        return self._table().__rich__()


def causes_text(explanation: Explanation, most: int = 5) -> str:
    """The main causes with advice, for the text of a failed assertion."""
    lines = []
    for cause in explanation.causes[:most]:
        where = f": {cause.where}" if cause.where else ""
        lines.append(
            f"  {cause.pages:,} pages  {cause.name}{where}"
            + (f"\n      written at {cause.line}" if cause.line else "")
            + (f"\n      {cause.advice}" if cause.advice else "")
        )
    if explanation.unknown_pages:
        lines.append(f"  {explanation.unknown_pages:,} pages  unknown")
    lines += [f"  note: {note}" for note in explanation.notes]
    if not lines:
        return ""
    return f"Main causes in worker {explanation.worker}:\n" + "\n".join(lines)
