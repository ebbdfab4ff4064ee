"""`cowfreeze run`: start an unchanged program; freeze in it before it forks its workers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import cowfreeze
from cowfreeze import _support
from cowfreeze.cli.command import USAGE, Command, CommandError

NOT_FOUND = 127  # what a shell exits with


def _when(text: str) -> str:
    from cowfreeze.integrations._before_fork import parse_when

    try:
        parse_when(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--when", type=_when, default="", metavar="WHEN",
        help="freeze before a fork only when this module is imported (import:NAME), or when at least so many "
        "containers were made since the last freeze (objects:N; default: objects:10000)",
    )  # fmt: skip
    parser.add_argument(
        "--warmup", metavar="WHAT",
        help="what workers will do, done once before the first freeze: module:function, or, under gunicorn, paths "
        "that are requested of the application without a network: /,/health",
    )  # fmt: skip
    parser.add_argument(
        "--relocate-code", action="store_true", help="move code that runs onto pages of its own: see cowfreeze.freeze"
    )
    parser.add_argument(
        "--no-refreeze", action="store_true", help="freeze once; what is new before later forks is not frozen"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the program and its arguments")


def environment(
    when: str, warmup: str | None = None, relocate_code: bool = False, refreeze: bool = True
) -> dict[str, str]:
    """The variables that arm a Python program; what is not asked for keeps the value it has."""
    variables = dict(os.environ)
    folder = str(Path(__file__).resolve().parent.parent / "integrations" / "_run_site")
    before = variables.get("PYTHONPATH")
    variables["PYTHONPATH"] = folder + (os.pathsep + before if before else "")
    variables["COWFREEZE_WHEN"] = when or variables.get("COWFREEZE_WHEN", "")
    if warmup is not None:
        variables["COWFREEZE_WARMUP"] = warmup
    if relocate_code:
        variables["COWFREEZE_RELOCATE_CODE"] = "1"
    if not refreeze:
        variables["COWFREEZE_REFREEZE"] = "0"
    return variables


def _run(arguments: argparse.Namespace) -> int:
    command: list[str] = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise CommandError("run: which program? For example: cowfreeze run -- gunicorn --preload app:app", USAGE)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would outlive exec
        signal.signal(number, signal.SIG_DFL)
    variables = dict(os.environ)
    if cowfreeze.supported:
        variables = environment(
            arguments.when, arguments.warmup, arguments.relocate_code, not arguments.no_refreeze
        )
    else:
        _support.refuse_if_required("run", cowfreeze.unsupported_reason)
        if sys.stderr is not None:
            print(f"cowfreeze run: nothing is frozen: {cowfreeze.unsupported_reason}", file=sys.stderr, flush=True)
    try:
        os.execvpe(command[0], command, variables)
    except OSError as error:
        raise CommandError(f"run: {command[0]} cannot be started: {error.strerror}", NOT_FOUND) from None


COMMAND = Command(
    name="run",
    summary="start a program that freezes before it forks its workers",
    description=(
        "Starts COMMAND with a hook that freezes the whole heap before the program forks its first worker, and\n"
        "what is new before later forks. The program is not changed; one line on stderr says what was frozen.\n"
        "\n"
        "It reaches every fork that Python makes (gunicorn --preload, Celery, multiprocessing with fork or\n"
        "forkserver, RQ), and programs of the same Python environment only. It does not reach fork() of C\n"
        "programs (uWSGI), nor interpreters started with -I or -E, which ignore PYTHONPATH."
    ),
    epilog=(
        "example:\n"
        "  cowfreeze run -- gunicorn --preload app:app\n"
        "  cowfreeze run --warmup /,/health --relocate-code -- gunicorn --preload app:app\n"
        "  cowfreeze run --when import:myapp.models -- python serve.py\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)
