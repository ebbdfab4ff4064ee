"""`cowfreeze zygote serve` and `run`: programs that start without their imports."""

from __future__ import annotations

import argparse

from cowfreeze.cli.command import USAGE, Command, CommandError

RUN_USAGE = "cowfreeze zygote run [--socket PATH] [-m MODULE | -c CODE | SCRIPT] [ARGUMENTS]"


def _names(text: str) -> list[str]:
    names = text.replace(",", " ").split()
    if not names or not all(part.isidentifier() for name in names for part in name.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r}: names of modules, separated by commas")
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(title="what to do", metavar="serve | run", required=True)
    serve = what.add_parser(
        "serve", help="load modules once, and fork programs from there",
        description="Loads modules, freezes, and waits for `cowfreeze zygote run`. SIGHUP loads again, SIGTERM ends it.",
    )  # fmt: skip
    serve.add_argument("--preload", type=_names, required=True, metavar="NAMES", help="modules to import, by commas")
    serve.add_argument("--socket", required=True, metavar="PATH", help="where the socket is made, for this user alone")
    serve.add_argument("--timeout", type=_seconds, metavar="S", help="seconds that loading may take")
    serve.set_defaults(what=_serve)
    run = what.add_parser(
        "run", help="what `python -m MODULE` does, by a fork of that process",
        usage=RUN_USAGE, add_help=True,
        description="Streams, signals, folder, environment and exit status are those of the program. Without a zygote of\n"
        "this user and this Python the program is started the ordinary way.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    run.add_argument("--socket", metavar="PATH", help="of the zygote (default: COWFREEZE_ZYGOTE_SOCKET)")
    run.add_argument("program", nargs=argparse.REMAINDER, help="as behind `python`")
    run.set_defaults(what=_run_program)


def _serve(arguments: argparse.Namespace) -> int:
    from cowfreeze._zygote.serve import Service

    service = Service(arguments.socket, arguments.preload, arguments.timeout)
    service.say()
    service.run()
    return 0


def _run_program(arguments: argparse.Namespace) -> int:
    """Reached without a program to run only: the rest takes a shorter way (cowfreeze_command)."""
    raise CommandError(f"zygote run: which program? {RUN_USAGE}", USAGE)


def _run(arguments: argparse.Namespace) -> int:
    status: int = arguments.what(arguments)
    return status


COMMAND = Command(
    name="zygote",
    summary="start programs without their imports",
    description=(
        "A process that has loaded what many programs import, and forks them: `cowfreeze zygote run -m pkg.runner` is\n"
        "`python -m pkg.runner` without the imports. What differs: modules that are loaded already, the hash seed, the\n"
        "parent process, and the controlling terminal (/dev/tty)."
    ),
    epilog=(
        "example:\n"
        "  cowfreeze zygote serve --preload pydantic,fastapi --socket /run/user/1000/runner.sock\n"
        "  cowfreeze zygote run --socket /run/user/1000/runner.sock -m pkg.runner --flag\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)
