"""What the integrations share: freeze now, or again before a later fork; say so once; never break the host.

    first call      warm up, freeze the whole heap, one line and the report's notes
    later calls     much is new     freeze it, at most MOST_FREEZES times: what is frozen is never freed
                    little is new   put it away: garbage is collected, the rest goes to the permanent
                                    generation of the collector, where a worker's collection does not write
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import cowfreeze
from cowfreeze import _support
from cowfreeze._errors import CowfreezeError
from cowfreeze._sizes import format_size
from cowfreeze.integrations._log import Say, tell, warn
from cowfreeze.integrations._settings import Settings

if TYPE_CHECKING:
    from cowfreeze import FreezeReport

WORTH_FREEZING = 10_000  # containers: fewer are not worth walking the heap again
WORTH_PUTTING_AWAY = 500
BLOCKS_EACH = 10  # so many blocks count as a container: the collector does not know dicts of strings before 3.14
MOST_FREEZES = 10

_tried_in = 0  # the process that has warmed up and tried to freeze
_frozen_in = 0  # the process that froze
_freezes = 0  # in it
_blocks = 0  # in use after its last freeze


def freeze_for(
    host: str,
    settings: Settings,
    *,
    info: Say | None = None,
    warning: Say | None = None,
    threads: str = "warn",
    app: object = None,
    wanted: int = 0,
) -> FreezeReport | None:
    """Freeze the whole heap for HOST, in the process that forks its workers; later, what is new.

    Args:
        host: the name in messages.
        settings: the user's.
        info, warning: the host's own ways to say a line.
        threads: as `freeze` takes it.
        app: the host's WSGI or ASGI application, for a warm-up by paths.
        wanted: freeze only if so many containers are new.

    Returns:
        The report; None if nothing was frozen. The host goes on: without the freeze its workers
        work, and copy.

    Raises:
        UnsupportedError: cowfreeze cannot work here, and COWFREEZE_REQUIRE is set.
    """
    global _tried_in, _frozen_in, _freezes, _blocks
    if not cowfreeze.supported:
        _support.refuse_if_required(host, cowfreeze.unsupported_reason)
        warn(f"{host}: nothing is frozen: {cowfreeze.unsupported_reason}", warning)
        return None
    again = _frozen_in == os.getpid()
    if again and not settings.refreeze:
        return None
    new = new_objects() if again or wanted else 0
    if again:
        wanted = wanted or WORTH_FREEZING
    if wanted and new < wanted and sys.getallocatedblocks() - _blocks < BLOCKS_EACH * wanted:
        if again and new >= WORTH_PUTTING_AWAY:
            put_away()
        return None
    if again and _freezes >= MOST_FREEZES:
        warn(
            f"{host}: there is new data before a fork, and it stays as it is after "
            f"{MOST_FREEZES} freezes: what is frozen is never freed, and data of one batch would pile up. Call "
            "cowfreeze.freeze() for what is to stay",
            warning,
        )
        put_away()
        return None
    # Once, also where the freeze was refused: a hook before each fork may come here again and again.
    warmup = None if _tried_in == os.getpid() else _warmup(host, settings, warning, app)
    _tried_in = os.getpid()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = cowfreeze.freeze(
                **{"threads": threads, "allow_forked": True, **settings.options},
                warmup=warmup,
                relocate_code=settings.relocate_code and not again,
            )
    except (CowfreezeError, MemoryError) as error:
        warn(f"{host}: nothing was frozen: {error}", warning)
        return None
    for one in caught:
        warn(f"{host}: {one.message}", warning)
    _freezes = _freezes + 1 if again else 1
    _frozen_in, _blocks = os.getpid(), sys.getallocatedblocks()
    tell(f"{one_line(report)} (process {os.getpid()})", info)
    for note in () if again else report.notes:  # said once
        tell(f"cowfreeze: {note}", info)
    return report


def _warmup(host: str, settings: Settings, warning: Say | None, app: object) -> Callable[[], object] | None:
    """The user's warm-up, which must not keep the host from starting."""
    try:
        function = settings.find_warmup(app)
    except CowfreezeError as error:
        warn(f"{host}: no warm-up: {error}", warning)
        return None
    if function is None:
        return None

    def warm_up() -> None:
        try:
            function()
        except Exception as error:
            warn(f"{host}: the warm-up raised {type(error).__name__}: {error}; what it had not done is cold", warning)

    return warm_up


def put_away() -> None:
    """Keep a worker's collections from writing to what is new, and keep no garbage for that."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def one_line(report: FreezeReport) -> str:
    """What a log shows of a freeze."""
    return (
        f"cowfreeze froze {report.objects:,} objects, {format_size(report.bytes)} on {report.pages:,} pages, "
        f"in {report.seconds:.2f} s"
    )


def new_objects() -> int:
    """How many containers the collector knows that were neither frozen nor put away. Only writes their counts."""
    return len(gc.get_objects())


def preload() -> list[str]:
    """Import the modules that COWFREEZE_PRELOAD names, separated by commas or spaces.

    Returns:
        One line for each that cannot be imported. The host goes on: its workers will say more.
    """
    return [
        f"cowfreeze: COWFREEZE_PRELOAD: {name} is not shared: {error}"
        for name, error in import_early(*os.environ.get("COWFREEZE_PRELOAD", "").replace(",", " ").split()).items()
    ]


def import_early(*names: str) -> dict[str, str]:
    """Import what the host, or a worker, would import after the freeze.

    Returns:
        Why, for each name that cannot be imported.
    """
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return failed
