"""What every verb of the command line shares: its shape and its expected error."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NamedTuple

from cowfreeze._errors import CowfreezeError
from cowfreeze._tables import for_stdout

USAGE = 2  # exit status: the command line or its input is wrong
FAILURE = 1  # exit status: the input was right and the work failed


class Command(NamedTuple):
    """One verb: how it is called, explained and run."""

    name: str
    summary: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class CommandError(CowfreezeError):
    """An expected error of a verb: printed as one line, ends with `exit_code`."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """SIGTERM (a CI's time limit) and SIGHUP (a terminal that is gone) end the block as Ctrl-C does.

    So what it started is ended, what it measured is kept, and a terminal is as it was. What
    is ignored, as under nohup, stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # not in the main thread: somebody else's business
                    before[number] = signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def positive_int(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return number


def print_text(text: str) -> None:
    """Print TEXT to stdout, whatever its encoding can hold."""
    encoding = sys.stdout.encoding or "ascii"
    print(for_stdout(text).encode(encoding, "replace").decode(encoding))
