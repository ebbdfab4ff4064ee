"""Freeze Python objects before fork, so that workers share their memory, and prove it.

    import cowfreeze

    report = cowfreeze.freeze(data)                       # before forking
    result = cowfreeze.fork_workers(serve, workers=4)
    result.assert_shared()                                # raises PagesCopied otherwise

Frozen objects are never freed.
"""

from cowfreeze._clone import clone, iter_clone
from cowfreeze._errors import CowfreezeError, CowfreezeWarning, UnsupportedError
from cowfreeze._exit import fast_exit, fast_exit_guard
from cowfreeze._explain.causes import Frame, PageCause
from cowfreeze._explain.explanation import Explanation
from cowfreeze._freeze.freeze import freeze, is_frozen
from cowfreeze._freeze.report import FreezeReport
from cowfreeze._pack import PackReport, pack, repair_packed
from cowfreeze._trap import Trap, TrappedWrite, trap
from cowfreeze._workers.fork import assert_shared, fork_workers
from cowfreeze._workers.report import PagesCopied, WorkerFailed, WorkerReport, WorkersResult

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
    "Trap",
    "TrappedWrite",
    "UnsupportedError",
    "WorkerFailed",
    "WorkerReport",
    "WorkersResult",
    "assert_shared",
    "clone",
    "fast_exit",
    "fast_exit_guard",
    "fork_workers",
    "freeze",
    "is_frozen",
    "iter_clone",
    "pack",
    "repair_packed",
    "trap",
]
