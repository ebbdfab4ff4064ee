"""What a terminal shows while the benchmark runs: the tables so far, and a line of progress."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cowfreeze.bench.report.results import BenchResult
    from cowfreeze.bench.runner import Planned


class Board:
    """The growing tables above, the bar below; wiped at the end, because the result follows."""

    def __init__(self, planned: int) -> None:
        import sys

        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(file=sys.stderr)
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False),
            console=self._console,
        )  # fmt: skip
        self._task = self._bar.add_task("warming up memory", total=planned)
        self._live = Live(self._bar, console=self._console, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Board:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def say(self, cell: Planned | None, text: str) -> None:
        """What goes on now."""
        if cell is None:
            self._console.print(f"note: {text}", markup=False, highlight=False)
        else:
            self._bar.update(self._task, description=f"{cell.case}, {cell.mode}: {text}")

    def show(self, result: BenchResult) -> None:
        """One more measurement is there: the table of its case, above the bar."""
        from rich.console import Group

        from cowfreeze.bench.report.metrics import MEMORY
        from cowfreeze.bench.report.tables import case_title, curve, table

        self._bar.update(self._task, completed=len(result.cells))
        rows = result.by_case()[result.cells[-1].case]
        if any(cell.points for row in rows for cell in row.measured):
            shown = curve(rows, case_title(rows))
        else:
            shown = table(rows, MEMORY, case_title(rows))
        self._live.update(Group(shown, self._bar))
