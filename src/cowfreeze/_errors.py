"""The exceptions and warnings of cowfreeze, but for those about a result: they stand with it.

A message says three things: what happened, why, and what to do about it. Wrong
arguments raise the built-in ``TypeError`` and ``ValueError``, also with the right
form in the text; a caller who catches those for other libraries catches ours.
"""

from __future__ import annotations


class CowfreezeError(Exception):
    """Base of all errors of cowfreeze.

    Attributes:
        exit_code: the status with which the command line ends when this error reaches it
            (2 is left to wrong usage, as argparse has it).
    """

    exit_code: int = 1


class UnsupportedError(CowfreezeError):
    """This platform, build or kernel lacks what was asked for."""

    exit_code = 3


class ZygoteFailed(CowfreezeError):
    """A zygote could not load, has died, or cannot do what was asked of it.

    Attributes:
        traceback: text of the traceback in the zygote's process, or None.
        signal: number of the signal that killed it, or None.
        status: its exit status, or None.
    """

    def __init__(
        self, message: str, *, traceback: str | None = None, signal: int | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.signal = signal
        self.status = status


class CowfreezeWarning(RuntimeWarning):
    """Something that works, but most likely not as intended."""
