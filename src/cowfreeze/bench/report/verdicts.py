"""What follows from the figures, in words: whichever way they fell."""

from __future__ import annotations

from collections.abc import Iterator

from cowfreeze._sizes import format_size
from cowfreeze.bench.modes import MODES
from cowfreeze.bench.report.metrics import METRICS
from cowfreeze.bench.report.results import SPREAD, BenchResult, Row

_IDLE = ("bigdict", "exit")  # cases in which workers end without reading


def conclusions(result: BenchResult) -> Iterator[str]:
    """One sentence per case and mode of cowfreeze."""
    for case, rows in result.by_case().items():
        if case in _IDLE:
            yield _statuses(case, rows)
        measure = "exit_bytes" if case in _IDLE else "copied_max"
        verb = "copies at most" if case in _IDLE else "copies"
        peers = [(row, value) for row in rows if _is_peer(row) and (value := row.median(measure)) is not None]
        if not peers:
            continue
        best, theirs = min(peers, key=lambda pair: pair[1])
        for row in rows:
            mode, ours = MODES.get(row.mode), row.median(measure)
            if mode is None or not mode.ours or ours is None:
                continue
            text = (
                f"{case}: a worker {verb} {format_size(round(ours))} with {row.mode}, {format_size(round(theirs))} with the "
                f"best other mode that keeps live objects ({best.mode}): {_times(theirs, ours)}"
            )
            starts = row.median("startup_bytes"), best.median("startup_bytes")
            if measure == "copied_max" and starts[0] is not None and starts[1] is not None:
                text += f"; with what the bare fork copies, {_times(theirs + starts[1], ours + starts[0])}"
            yield text + "."


def _statuses(case: str, rows: list[Row]) -> str:
    found = [status for row in rows for cell in row.measured for status in cell.exit_statuses]
    kinds = ", ".join(f"{found.count(status)} with {status}" for status in sorted(set(found)))
    return f"{case}: exit status of the {len(found)} children that SIGTERM and sys.exit() ended: {kinds or 'unknown'}."


def _is_peer(row: Row) -> bool:
    mode = MODES.get(row.mode)
    return mode is not None and mode.live and not mode.ours


def _times(theirs: float, ours: float) -> str:
    if ours <= 0 or theirs <= 0:
        return "one of them copies nothing"
    factor = theirs / ours
    if 0.8 <= factor <= 1.25:
        return "about as many bytes"
    word = "fewer" if factor > 1 else "more"
    factor = max(factor, 1 / factor)
    return f"{factor:,.0f} times {word} bytes" if factor >= 10 else f"{factor:.1f} times {word} bytes"


def warnings(result: BenchResult) -> Iterator[str]:
    """Everything that makes a figure doubtful."""
    if result.interrupted:
        yield f"interrupted: {len(result.cells)} of {result.planned} measurements were made"
    if result.rounds < 3:
        yield f"only {result.rounds} round{'s' * (result.rounds > 1)}: the spread is not known well (use --rounds 3 or more)"
    for case, rows in result.by_case().items():
        contents = {cell.content for row in rows for cell in row.measured if any(cell.content)}
        if len(contents) > 1:
            yield f"{case}: the modes did not all read the same data; their figures cannot be compared"
    yield from _noise(result)


def _noise(result: BenchResult) -> Iterator[str]:
    """One line per metric, because on a busy machine every time is noisy."""
    worst: dict[str, list[tuple[float, str]]] = {}
    for row in result.rows():
        for name in METRICS:
            spread = row.spread(name)
            if spread is not None and spread > SPREAD:
                worst.setdefault(name, []).append((spread, f"{row.case}/{row.mode}"))
    for name, found in worst.items():
        found.sort(reverse=True)
        spread, where = found[0]
        metric = METRICS[name]
        yield (
            f"spread above {SPREAD:.0%}: {metric.title} in {len(found)} row{'s' * (len(found) > 1)}, "
            f"most in {where} ({spread:.0%})"
        )


def footnotes(result: BenchResult) -> Iterator[str]:
    """Notes of the cells, told once with the rows that they belong to."""
    found: dict[str, list[str]] = {}
    for row in result.rows():
        for cell in row.measured:
            for text in (*cell.notes, *(f"unknown: {reason}" for reason in cell.reasons)):
                places = found.setdefault(text, [])
                if (place := f"{row.case}/{row.mode}") not in places:
                    places.append(place)
    for text, places in found.items():
        yield f"{', '.join(places)}: {text}"
