"""Freeze Python objects before fork, so that workers share their memory, and prove it.

    import cowfreeze

    report = cowfreeze.freeze(data)                       # before forking
    result = cowfreeze.fork_workers(serve, workers=4)
    result.assert_shared()                                # raises PagesCopied otherwise

Frozen objects are never freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from cowfreeze._clone import clone, iter_clone
from cowfreeze._errors import (
    CowfreezeError,
    CowfreezeWarning,
    PagesCopied,
    UnsupportedError,
    WorkerFailed,
)
from cowfreeze._exit import fast_exit, fast_exit_guard
from cowfreeze._freeze import FreezeReport, freeze, is_frozen
from cowfreeze._pack import PackReport, pack, repair_packed

if _TYPE_CHECKING:
    from cowfreeze._explain import Explanation, PageCause
    from cowfreeze._report import WorkerReport, WorkersResult
    from cowfreeze._trap import Frame, Trap, TrappedWrite, trap
    from cowfreeze._workers import assert_shared, fork_workers

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


# What measures is imported when it is used, or by freeze(), which wants it frozen. A process that only
# packs forks faster without it: its modules, and the libraries that they load, are half as much memory
# again as the interpreter, and fork copies the page tables of all of it.
_LATER = {
    "Explanation": "_explain",
    "PageCause": "_explain",
    "WorkerReport": "_report",
    "WorkersResult": "_report",
    "Frame": "_trap",
    "Trap": "_trap",
    "TrappedWrite": "_trap",
    "trap": "_trap",
    "assert_shared": "_workers",
    "fork_workers": "_workers",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
