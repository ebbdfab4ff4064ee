"""Results for people: tables on the terminal, Markdown, and two runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cowfreeze._tables import Table
from cowfreeze.bench.report.metrics import DASH, MARKDOWN, MEMORY, METRICS, TIME
from cowfreeze.bench.report.results import SPREAD, BenchResult, Row
from cowfreeze.bench.report.verdicts import conclusions, footnotes, warnings

HOURS = "Times are this machine's, at that hour; sizes and page counts are the program's."


def case_title(rows: Sequence[Row]) -> str:
    """Case, size, workers and rounds."""
    from cowfreeze.bench.cases import CASES

    cell = rows[0].cells[0]
    case = CASES.get(cell.case)
    size = f", {cell.size:,} {case.unit}" if case is not None else ""
    workers = f", {cell.workers} workers" if cell.workers else ""
    rounds = max(len(row.cells) for row in rows)
    return f"{cell.case}{size}{workers}, median of {rounds} round{'s' * (rounds > 1)}"


def table(rows: Sequence[Row], names: Sequence[str], title: str) -> Table:
    """One table: the columns NAMES that occur in ROWS; a row without figures shows its reason."""
    used = [name for name in names if any(row.has(name) for row in rows)]
    lines, missing = [], []
    for row in rows:
        if row.why_not is not None:
            missing.append(f"{row.mode}: {row.why_not}")
            lines.append((row.mode, *(DASH for _ in used)))
        else:
            lines.append((row.mode, *(_cell(row, name) for name in used)))
    return Table(title, ("mode", *(METRICS[name].title for name in used)), lines, missing)


def _cell(row: Row, name: str) -> str:
    if not row.has(name):
        return DASH
    return METRICS[name].cell(row.median(name))


def curve(rows: Sequence[Row], title: str) -> Table:
    """The case `fork`: a line per size, forks per second and latency of each mode."""
    shown = [row for row in rows if row.why_not is None]
    longest = max((len(row.measured[0].points) for row in shown), default=0)
    lines = []
    for index in range(longest):
        cells = []
        size = ""
        for row in shown:
            points = [cell.points[index] for cell in row.measured if index < len(cell.points)]
            if not points:
                cells += [DASH, DASH]
                continue
            size = size or METRICS["prefork_rss"].cell(_middle(point[0] for point in points))
            cells.append(METRICS["fork_seconds"].cell(_middle(point[1] for point in points)))
            cells.append(METRICS["forks_per_second"].cell(1 / _middle(point[2] for point in points)))
        lines.append((size, *cells))
    heads = [head for row in shown for head in (f"{row.mode}: fork", "forks/s")]
    missing = [f"{row.mode}: {row.why_not}" for row in rows if row.why_not is not None]
    return Table(title, ("resident", *heads), lines, missing)


def _middle(values: Iterator[float]) -> float:
    import statistics

    return statistics.median(values)


def tables(result: BenchResult) -> Iterator[Table]:
    """The tables of all cases: memory first, then times."""
    for case, rows in result.by_case().items():
        if any(cell.points for row in rows for cell in row.measured):
            yield curve(rows, case_title(rows))
            continue
        yield table(rows, MEMORY, case_title(rows))
        if any(row.has(name) for row in rows for name in TIME):
            yield table([row for row in rows if row.why_not is None], TIME, f"{case}, times and exit")


def full_text(result: BenchResult) -> str:
    """Everything: machine, command, tables, conclusions, warnings, notes."""
    from cowfreeze._tables import render

    parts = ["\n".join(f"{name:10} {value}" for name, value in about(result))]
    parts += [render(one, width=140) for one in tables(result)]
    parts.append("\n".join([*conclusions(result), HOURS]))
    lines = [*(f"warning: {text}" for text in warnings(result)), *(f"note: {text}" for text in footnotes(result))]
    if lines:
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def about(result: BenchResult) -> Iterator[tuple[str, str]]:
    """What must stand above the figures."""
    yield "command", result.command
    yield from result.machine.items()
    yield "run", f"{result.started}, {result.seconds:.0f} s, {len(result.cells)} measurements, seed {result.seed}"


def markdown(result: BenchResult) -> str:
    """Tables for a README, with the command line above them; the file keeps what has no column here."""
    lines = ["```", result.command, "```", ""]
    machine = result.machine
    lines.append(
        f"{machine.get('machine', '')}, Linux {machine.get('kernel', '')}, Python {machine.get('python', '')}; "
        f"cowfreeze {machine.get('cowfreeze', '')}. {HOURS}"
    )
    for rows in result.by_case().values():
        lines += ["", f"**{case_title(rows)}**", ""]
        if any(cell.points for row in rows for cell in row.measured):
            lines += _curve_markdown(rows)
            continue
        names = [name for name in MARKDOWN if any(row.has(name) for row in rows)]
        lines.append("| mode | " + " | ".join(METRICS[name].title for name in names) + " |")
        lines.append("|---|" + "--:|" * len(names))
        for row in rows:
            cells = [DASH] * len(names) if row.why_not else [_cell(row, name) for name in names]
            lines.append(f"| {row.mode} | " + " | ".join(cells) + " |")
        missing = [f"{row.mode}: {row.why_not}" for row in rows if row.why_not is not None]
        if missing:
            lines += ["", "Not there: " + "; ".join(missing) + "."]
    lines += ["", *(f"- {text}" for text in conclusions(result))]
    lines += [f"- Warning: {text}" for text in warnings(result)]
    return "\n".join(lines)


def _curve_markdown(rows: Sequence[Row]) -> list[str]:
    lines = ["| mode | resident | fork | forks/s |", "|---|--:|--:|--:|"]
    for row in rows:
        if row.why_not is not None:
            lines.append(f"| {row.mode} | {row.why_not} | {DASH} | {DASH} |")
            continue
        for index in range(len(row.measured[0].points)):
            points = [cell.points[index] for cell in row.measured if index < len(cell.points)]
            size, fork, cycle = (_middle(point[part] for point in points) for part in range(3))
            cells = (
                METRICS["prefork_rss"].cell(size),
                METRICS["fork_seconds"].cell(fork),
                METRICS["forks_per_second"].cell(1 / cycle),
            )
            lines.append(f"| {row.mode} | " + " | ".join(cells) + " |")
    return lines


class Difference(NamedTuple):
    """A figure that two runs do not agree on; `before` and `after` are in `unit`."""

    case: str
    mode: str
    figure: str
    unit: str
    before: float
    after: float
    change: str


def compare(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> tuple[list[Difference], list[str]]:
    """Every figure that differs by more than its spread in either run, and what else is to be said."""
    old = {(row.case, row.mode): row for row in before.rows()}
    found, same, alone = [], 0, []
    for row in after.rows():
        other = old.pop((row.case, row.mode), None)
        if other is None:
            alone.append(f"{row.case}/{row.mode}: only in {names[1]}")
            continue
        if row.cells[0].size != other.cells[0].size or row.cells[0].workers != other.cells[0].workers:
            alone.append(f"{row.case}/{row.mode}: different sizes or numbers of workers; not compared")
            continue
        why_not = [f"{one.why_not} in {name}" for one, name in zip((other, row), names, strict=True) if one.why_not]
        if why_not:
            alone.append(f"{row.case}/{row.mode}: not compared: {'; '.join(why_not)}")
            continue
        for name, metric in METRICS.items():
            a, b = other.median(name), row.median(name)
            if a is None or b is None:
                if a is not b:
                    alone.append(f"{row.case}/{row.mode}: {name} is unknown in {names[0 if a is None else 1]}")
                continue
            noise = max(SPREAD, row.spread(name) or 0, other.spread(name) or 0)
            if abs(b - a) <= noise * max(abs(a), abs(b)):
                same += 1
                continue
            found.append(Difference(row.case, row.mode, name, metric.unit, a, b, _change(a, b, metric.lower)))
    alone += [f"{case}/{mode}: only in {names[0]}" for case, mode in old]
    notes = [f"{same} figures differ by no more than their spread (at least {SPREAD:.0%})", *alone]
    if before.machine.get("machine") != after.machine.get("machine"):
        notes.append("the two runs were made on different machines: compare sizes, not times")
    return found, notes


def compare_text(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> str:
    """The same as a table."""
    from cowfreeze._tables import render

    found, notes = compare(before, after, names)
    lines = []
    for one in found:
        metric = METRICS[one.figure]
        cells = metric.cell(one.before), metric.cell(one.after)
        lines.append((f"{one.case}/{one.mode}", metric.title, *cells, one.change))
    return render(Table(f"{names[0]} → {names[1]}", ("row", "figure", "before", "after", "change"), lines, notes), width=120)


def _change(before: float, after: float, lower: bool) -> str:
    better = (after < before) == lower
    word = "better" if better else "worse"
    if min(before, after) <= 0:
        return word
    factor = max(before, after) / min(before, after)
    return f"{factor:.2f} times {word}" if factor < 10 else f"{factor:,.0f} times {word}"
