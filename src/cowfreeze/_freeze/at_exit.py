"""The end of a process that froze, and of those forked from it: CPython's own, with a heap that does not die.

An ordinary exit of CPython stores None into every global of every module and, from 3.13 on, writes
to every interned string: pages that the worker shared until then. A frozen value does not die by
that, so `freeze` arranges that only what is mortal is torn down (csrc/exit/finish.c).
"""

from __future__ import annotations

import atexit
import os
import stat
import sys

from cowfreeze import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_prepared = False


def prepare_exit() -> None:
    """Let this process, and those forked from it, end as they would without a freeze.

    Called by `freeze`, before anything is marked: all that can fail. The process that froze last
    finishes what was there at the freeze; those forked from it finish what they make themselves.
    """
    global _prepared
    _core.prepare_finish()
    if not _prepared:
        atexit.register(_stand_in)
        _prepared = True


def flush_files(files: list[Any]) -> None:
    """Empty the buffers of FILES, which frozen objects hold: no worker inherits half a line of them.

    Files on disk only: writing to a pipe could wait for ever. Not the standard streams: every process
    flushes them at its end, and does so with what it inherited, with and without a freeze.
    """
    streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
    spared = {id(stream) for stream in streams} | {id(getattr(stream, "buffer", None)) for stream in streams}
    for file in files:
        try:
            if id(file) not in spared and file.writable() and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.flush()
        except Exception:
            pass  # it is closed, or its disk is full: who writes next is told


def _stand_in() -> None:
    """An atexit handler: leave an object where finalisation drops it first, after all handlers.

    Of the names that `finalize_modules` sets to None before it looks at modules, this is the last,
    and nobody calls it any more: it is for the start of an interactive session.
    """
    sys.__interactivehook__ = _core.ExitHook()
    # Behind everything else that is in sys.
    sys.cowfreeze_last = _core.LastFlush(sys.__stdout__, sys.__stderr__)  # type: ignore[attr-defined]
