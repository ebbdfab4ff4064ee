"""`cowfreeze bench`: cases and modes side by side, and `cowfreeze compare` for two results.

The work is done in cowfreeze.bench; here stand the command line, the progress and the files.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cowfreeze._errors import CowfreezeError
from cowfreeze.cli.command import (
    FAILURE,
    USAGE,
    Command,
    CommandError,
    ended_as_interrupted,
    positive_int,
    print_text,
)  # fmt: skip

if TYPE_CHECKING:
    from cowfreeze.bench.report.results import BenchResult, Cell
    from cowfreeze.bench.runner import Plan, Planned

MAX_WORKERS = 64
INTERRUPTED = 130
LIST = "list"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which cases to run, or `list` to see them")
    parser.add_argument("--modes", metavar="A,B", help="which modes to compare (default: all)")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="workers per measurement (default: 4)")
    parser.add_argument("--rounds", type=positive_int, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument("--size", type=positive_int, metavar="N", help="elements of the data (default: see `list`)")
    parser.add_argument("--app", metavar="MOD:FUNC", help="measure your own data instead: what FUNC() returns")
    parser.add_argument("--work", metavar="MOD:FUNC", help="what each worker does with it: FUNC(data)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the results as JSON (pyperf reads it too)")
    parser.add_argument("--plot", metavar="FILE", help="draw a chart (needs matplotlib: the extra `plot`)")
    parser.add_argument("--load", metavar="FILE", help="show a saved result (table, Markdown, chart), measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of tables for a terminal")
    parser.add_argument("--json", action="store_true", help="print one JSON object, that of -o, instead of tables")
    parser.add_argument("--seed", type=int, metavar="N", help="order of the measurements (default: drawn)")


def _run(arguments: argparse.Namespace) -> int:
    if LIST in arguments.cases:
        print_text(_list_text())
        return 0
    if arguments.load is not None:
        return _show_saved(arguments)
    if arguments.workers is not None and arguments.workers > MAX_WORKERS:
        raise CommandError(f"--workers {arguments.workers} is too many; at most {MAX_WORKERS}", USAGE)
    with ended_as_interrupted():
        plan = _plan(arguments)
        _check_outputs(arguments)
        result, error = _measure(plan, arguments)
    status = _report(result, arguments)
    if error is not None:
        raise error
    if result.interrupted:
        where = f"kept in {arguments.output}" if arguments.output else "shown above"
        print(
            f"cowfreeze: interrupted after {len(result.cells)} of {result.planned} measurements; "
            f"they are {where}, and no worker is left",
            file=sys.stderr,
        )
        return INTERRUPTED
    return status


def _show_saved(arguments: argparse.Namespace) -> int:
    from cowfreeze.bench.report.results import load

    if arguments.cases or arguments.app or arguments.output:
        raise CommandError("--load shows what a file holds: give neither cases nor --app nor -o", USAGE)
    try:
        result = load(arguments.load)
    except CowfreezeError as error:
        raise CommandError(str(error), USAGE) from error
    _check_outputs(arguments)
    _report(result, arguments)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from cowfreeze.bench.cases import CASES
    from cowfreeze.bench.modes import MODES
    from cowfreeze.bench.runner import app_plan, choose, default_cases, make_plan

    seed = int.from_bytes(os.urandom(3), "little") if arguments.seed is None else arguments.seed
    try:
        wanted = [name for name in (arguments.modes or "").split(",") if name]
        modes = choose(wanted, MODES, "mode") if arguments.modes is not None else [*MODES]
        if not modes:
            raise CowfreezeError(f"--modes names none; there are: {', '.join(MODES)}")
        cases = choose(arguments.cases, CASES, "case")
    except CowfreezeError as error:
        raise CommandError(f"{error} (cowfreeze bench list)", USAGE) from error
    if arguments.app is None:
        if arguments.work is not None:
            raise CommandError("--work needs --app, which makes the data", USAGE)
        return make_plan(
            cases or default_cases(), modes, arguments.rounds, arguments.size, arguments.workers, seed
        )
    if cases:
        raise CommandError("give either cases or --app", USAGE)
    if arguments.size is not None:
        raise CommandError("--size belongs to the built-in cases; your function decides how much it makes", USAGE)
    _check_app(arguments.app, arguments.work)
    return app_plan(arguments.app, arguments.work, modes, arguments.rounds, arguments.workers, seed)


def _check_app(app: str, work: str | None) -> None:
    from cowfreeze.bench.fresh_interpreter import ending, run_room

    last, status = run_room("cowfreeze.bench.cases.app:program", {"app": app, "work": work}, lambda message: None)
    if "error" in last:
        raise CommandError(last["error"], USAGE)
    if status != 0:
        raise CommandError(f"importing {app} ended the process: {ending(status, 'import less')}", USAGE)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Find out before the work what would fail after it."""
    for path in (arguments.output, arguments.plot):
        if path is None:
            continue
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise CommandError(f"cannot write {path}: there is no folder {folder}", USAGE)
        if os.path.isdir(path) or not os.access(folder, os.W_OK):
            raise CommandError(f"cannot write {path}", USAGE)
    if arguments.plot is not None:
        from cowfreeze.bench.report.chart import check

        try:
            check(arguments.plot)
        except CowfreezeError as error:
            raise CommandError(str(error), USAGE) from error


def _measure(plan: Plan, arguments: argparse.Namespace) -> tuple[BenchResult, BaseException | None]:
    """Run PLAN; the result holds what was measured, whatever ended it."""
    from cowfreeze.bench import machine
    from cowfreeze.bench.report.results import BenchResult, save
    from cowfreeze.bench.runner import run_plan, warm_up

    command = _command_line(arguments)
    about = machine.describe()
    started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    begin = time.monotonic()
    cells: list[Cell] = []

    def result(interrupted: bool = False) -> BenchResult:
        return BenchResult(
            command, about, tuple(cells), len(plan.cells), plan.rounds, time.monotonic() - begin, plan.seed,
            interrupted, started,
        )  # fmt: skip

    try:
        with _progress(len(plan.cells)) as (say, show):
            for note in (*machine.notes(), *plan.notes):
                say(None, note)
            warm_up(plan)
            for cell in run_plan(plan, say):
                cells.append(cell)
                if arguments.output:
                    save(result(len(cells) < len(plan.cells)), arguments.output)
                show(result())
    except KeyboardInterrupt:
        return result(interrupted=True), None
    except Exception as error:
        return result(interrupted=True), error
    return result(), None


def _report(result: BenchResult, arguments: argparse.Namespace) -> int:
    """Files and tables; the exit status of a run that was not interrupted."""
    from cowfreeze.bench.report.results import save, to_json
    from cowfreeze.bench.report.tables import full_text, markdown

    if arguments.output and result.cells:
        save(result, arguments.output)
    if arguments.json:
        print(to_json(result), end="", flush=True)
    elif result.cells:
        print_text(markdown(result) if arguments.markdown else full_text(result))
        sys.stdout.flush()
    if arguments.plot and any(cell.values for cell in result.cells):
        from cowfreeze.bench.report.chart import draw

        draw(result, arguments.plot)
    return FAILURE if result.failed else 0


def _command_line(arguments: argparse.Namespace) -> str:
    """The command line in one canonical form."""
    words = ["cowfreeze", "bench", *arguments.cases]
    for option, value in (
        ("--modes", arguments.modes),
        ("--workers", arguments.workers),
        ("--rounds", arguments.rounds),
        ("--size", arguments.size),
        ("--app", arguments.app),
        ("--work", arguments.work),
        ("-o", arguments.output),
        ("--plot", arguments.plot),
    ):
        if value is not None:
            words += [option, str(value)]
    return shlex.join([*words, "--markdown"] if arguments.markdown else words)


def _list_text() -> str:
    from cowfreeze.bench.cases import CASES
    from cowfreeze.bench.report.metrics import METRICS
    from cowfreeze.bench.modes import MODES
    from cowfreeze.bench.runner import mode_state

    lines = ["cases (default size):"]
    for case in CASES.values():
        missing = case.missing()
        lines.append(f"  {case.name:14} {case.summary} ({case.default_size:,} {case.unit})")
        if missing:
            lines.append(f"  {'':14} not here: {missing}")
    lines += ["", "modes:"]
    for mode in MODES.values():
        lines.append(f"  {mode.name:14} {mode.summary}")
        state = mode_state(mode.name)
        if state:
            lines.append(f"  {'':14} not here: {state}")
    lines += ["", "columns:"]
    lines += [f"  {metric.title:14} {metric.what}" for metric in METRICS.values()]
    return "\n".join(lines)


Say = Callable[["Planned | None", str], None]
Show = Callable[["BenchResult"], None]


@contextmanager
def _progress(planned: int) -> Iterator[tuple[Say, Show]]:
    """Functions that show what goes on, on stderr: growing tables in a terminal, else lines."""
    if sys.stderr is None:
        yield lambda cell, text: None, lambda result: None
        return
    if not sys.stderr.isatty():
        done = [0]

        def line(cell: Planned | None, text: str) -> None:
            if cell is None:
                print(f"note: {text}", file=sys.stderr, flush=True)
            elif text == "starting":
                done[0] += 1
                print(f"{done[0]}/{planned} {cell.case}, {cell.mode} ...", file=sys.stderr, flush=True)

        yield line, lambda result: None
        return
    from cowfreeze.bench.report.progress import Board

    with Board(planned) as board:
        yield board.say, board.show


def _add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A.json", help="a file that `cowfreeze bench -o` wrote")
    parser.add_argument("after", metavar="B.json", help="another one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run_compare(arguments: argparse.Namespace) -> int:
    from cowfreeze.bench.report.results import load
    from cowfreeze.bench.report.tables import compare, compare_text

    results: list[Any] = []
    for path in (arguments.before, arguments.after):
        try:
            results.append(load(path))
        except CowfreezeError as error:
            raise CommandError(str(error), USAGE) from error
    if arguments.json:
        differences, notes = compare(results[0], results[1], (arguments.before, arguments.after))
        files = {"before": arguments.before, "after": arguments.after}
        rows = [difference._asdict() for difference in differences]
        print(json.dumps({**files, "differences": rows, "notes": notes}, indent=2))
        return 0
    print_text(compare_text(results[0], results[1], (arguments.before, arguments.after)))
    return 0


COMMAND = Command(
    name="bench",
    summary="measure cases and modes side by side, peers included",
    description=(
        "Builds the data of each case in a fresh process per mode and round, applies the mode, forks workers and\n"
        "shows what they copy, what freezing costs and what forks and exits cost. Modes that are not there are\n"
        "rows with the reason. Without a case it runs all but those that need much time or memory."
    ),
    epilog=(
        "example:\n"
        "  cowfreeze bench list\n"
        "  cowfreeze bench records tuples --rounds 3 -o out.json --plot out.png\n"
        "  cowfreeze bench --app shop.catalogue:load --work shop.catalogue:search --workers 8\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

COMPARE = Command(
    name="compare",
    summary="show what differs between two results of `cowfreeze bench -o`",
    description="Prints every figure that differs by more than its spread in either run (at least 5 %).",
    epilog="example:\n  cowfreeze compare before.json after.json\n",
    add_arguments=_add_compare_arguments,
    run=_run_compare,
)
