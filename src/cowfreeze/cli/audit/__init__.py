"""`cowfreeze audit`: what workers copy of the data of a program, and why.

    check      names, files to write, matplotlib          before anything that takes long
    parent     data = make_data(); freeze(data)           in this process
    workers    work(data)  work(data)  ...                forked from it, audited and explained
    print      figures per worker, causes, advice; the page map

The program's own output goes to stderr: stdout holds the result and nothing else.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cowfreeze._errors import CowfreezeError
from cowfreeze.cli.command import FAILURE, USAGE, Command, positive_int, print_text

if TYPE_CHECKING:
    from cowfreeze.cli.audit.run import Audit, Limits

STATUS_ABOVE = 10
FREEZES = ("data", "heap", "none")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("make_data", metavar="pkg.mod:make_data", help="called without arguments in the parent; returns the data")
    parser.add_argument(
        "work", metavar="pkg.mod:work",
        help="called in each worker: work(data), or work(data, index) if it requires two arguments",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive_int, default=2, metavar="N", help="how many to fork (default: 2)")
    parser.add_argument(
        "--freeze", choices=FREEZES, default="data",
        help="what to freeze before the fork: what the data reaches (default), everything, or nothing",
    )  # fmt: skip
    parser.add_argument(
        "--trap", action="store_true",
        help="also note the line that wrote each page first (perf events, or memory protection where those are\n"
        "forbidden); the workers run slower, by some 5 to 15 microseconds per page",
    )  # fmt: skip
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="seconds that all workers together may take")
    parser.add_argument("--max-copied", type=_size, metavar="SIZE", help='what each worker may copy, as "256 KiB"')
    parser.add_argument(
        "--max-frozen", type=_count, metavar="PAGES", help="how many of these pages may hold frozen objects"
    )
    parser.add_argument("--top", type=positive_int, default=10, metavar="N", help="how many causes to print (default: 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write a map of the pages for a browser")
    parser.add_argument("--png", metavar="FILE", help="write it as an image (needs matplotlib)")
    parser.add_argument("--svg", metavar="FILE", help="likewise")


def _size(text: str) -> int:
    from cowfreeze._sizes import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _run(arguments: argparse.Namespace) -> int:
    from cowfreeze.cli.audit import run as running
    from cowfreeze.cli.audit.files import Pictures
    from cowfreeze.cli.audit.names import call_of, resolve

    limits = running.Limits(arguments.max_copied, arguments.max_frozen)
    with Pictures({form: getattr(arguments, form) for form in ("html", "png", "svg")}) as pictures:
        with running.output_to_stderr():
            make_data = resolve(arguments.make_data)
            work = resolve(arguments.work)
            arity = call_of(arguments.work, work)
            audit = running.run(
                running.Order(
                    arguments.make_data, make_data, arguments.work, work, arity, arguments.workers,
                    arguments.freeze, arguments.timeout, arguments.trap,
                )
            )  # fmt: skip
        status = STATUS_ABOVE if audit.above(limits) else 0
        failed: CowfreezeError | None = None
        written: list[str] = []
        try:
            written = pictures.write(audit.result)
        except CowfreezeError as error:  # the figures are not lost over a picture
            failed, status = error, FAILURE
    _print(audit, limits, arguments, written, status)
    if failed is not None:
        raise failed
    return status


def _print(audit: Audit, limits: Limits, arguments: argparse.Namespace, written: list[str], status: int) -> None:
    from cowfreeze.cli.audit.run import report, to_dict

    if not arguments.json:
        print_text(report(audit, limits, arguments.top, written))
        return
    import json

    command: dict[str, Any] = {
        "make_data": arguments.make_data,
        "work": arguments.work,
        "workers": arguments.workers,
        "freeze": arguments.freeze,
        "trap": arguments.trap,
        "max_copied": arguments.max_copied,
        "max_frozen": arguments.max_frozen,
    }
    print(json.dumps({"command": command, "exit_status": status, "files": written, **to_dict(audit, limits)}, indent=2))


COMMAND = Command(
    name="audit",
    summary="fork workers that run your code, show which pages they copy, which object was written and why",
    description=(
        "Calls make_data() in this process, freezes what it returns, forks workers, calls work(data) in each,\n"
        "and shows what every worker copied and the causes: type, field, path of the object, with advice.\n"
        "With --html, --png or --svg also a map of all inherited pages of the worker that copied most.\n"
        "\n"
        "Names are given as module:attribute (dots allowed in both), and the current folder is searched first.\n"
        "work takes the data, or the data and the worker's index (from 0) if it has two parameters without\n"
        "defaults. What the code prints goes to stderr.\n"
        "\n"
        "Exit status: 0 measured, and within --max-copied and --max-frozen if given; 10 above one of them, or\n"
        "the figure is unknown; 4 a worker raised, exited, was killed or took too long; 1 another failure;\n"
        f"{USAGE} wrong command line: a name that cannot be imported or called, a file that cannot be written."
    ),
    epilog=(
        "example:\n"
        "  cowfreeze audit shop.catalog:load shop.web:warm_request --workers 4 --html map.html\n"
        "  cowfreeze audit app:load app:work --freeze none              # what it is without freezing\n"
        '  cowfreeze audit app:load app:work --max-copied "1 MiB"       # in CI\n'
    ),
    add_arguments=_add_arguments,
    run=_run,
)
