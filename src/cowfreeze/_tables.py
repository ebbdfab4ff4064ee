"""Tables for people.

Results are printed often in a test's failure text, in a log file or in a pipe, and right after a
freeze, so the text form takes nothing from the environment (but see `for_stdout`) and imports nothing:
rich would cost each worker more than the work does. A rich console gets a rich table, when it asks.

    title
                                                    columns: the first is text, to the left
     worker      copied   frozen
     ───────────────────────────
     0 returned   1 MiB   3 pages                   rows: what is too wide is folded at spaces

    note: ...                                       notes, folded to the width
"""

from __future__ import annotations

import sys

from cowfreeze._sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

UNKNOWN = "unknown"
_ASCII = {ord("─"): "-", ord("–"): "-", ord("→"): "->"}


def size_cell(size: int | None) -> str:
    """Bytes for a table; None is "unknown", never 0."""
    return UNKNOWN if size is None else format_size(size)


def count_cell(count: int | None) -> str:
    """A number for a table, with thousands apart: ``39,280``."""
    return UNKNOWN if count is None else f"{count:,}"


def seconds_cell(seconds: float | None) -> str:
    """Seconds for a table: ``12.3 ms``, ``4.56 s``."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


class Table:
    """One line of title above, rows of text, notes below. Cells are taken literally.

    Attributes:
        title: what it is about; "" for none.
        columns: their heads.
        rows: a cell for each column.
        notes: sentences.
    """

    __slots__ = ("title", "columns", "rows", "notes")

    def __init__(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
    ) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows = [tuple(row) for row in rows]
        self.notes = tuple(notes)

    def lines(self, width: int) -> list[str]:
        """The text in at most WIDTH columns, unless so many columns of the table do not fit."""
        table = [self.columns, *self.rows]
        widths = [max(len(part) for row in table for part in row[n].split("\n")) for n in range(len(self.columns))]
        while sum(widths) + 3 * len(widths) - 1 > width and max(widths) > _NARROWEST:
            widths[widths.index(max(widths))] -= 1
        # What a column is folded to, it may not fill: words are kept whole.
        folded = [[_fold(cell, size) for cell, size in zip(row, widths)] for row in table]
        widths = [max(len(line) for row in folded for line in row[n]) for n in range(len(widths))]
        text = _fold(self.title, width) + [""] if self.title else []
        for number, row in enumerate(folded):
            for line in range(max(map(len, row))):
                cells = [cell[line] if line < len(cell) else "" for cell in row]
                first, *others = cells
                padded = [first.ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(others, widths[1:]))]
                text.append(" " + "   ".join(padded).rstrip())
            if number == 0:
                text.append(" " + "─" * (sum(widths) + 3 * (len(widths) - 1)))
        for number, note in enumerate(self.notes):
            text += ([""] if number == 0 else []) + _fold(f"note: {note}", width)
        return text

    def __rich__(self) -> RenderableType:
        """The same for a rich console, which knows its width and its colours."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table: RichTable = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(self.columns):
            justify = "left" if number == 0 else "right"
            table.add_column(Text(column), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        below = [Text(f"note: {note}") for note in self.notes]
        return Group(Text(self.title, style="bold"), table, *below)


_NARROWEST = 8


def _fold(text: str, width: int) -> list[str]:
    """Lines of at most WIDTH, broken at spaces where there are any."""
    lines = []
    for line in text.split("\n"):
        while len(line) > width:
            at = line.rfind(" ", 1, width + 1)
            lines.append(line[: at if at > 0 else width].rstrip())
            line = line[at + 1 if at > 0 else width :]
        lines.append(line)
    return lines


def render(*parts: Table | str, width: int = 110) -> str:
    """The plain text of tables and sentences, one below the other; WIDTH in columns."""
    lines: list[str] = []
    for part in parts:
        lines += _fold(part, width) if isinstance(part, str) else part.lines(width)
    return for_stdout("\n".join(line.rstrip() for line in lines))


def group(*parts: Table | str) -> RenderableType:
    """The same for a rich console."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def for_stdout(text: str) -> str:
    """TEXT with lines and dashes in ASCII if the encoding of stdout lacks them.

    A program that prints a report when it starts must not end there because of a table's line.
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = text.translate(_ASCII)
    return text
