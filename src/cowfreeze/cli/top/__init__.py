"""`cowfreeze top`: who shares how much, right now, in a tree that knows nothing of cowfreeze.

    gunicorn 4242 ── RSS PSS USS swap, shared, copied since the fork, faults per second
        ├─ 4243        the same figures, each with its age
        └─ 4244

It only reads /proc. What that costs is measured, and the next look waits until it has been
earned (`_budget`): half a percent of the time for finding and printing, half for page tables.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Callable

    from cowfreeze.cli.top.result import TopSample
    from cowfreeze.cli.top.sample import Sampler

FRAME_SHARE = 0.005
TEXT_WIDTH = 120  # of tables that go to a file or a pipe
_NOBODY = "no Python process with forked workers was found; name the parent with -p PID"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p", "--pid", type=positive_int, metavar="PID",
        help="the process whose tree is shown (default: every tree of forked Python workers)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument("--json", action="store_true", help="print JSON: with --once one object, else one per line")
    parser.add_argument(
        "--interval", type=_seconds, metavar="SECONDS",
        help="time between two looks, longer where a look costs more (default: 2, with --once 1)",
    )  # fmt: skip


def _run(arguments: argparse.Namespace) -> int:
    import psutil

    from cowfreeze.cli.top.sample import Sampler

    sampler = Sampler(arguments.pid, limited=not arguments.once)
    try:
        sampler.watch_faults()
    except psutil.NoSuchProcess:
        raise CommandError(f"there is no process {arguments.pid}", USAGE) from None
    interval = arguments.interval if arguments.interval is not None else 1.0 if arguments.once else 2.0
    try:
        if arguments.once:
            return _once(sampler, interval, arguments.json)
        return _live(sampler, interval, arguments.json)
    except psutil.NoSuchProcess:
        # It was there when this began: the end of what is watched is no mistake of the caller.
        raise CommandError(f"process {arguments.pid} has ended", FAILURE if arguments.once else 0) from None


def _once(sampler: Sampler, interval: float, as_json: bool) -> int:
    time.sleep(interval)  # page faults per second need two readings
    sample = sampler.sample()
    if as_json:
        print(json.dumps(sample.to_dict(), indent=2))
    elif sample.trees:
        print_text(_text(sample))
    if not sample.trees:
        raise CommandError(_NOBODY)
    return 0


def _live(sampler: Sampler, interval: float, as_json: bool) -> int:
    """Show samples until interrupted, which is the way to end this and no error."""
    try:
        with ended_as_interrupted():
            if as_json:
                _print_forever(sampler, interval, lambda sample: json.dumps(sample.to_dict()))
            elif not sys.stdout.isatty():
                _print_forever(sampler, interval, lambda sample: (_text(sample) if sample.trees else _NOBODY) + "\n")
            else:
                _screen(sampler, interval)
    except KeyboardInterrupt:
        pass
    return 0


def _pause(sampler: Sampler, spent: float, interval: float) -> float:
    """How long to wait after a look that took SPENT seconds of processor time in all."""
    return max(interval, (spent - sampler.reading_seconds) / FRAME_SHARE)


def _print_forever(sampler: Sampler, interval: float, form: Callable[[TopSample], str]) -> None:
    while True:
        before = time.process_time()
        text = form(sampler.sample())
        if text.startswith("{"):
            print(text, flush=True)
        else:
            print_text(text)
            sys.stdout.flush()
        time.sleep(_pause(sampler, time.process_time() - before, interval))


def _screen(sampler: Sampler, interval: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from cowfreeze.cli.top.table import tables

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # rich draws boxes as the encoding can; dashes are ours
    console = Console(highlight=False, markup=False, emoji=False)
    shown: Group | None = None
    try:
        # No thread refreshes the screen: nothing changes between two looks, and it would cost.
        with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
            while True:
                before = time.process_time()
                sample = sampler.sample()
                parts: list[Any] = [*tables(sample, console.width)] or [Text(_NOBODY)]
                shown = Group(*parts)
                live.update(Group(*parts, Text(f"\n{_footer(sampler, sample, interval)}")), refresh=True)
                time.sleep(_pause(sampler, time.process_time() - before, interval))
    finally:
        if shown is not None:
            console.print(shown)  # the alternate screen is gone now; leave the last figures


def _footer(sampler: Sampler, sample: TopSample, interval: float) -> str:
    wait = _pause(sampler, sample.seconds, interval)
    cost = "" if sample.cost is None else f"watching takes {sample.cost:.1%} of one processor, "
    return f"{cost}next look in {wait:.0f} s, Ctrl-C ends"


def _text(sample: TopSample) -> str:
    from cowfreeze._tables import render
    from cowfreeze.cli.top.table import tables

    return "\n\n".join(render(table, width=TEXT_WIDTH) for table in tables(sample, TEXT_WIDTH))


COMMAND = Command(
    name="top",
    summary="watch what the workers of a running process tree share",
    description=(
        "Shows the memory of a process tree: RSS, PSS, USS, swap, the shared part, what each worker copied\n"
        "since its fork, minor page faults per second, and the PSS of the whole tree. Only /proc is read, so the\n"
        "processes need not know of cowfreeze (gunicorn, Celery, uWSGI, multiprocessing, ...).\n"
        "\n"
        "copied              since the fork: a size, or a range where /proc cannot tell a copy from the original\n"
        "shared              resident memory that another process maps too\n"
        "frozen              what it, or the process that forked it, has frozen with cowfreeze\n"
        "age                 how old sizes and copied pages are: reading page tables is dear, and once the\n"
        "                    first look is paid for, watching takes at most 1 % of one processor\n"
        "exec:, ?            started a program of its own; may not be looked at\n"
        "unknown             the figure may not be read; a note says why and what would help\n"
        "\n"
        "Exit status: 0 shown (also when interrupted, or when the watched process ends), 1 nothing to show,\n"
        "2 wrong command line or no such process."
    ),
    epilog="example:\n  cowfreeze top -p $(pgrep -o gunicorn)\n  cowfreeze top --once --json > tree.json\n",
    add_arguments=_add_arguments,
    run=_run,
)
