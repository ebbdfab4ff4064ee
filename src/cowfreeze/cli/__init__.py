"""The `cowfreeze` command: a parser built from a list of verbs, and one `main`.

Each verb stands in a file of its own and offers one `Command`. Importing this package
imports no verb's work: rich, psutil and the measuring code are loaded by the verb that
needs them, so that `cowfreeze --help` answers at once and so that a process that is about
to fork is not filled with modules it does not use.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import cowfreeze
from cowfreeze._errors import CowfreezeError, UnsupportedError
from cowfreeze.cli import audit, bench, completion, demo, doctor, run, top, zygote
from cowfreeze.cli.command import CommandError

COMMANDS = (
    demo.COMMAND, run.COMMAND, zygote.COMMAND, bench.COMMAND, bench.COMPARE, audit.COMMAND, top.COMMAND, doctor.COMMAND,
    completion.COMMAND,
)  # fmt: skip

_EPILOG = """\
example:
  cowfreeze demo                     four workers read the Unicode Character Database
  cowfreeze demo --json data.json    the same with your own data
  cowfreeze audit app:load app:work  what workers of your program copy, and why
  cowfreeze bench list               cases and modes that can be measured side by side
  cowfreeze run -- gunicorn --preload app:app    freeze before it forks, without a line of code
  cowfreeze zygote serve --preload pydantic --socket S    programs that start without their imports
  cowfreeze top                      what running workers share
  cowfreeze doctor -p 4242           what would spoil it
  source <(cowfreeze completion bash)

exit status:
  0 done, within limits if any were given; 1 it failed, and one line on stderr says why; 2 wrong command
  line or input; 130 interrupted. audit adds 4 and 10, doctor 10 and 20 (see their --help); run ends with
  the status of its program.

Results go to stdout, everything else to stderr. --json prints one object. NO_COLOR is respected.
"""


class _Version(argparse.Action):
    """Look the version up only when somebody asks: it reads files."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"cowfreeze {version('cowfreeze')} ({platform.python_implementation()} {platform.python_version()})")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser with one sub-parser per entry of `COMMANDS`."""
    parser = argparse.ArgumentParser(
        prog="cowfreeze",
        description="Freeze Python objects before fork so that workers share their memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    parser.set_defaults(parser=parser)  # `completion` describes it
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        verb = verbs.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(verb)
        verb.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ARGV (default: `sys.argv[1:]`) and return the exit status.

    0 is success, 1 a failure, 2 a wrong command line or an input that cannot be read, 130 an
    interrupt. An expected error is one line on stderr; a traceback means a defect.
    """
    try:
        return _run(argv)
    except CowfreezeError as error:
        _complain(f"cowfreeze: {error}")
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        _complain("cowfreeze: interrupted")
        return 130
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        # Verbs tell of files by name, so this is stdout: on a full disk, most often.
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        _drop_output()
        _complain(f"cowfreeze: the result cannot be written to standard output: {error.strerror}")
        return 1


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit:  # --help and --version have printed
        _flush()
        raise
    if sys.stdout is None and arguments.run not in (run.COMMAND.run, zygote.COMMAND.run):  # a program may do without
        raise CommandError("standard output is closed: the result has nowhere to go")
    # Both go on without a freeze where there can be none, and say so.
    if arguments.run not in (run.COMMAND.run, zygote.COMMAND.run) and not cowfreeze.supported:
        raise UnsupportedError(f"cowfreeze cannot work here: {cowfreeze.unsupported_reason}")
    status: int = arguments.run(arguments)
    _flush()
    return status


def _flush() -> None:
    """A reader that went away, or a full disk, must show here, not at interpreter exit."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """Python flushes stdout once more at exit and would print a second error there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(line: str) -> None:
    if sys.stderr is not None:
        print(line, file=sys.stderr)
