"""Every exception and warning that cowfreeze raises by itself.

A message says three things: what happened, why, and what to do about it. Wrong
arguments raise the built-in ``TypeError`` and ``ValueError``, also with the right
form in the text; a caller who catches those for other libraries catches ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cowfreeze._report import WorkersResult


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


class _AboutResult(CowfreezeError):
    """An error about a finished run. It keeps the result, so that no figure is lost.

    Attributes:
        result: the result that was judged, or None.
    """

    def __init__(self, message: str, result: WorkersResult | None = None) -> None:
        # Only the message goes into args: unpickling calls the class with args and
        # restores `result` from __dict__ (pytest-xdist and process pools pickle errors).
        super().__init__(message)
        self.result = result


class PagesCopied(_AboutResult, AssertionError):
    """Workers copied more pages than the assertion allows, or it is unknown whether they did.

    It is an AssertionError, so that test runners count it as a failed test. Unknown
    figures raise it too: an assertion that passes on what nobody measured proves nothing.
    """


class WorkerFailed(_AboutResult):
    """A worker raised, exited, was killed or timed out, so there is no result to judge."""

    exit_code = 4


class CowfreezeWarning(RuntimeWarning):
    """Something that works, but most likely not as intended."""
