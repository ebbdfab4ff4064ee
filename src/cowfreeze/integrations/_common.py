"""What the integrations share: freeze now, say so in one line, and never break the host."""

from __future__ import annotations

import gc
import importlib
import os
import warnings
from collections.abc import Callable

from cowfreeze._errors import CowfreezeError, CowfreezeWarning
from cowfreeze._freeze.freeze import freeze
from cowfreeze._freeze.report import FreezeReport
from cowfreeze._sizes import format_size

# A freeze before a respawn walks the heap again; less than this is not worth it.
WORTH_FREEZING = 10_000


def freeze_for(host: str, say: Callable[[str], object], threads: str = "warn") -> FreezeReport | None:
    """Freeze the whole heap for HOST, in the process that forks its workers.

    Args:
        host: the name in messages.
        say: takes the one line of report.
        threads: as `freeze` takes it.

    Returns:
        The report; None if nothing was frozen, and then a CowfreezeWarning says why. The host goes
        on: without the freeze its workers work, and copy.
    """
    try:
        report = freeze(threads=threads, allow_forked=True)
    except (CowfreezeError, MemoryError) as error:
        warnings.warn(f"{host}: nothing was frozen: {error}", CowfreezeWarning, stacklevel=3)
        return None
    say(one_line(report))
    return report


def one_line(report: FreezeReport) -> str:
    """What a log shows of a freeze."""
    return (
        f"cowfreeze froze {report.objects:,} objects, {format_size(report.bytes)} on {report.pages:,} pages, "
        f"in {report.seconds:.2f} s"
    )


def new_objects() -> int:
    """How many containers the collector knows that were not frozen. Only writes their counts."""
    return len(gc.get_objects())


def preload() -> list[str]:
    """Import the modules that COWFREEZE_PRELOAD names, separated by commas or spaces.

    Returns:
        One line for each that cannot be imported. The host goes on: its workers will say more.
    """
    failed = []
    for name in os.environ.get("COWFREEZE_PRELOAD", "").replace(",", " ").split():
        try:
            importlib.import_module(name)
        except Exception as error:
            failed.append(f"cowfreeze: COWFREEZE_PRELOAD: {name} is not shared: {type(error).__name__}: {error}")
    return failed
