"""The chart: what a worker copies in each mode, and what a fork costs against size.

Bars on a logarithmic axis, because the modes differ by three orders of magnitude and a linear
axis would show one of them only. The bare fork's own copies are drawn behind each bar as an
outline: they are the same in every mode, and leaving them out would flatter.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
from typing import TYPE_CHECKING, Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._sizes import format_size
from cowfreeze.bench.modes import MODES
from cowfreeze.bench.report.results import BenchResult, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID = "#22303c", "#6b7a86", "#e3e8ec"
COLOURS = {
    "none": "#9aa7b1",
    "gc.freeze": "#7f93a3",
    "freeze": "#0b7a75",
    "heap": "#19a79f",
    "pack": "#3fbf7f",
    "cinderx": "#c8553d",
    "serialized": "#d8a44a",
    "shared_memory": "#e3bf7d",
    "hugepages": "#6f7fb5",
}
_IDLE = ("bigdict", "exit")


def check(path: str) -> None:
    """Can a chart be drawn into PATH?

    Raises:
        CowfreezeError: matplotlib is missing, or it does not know the kind of file.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise CowfreezeError("--plot needs matplotlib: pip install 'cowfreeze[plot]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = os.path.splitext(path)[1].lstrip(".").lower()
    if kind not in FigureCanvasAgg.get_supported_filetypes():
        known = ", ".join(sorted(FigureCanvasAgg.get_supported_filetypes()))
        raise CowfreezeError(f"--plot {path}: no chart can be written as {kind or 'a file without an ending'}; use {known}")


def draw(result: BenchResult, path: str) -> None:
    """Draw RESULT into PATH (PNG, SVG, PDF)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars, curves = [], []
    for rows in result.by_case().values():
        shown = [row for row in rows if row.why_not is None]
        if any(cell.points for row in shown for cell in row.measured):
            curves.append(shown)
        elif any(row.median(_measure(row)) is not None for row in shown):
            bars.append(shown)
    panels = len(bars) + 2 * len(curves)
    if not panels:
        return
    columns = 2 if curves and not bars else min(panels, 3)
    lines = -(-panels // columns)
    tallest = max((len(rows) for rows in bars), default=6)
    height = 1.5 + lines * max(2.6, 0.42 * tallest + 1.3)
    figure = Figure(figsize=(max(5.2 * columns + 0.8, 8.0), max(height, 4.6)), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False)
    axes: list[Any] = [axis for line in grid for axis in line]
    for rows, axis in zip(bars, axes):
        _bars(axis, rows)
    for number, rows in enumerate(curves):
        place = len(bars) + 2 * number
        _curves(axes[place], rows, latency=True)
        _curves(axes[place + 1], rows, latency=False)
    for axis in axes[panels:]:
        axis.set_axis_off()
    idle = all(rows[0].case in _IDLE for rows in bars)
    _frame(figure, result, _title(bool(bars), idle))
    figure.savefig(path)


def _title(bars: bool, idle: bool) -> str:
    if not bars:
        return "What a fork costs against the size of the process"
    return "Memory that an idle worker copies when it ends" if idle else "Memory that each forked worker copies"


def _frame(figure: Any, result: BenchResult, title: str) -> None:
    """Title above; machine and command below."""
    width, inches = figure.get_size_inches()
    figure.text(0.02, 1 - 0.2 / inches, title, ha="left", va="top", fontsize=18, fontweight="bold", color=INK)
    python = result.machine.get("python", "").split(" ")[0]
    kernel = result.machine.get("kernel", "")
    below = f"CPython {python}, Linux {kernel}, {result.machine.get('machine', '')}, {_rounds(result)}"
    figure.text(0.02, 0.34 / inches, below, fontsize=9, color=FAINT, va="bottom")
    figure.text(0.02, 0.12 / inches, f"$ {_short(result.command, int(width * 9.5))}".replace("$", r"\$"), fontsize=9, color=FAINT, va="bottom", family="monospace")
    figure.tight_layout(rect=(0.01, 0.62 / inches, 0.99, 1 - 0.62 / inches), w_pad=2.5, h_pad=2.0)


def _rounds(result: BenchResult) -> str:
    made = max((cell.round for cell in result.cells), default=0) + 1
    return f"median of {made} rounds" if made > 1 else "1 round"


def _short(command: str, most: int) -> str:
    return command if len(command) <= most else command[: most - 1] + "…"


def _measure(row: Row) -> str:
    return "exit_bytes" if row.case in _IDLE else "copied_max"


def _bars(axis: Axes, rows: list[Row]) -> None:
    """One bar per mode, the most copied on top, its value at its end."""
    measure = _measure(rows[0])
    found = [(row, value) for row in rows if (value := row.median(measure)) is not None]
    found.sort(key=lambda pair: pair[1])
    names = [_label(row.mode) for row, _ in found]
    values = [max(value, 1.0) for _, value in found]
    smallest, largest = min(values), max(values)
    left = 10.0 ** _floor_log(smallest / 3)
    axis.barh(names, [value - left for value in values], left=left, height=0.68,
              color=[COLOURS.get(row.mode, FAINT) for row, _ in found], zorder=3)  # fmt: skip
    if measure == "copied_max":
        for number, (row, value) in enumerate(found):
            start = row.median("startup_bytes")
            if start is not None:
                axis.barh(number, value + start - left, left=left, height=0.68, facecolor="none",
                          edgecolor=FAINT, linewidth=0.8, linestyle=(0, (3, 2)), zorder=4)  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(left, largest * (largest / left) ** 0.28)
    for number, (row, value) in enumerate(found):
        end = max(value, 1.0) + (row.median("startup_bytes") or 0) * (measure == "copied_max")
        weight = "bold" if _ours(row.mode) else "normal"
        axis.annotate(format_size(round(value)), (end, number), xytext=(5, 0), textcoords="offset points",
                      va="center", fontsize=10, color=INK, fontweight=weight, zorder=5)  # fmt: skip
    cell = rows[0].cells[0]
    what = "copied at exit, upper bound" if measure == "exit_bytes" else "copied by the work (dashed: and by the bare fork)"
    axis.set_title(f"{cell.case}  ·  {cell.size:,}  ·  {cell.workers} workers", loc="left", fontsize=12, fontweight="bold", color=INK)
    axis.set_xlabel(what, fontsize=9, color=FAINT)
    _size_ticks(axis, left, largest)
    for label, (row, _) in zip(axis.get_yticklabels(), found):
        label.set_fontweight("bold" if _ours(row.mode) else "normal")
    _style(axis, "x")
    axis.tick_params(axis="y", length=0)


def _curves(axis: Axes, rows: list[Row], latency: bool) -> None:
    """A line per mode: latency, or forks per second, against resident size."""
    for row in rows:
        sizes, values = [], []
        for index in range(max(len(cell.points) for cell in row.measured)):
            points = [cell.points[index] for cell in row.measured if index < len(cell.points)]
            sizes.append(statistics.median(point[0] for point in points) / (1 << 30))
            if latency:
                values.append(statistics.median(point[1] for point in points) * 1000)
            else:
                values.append(1 / statistics.median(point[2] for point in points))
        axis.plot(sizes, values, marker="o", markersize=5, linewidth=2.4, label=_label(row.mode),
                  color=COLOURS.get(row.mode, FAINT), zorder=3 + _ours(row.mode))  # fmt: skip
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.set_xlabel("resident memory of the parent, GiB", fontsize=10, color=FAINT)
    title = "Latency of os.fork(), ms" if latency else "Forks per second (fork, exit, wait)"
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1 else f"{value:,.0f}")
    axis.legend(frameon=False, fontsize=10, labelcolor=INK)
    _style(axis, "both")


def _style(axis: Axes, grid: str) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GRID)
    axis.grid(axis=grid, color=GRID, linewidth=0.8, zorder=0)  # type: ignore[arg-type]
    axis.tick_params(colors=INK, labelsize=10)
    axis.minorticks_off()


def _size_ticks(axis: Axes, left: float, largest: float) -> None:
    """Ticks at powers of two that people know: 64 KiB, 1 MiB, 16 MiB."""
    ticks = [float(1 << shift) for shift in range(8, 50, 4) if left <= 1 << shift <= largest * 4]
    axis.set_xticks(ticks, [format_size(int(tick)) for tick in ticks])


def _floor_log(value: float) -> int:
    power = 0
    while 10.0 ** (power + 1) <= value:
        power += 1
    return power


def _ours(mode: str) -> bool:
    return mode in MODES and MODES[mode].ours


def _label(mode: str) -> str:
    return {
        "none": "plain fork",
        "gc.freeze": "gc.freeze()",
        "freeze": "cowfreeze.freeze(data)",
        "heap": "cowfreeze.freeze()",
        "pack": "cowfreeze.pack(data)",
        "cinderx": "CinderX",
        "serialized": "pickled list",
        "shared_memory": "shared memory",
        "hugepages": "huge pages",
    }.get(mode, mode)
