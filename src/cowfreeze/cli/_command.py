"""What every verb of the command line shares: its shape and its expected error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

from cowfreeze._errors import CowfreezeError

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
    """Print TEXT to stdout; lines and dashes become ASCII where the encoding has no others."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate({ord("─"): "-", ord("–"): "-"}).encode(encoding, "replace").decode(encoding)
    print(text)
