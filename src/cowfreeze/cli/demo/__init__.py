"""`cowfreeze demo`: the same data forked in three ways, side by side.

    this process ── python, way 1 ── 4 workers      plain fork
                 └─ python, way 2 ── 4 workers      gc.collect(), gc.freeze()
                 └─ python, way 3 ── 4 workers      cowfreeze.freeze(data)

One way after the other, so that they do not compete for memory and processors. All of them
run with the same hash seed: dicts get the same layout, and the workers' checksums prove that
every way read the same strings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cowfreeze.cli.command import (
    USAGE,
    Command,
    CommandError,
    ended_as_interrupted,
    positive_int,
    print_text,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowfreeze.cli.demo.result import DemoResult, WayResult

MAX_WORKERS = 64  # more than that measures the machine's patience, not the freeze

_PROGRAM = "cowfreeze.cli.demo.one_way:program"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="read this JSON file instead of the Unicode Character Database; without FILE: print one JSON object",
    )
    parser.add_argument(
        "--workers", type=positive_int, default=4, metavar="N", help="how many workers to fork (default: 4)"
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="print a table (default) or one JSON object"
    )


def _run(arguments: argparse.Namespace) -> int:
    from cowfreeze.cli.demo.result import table_text

    as_json = arguments.format == "json" or arguments.json is True  # --json alone: as with the other commands
    with ended_as_interrupted():
        result = run_demo(None if arguments.json is True else arguments.json, arguments.workers)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print_text(table_text(result))
    return 0


def run_demo(path: str | None = None, workers: int = 4) -> DemoResult:
    """Run all ways on the JSON file PATH (None: the Unicode Character Database).

    Raises CommandError with exit status 2 for a wrong argument or an unreadable file, 1 for
    anything that fails later (a worker, memory, ways that did not read the same data).
    """
    from cowfreeze.cli.demo.result import WAYS, DemoResult

    _check(path, workers)
    start = time.monotonic()
    rows: list[WayResult] = []
    with _progress() as say:
        for way in WAYS:
            rows.append(_run_way(way, path, workers, say))
    if len({row.content for row in rows}) != 1:
        raise CommandError("the three ways did not read the same data; the file must not change meanwhile")
    source = path if path is not None else _unicode_title()
    return DemoResult(source, workers, time.monotonic() - start, tuple(rows))


def _unicode_title() -> str:
    import unicodedata

    return f"Unicode Character Database {unicodedata.unidata_version}"


def _check(path: str | None, workers: int) -> None:
    """Find out before the work what would fail after it."""
    if workers > MAX_WORKERS:
        raise CommandError(f"--workers {workers} is too many; at most {MAX_WORKERS}", USAGE)
    if path is None:
        return
    if os.path.isdir(path):
        raise CommandError(f"cannot read {path}: it is a folder, not a JSON file", USAGE)
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}", USAGE) from error


def _run_way(way: str, path: str | None, workers: int, say: Callable[[str], None]) -> WayResult:
    """Run one way in a fresh interpreter and return its row; nothing of it survives an error."""
    from cowfreeze.bench.fresh_interpreter import run_room
    from cowfreeze.cli.demo.result import WayResult

    order = {"way": way, "json": path, "workers": workers}
    last, status = run_room(_PROGRAM, order, lambda message: say(f"{way}: {message['stage']}"))
    if "error" in last:
        raise CommandError(last["error"], last["exit_code"])
    if "row" not in last:
        raise CommandError(f"the way {way} ended without a result: {_ending(status)}")
    return WayResult.from_dict(last["row"])


def _ending(status: int) -> str:
    from cowfreeze.bench.fresh_interpreter import ending

    return ending(status, "use fewer workers (--workers)")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what goes on, on stderr: a spinner in a terminal, else lines."""
    if sys.stderr is None:
        yield lambda text: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(file=sys.stderr).status("starting") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: print(f"{text} ...", file=sys.stderr, flush=True)


COMMAND = Command(
    name="demo",
    summary="fork the same data in three ways and show what the workers copy",
    description=(
        "Builds the Unicode Character Database as 150,000 dicts (or reads your JSON file), forks workers that\n"
        "read every key and value, hash every string and run gc.collect(), and shows what they copied:\n"
        "with plain fork, with gc.freeze() and with cowfreeze.freeze(). Takes under a minute."
    ),
    epilog="example:\n  cowfreeze demo --workers 2 --json data.json --format json > result.json\n",
    add_arguments=_add_arguments,
    run=_run,
)
