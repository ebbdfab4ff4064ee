"""Freeze Python objects before fork, so that workers share their memory, and prove it.

    import cowfreeze

    report = cowfreeze.freeze(data)                       # before forking
    result = cowfreeze.fork_workers(serve, workers=4)
    result.assert_shared()                                # raises PagesCopied otherwise

Frozen objects are never freed.

Nothing is imported before it is used: what is loaded is what a worker may copy. Where cowfreeze cannot
work, `supported` is False, `unsupported_reason` a sentence, and the names below do no harm.
"""

from __future__ import annotations

import sys

from cowfreeze import _origin  # noqa: F401  # notes which process this is

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as _Any

    from cowfreeze._clone import clone, iter_clone
    from cowfreeze._errors import CowfreezeError, CowfreezeWarning, UnsupportedError, ZygoteFailed
    from cowfreeze._exit import fast_exit, fast_exit_guard
    from cowfreeze._explain.causes import Frame, PageCause
    from cowfreeze._explain.explanation import Explanation
    from cowfreeze._freeze.freeze import freeze, is_frozen
    from cowfreeze._freeze.report import FreezeReport
    from cowfreeze._freeze.status import Status, status
    from cowfreeze._pack import PackReport, pack, repair_packed
    from cowfreeze._system.private import private_bytes
    from cowfreeze._trap import Trap, TrappedWrite, trap
    from cowfreeze._workers.fork import assert_shared, fork_workers
    from cowfreeze._workers.report import PagesCopied, WorkerFailed, WorkerReport, WorkersResult
    from cowfreeze._zygote.zygote import Zygote

    supported: bool
    unsupported_reason: str

__version__ = "0.1.0.dev0"

__all__ = [
    "CowfreezeError",
    "CowfreezeWarning",
    "Explanation",
    "Frame",
    "FreezeReport",
    "PackReport",
    "PageCause",
    "PagesCopied",
    "Status",
    "Trap",
    "TrappedWrite",
    "UnsupportedError",
    "WorkerFailed",
    "WorkerReport",
    "WorkersResult",
    "Zygote",
    "ZygoteFailed",
    "assert_shared",
    "clone",
    "fast_exit",
    "fast_exit_guard",
    "fork_workers",
    "freeze",
    "is_frozen",
    "iter_clone",
    "pack",
    "private_bytes",
    "repair_packed",
    "status",
    "supported",
    "trap",
    "unsupported_reason",
]

# Where each name is defined.
_HOMES = {
    "clone": "_clone",
    "iter_clone": "_clone",
    "CowfreezeError": "_errors",
    "CowfreezeWarning": "_errors",
    "UnsupportedError": "_errors",
    "ZygoteFailed": "_errors",
    "fast_exit": "_exit",
    "fast_exit_guard": "_exit",
    "Frame": "_explain.causes",
    "PageCause": "_explain.causes",
    "Explanation": "_explain.explanation",
    "freeze": "_freeze.freeze",
    "is_frozen": "_freeze.freeze",
    "FreezeReport": "_freeze.report",
    "Status": "_freeze.status",
    "status": "_freeze.status",
    "PackReport": "_pack",
    "pack": "_pack",
    "repair_packed": "_pack",
    "private_bytes": "_system.private",
    "Trap": "_trap",
    "TrappedWrite": "_trap",
    "trap": "_trap",
    "assert_shared": "_workers.fork",
    "fork_workers": "_workers.fork",
    "PagesCopied": "_workers.report",
    "WorkerFailed": "_workers.report",
    "WorkerReport": "_workers.report",
    "WorkersResult": "_workers.report",
    "Zygote": "_zygote.zygote",
}
# What stands in for the C core where there is none; the rest needs none.
_STAND_INS = frozenset(
    "clone iter_clone freeze is_frozen FreezeReport status Status pack PackReport repair_packed trap assert_shared fork_workers".split()
)


def __getattr__(name: str) -> _Any:
    """Import what is asked for (PEP 562)."""
    if name in ("supported", "unsupported_reason"):
        from cowfreeze._support import why_not

        reason = why_not()
        globals().update(supported=not reason, unsupported_reason=reason)
        return globals()[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if name in _STAND_INS and not sys.modules[__name__].supported:
        home = "_unsupported"
    try:
        module = __import__(f"{__name__}.{home}", fromlist=(name,))
    except ImportError:
        if globals().get("supported", True):
            raise
        from cowfreeze import _unsupported as module  # no C core: what needs it is refused when it is called
    if home == "_freeze.freeze":
        # What workers call they shall not import, each for itself; but not for the sake of that what they import.
        for room, below in (("_clone", ("enum", "datetime")), ("_exit", ("threading", "signal", "contextlib"))):
            if all(other in sys.modules for other in below):
                __import__(f"{__name__}.{room}")
    if home.startswith(("_workers", "_trap")):
        # Much was loaded. Behind a freeze, workers would copy it, and the figures would be of that.
        put_away = getattr(sys.modules.get(f"{__name__}._freeze.freeze"), "put_away", None)
        if put_away is not None:
            put_away()
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
