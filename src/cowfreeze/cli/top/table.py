"""The tables of `cowfreeze top`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cowfreeze._sizes import format_size
from cowfreeze._tables import UNKNOWN, Table, size_cell
from cowfreeze.cli.top.result import EXEC, FORK, ROOT, ProcessSample, TopSample, TreeSample

DASH = "–"  # the figure does not exist for this process; "unknown" is one that exists and was not read
_COLUMNS = ("process", "RSS", "PSS", "USS", "swap", "shared", "copied", "frozen", "faults/s", "age")
_SPACED_OUT = 3  # columns between two cells
_NAME = 14  # columns that the name needs at least: an indented pid
_MARKS = {ROOT: "", FORK: "", EXEC: "exec: ", None: "? "}


def tables(sample: TopSample, width: int) -> list[Table]:
    """One table per tree, for a terminal of WIDTH columns."""
    return [_table(tree, sample, width) for tree in sample.trees]


def _table(tree: TreeSample, sample: TopSample, width: int) -> Table:
    rows = [_row(process) for process in tree.processes]
    keep = list(range(len(_COLUMNS)))
    dispensable = ["age", "faults/s", "frozen", "RSS"]
    if not any(process.swap for process in tree.processes):
        dispensable.insert(1, "swap")
    while (room := _room(rows, keep, width)) < _NAME and dispensable:
        keep.remove(_COLUMNS.index(dispensable.pop(0)))
    for row in rows:
        row[0] = _cut(row[0], max(room, _NAME))
    cells = [[row[number] for number in keep] for row in rows]
    return Table(_title(tree, sample), [_COLUMNS[number] for number in keep], cells, _notes(tree))


def _room(rows: Sequence[Sequence[str]], keep: Sequence[int], width: int) -> int:
    """What the columns KEEP leave of WIDTH for the names; a folded name would look like two rows."""
    return width - 2 - sum(
        max(len(_COLUMNS[number]), *(len(row[number]) for row in rows)) + _SPACED_OUT for number in keep[1:]
    )  # fmt: skip


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1].rstrip() + "~"


def _title(tree: TreeSample, sample: TopSample) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(sample.time))
    count = len(tree.processes)
    pss = (
        f"at least {format_size(tree.cluster_pss_at_least)}"
        if tree.cluster_pss is None and tree.cluster_pss_at_least else size_cell(tree.cluster_pss)
    )  # fmt: skip
    host = f"{tree.host} " if tree.host else ""
    return (
        f"{clock}  {host}{tree.root}: {count} process{'es' if count != 1 else ''}, cluster PSS {pss} "
        f"(sum of RSS {size_cell(tree.rss_sum)})"
    )


def _row(process: ProcessSample) -> list[str]:
    name = f"{'  ' * process.depth}{process.pid} {_MARKS[process.start]}{process.title}"
    if process.state == "Z":
        return [f"{name} (ended)", *[DASH] * (len(_COLUMNS) - 1)]
    return [
        name,
        size_cell(process.rss),
        size_cell(process.pss),
        size_cell(process.uss),
        size_cell(process.swap),
        UNKNOWN if process.shared_ratio is None else f"{process.shared_ratio:.0%}",
        copied_cell(process),
        DASH if process.frozen_bytes == 0 else size_cell(process.frozen_bytes),
        DASH if process.faults_per_second is None else f"{process.faults_per_second:,.0f}",
        _age(process),
    ]


def copied_cell(process: ProcessSample) -> str:
    """What a worker copied: a size, a range, or a bound, as far as it is known."""
    if process.start in (ROOT, EXEC):
        return DASH
    low, high = process.copied_at_least, process.copied_at_most
    if high is None:
        return f"{format_size(low)} or more" if low else UNKNOWN
    if not low and high:
        return f"up to {format_size(high)}"
    if low is None or format_size(low) == format_size(high):
        return format_size(high)
    (first, unit), (second, other) = format_size(low).split(), format_size(high).split()
    return f"{first}–{second} {unit}" if unit == other else f"{first} {unit}–{second} {other}"


def _age(process: ProcessSample) -> str:
    ages = [age for age in (process.memory_age, process.copied_age) if age is not None]
    if not ages:
        return DASH
    return "now" if max(ages) < 1 else f"{max(ages):.0f} s"


def _notes(tree: TreeSample) -> list[str]:
    """Each reason once, with the processes that it is about."""
    pids: dict[str, list[int]] = {}
    figures: dict[str, set[str]] = {}
    for process in tree.processes:
        for figure, reason in process.unknown.items():
            if figure == "faults_per_second" or (figure == "copied" and process.start in (ROOT, EXEC)):
                continue  # the dash says it
            text = reason.replace(f"process {process.pid} ", "the process ").replace(f"process {process.pid}:", "it:")
            if process.pid not in pids.setdefault(text, []):
                pids[text].append(process.pid)
            figures.setdefault(text, set()).add(figure)
    return [
        f"{'copied' if figures[text] == {'copied'} else 'unknown'}, {_list(found)}: {text}"
        for text, found in pids.items()
    ]


def _list(pids: Sequence[int]) -> str:
    text = ", ".join(str(pid) for pid in pids[:6])
    return text if len(pids) <= 6 else f"{text} and {len(pids) - 6} more"
