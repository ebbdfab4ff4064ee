"""Tables for people: the one place that knows rich.

Results are printed often in a test's failure text, in a log file or in a pipe, so the
text form takes nothing from the environment: no colour, no width of a terminal (but see
`for_stdout`). rich is imported when the first table is printed and not before, because
importing it costs more memory and time than a worker does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cowfreeze._sizes import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

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


def make_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    notes: Iterable[str] = (),
) -> RenderableType:
    """A rich table with one line of TITLE above and NOTES below.

    The first column is text and goes to the left, the others to the right. Cells are
    taken literally: "[Errno 9]" in an error is no markup.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table: Table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        justify = "left" if number == 0 else "right"
        table.add_column(Text(column), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    below = [Text(f"note: {note}") for note in notes]
    return Group(Text(title, style="bold"), table, *below)


def render(renderable: RenderableType, width: int = 110) -> str:
    """The plain text of something that rich prints; WIDTH in columns."""
    import io

    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out, width=width, color_system=None, force_terminal=False, highlight=False,
        markup=False, emoji=False, _environ={},
    )  # fmt: skip
    console.print(renderable)
    return for_stdout("\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines()))


def for_stdout(text: str) -> str:
    """TEXT with lines and dashes in ASCII if the encoding of stdout lacks them.

    A program that prints a report when it starts must not end there because of a table's line.
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = text.translate(_ASCII)
    return text
