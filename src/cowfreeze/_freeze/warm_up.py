"""What freeze() does about free memory and about code, on the Python side: prepare, and explain."""

from __future__ import annotations

import sys

from cowfreeze import _core
from cowfreeze._sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TOOLS = 6  # sys.monitoring has tool ids 0 to 5 (PEP 669)


def who_watches_code() -> str | None:
    """Why code must stay where it is: a note that names who looks at it, or None.

    Tracers and coverage tools note code objects down by address, and instrument them in place.
    """
    watcher = None
    monitoring = getattr(sys, "monitoring", None)
    if sys.gettrace() is not None:
        watcher = "a trace function (sys.settrace: a debugger, coverage)"
    elif sys.getprofile() is not None:
        watcher = "a profile function (sys.setprofile)"
    elif monitoring is not None:
        for tool in range(_TOOLS):
            name = monitoring.get_tool(tool)
            if name is not None:
                watcher = f"the monitoring tool {name!r} (sys.monitoring)"
    if watcher is None:
        return None
    return f"code was not relocated: {watcher} is active."


def warm_up(warmup: Callable[[], object] | None, *, relocate: bool) -> tuple[bool, tuple[str, ...]]:
    """Call the warm-up, and find out whether code can be moved.

    To relocate, it is called twice: what runs the first time only (imports, caches being
    filled) need not move; what runs again is what workers run.

    Returns:
        Whether to move code, and notes.
    """
    refusal = _prepare(marks=warmup is not None) if relocate else None
    move = relocate and refusal is None
    if warmup is not None:
        warmup()
        if move:
            _core.mark_code()
            try:
                warmup()
            except BaseException:
                _core.forget_code()
                raise
            refusal = who_watches_code()
            move = refusal is None
    return move, () if refusal is None else (refusal,)


def _prepare(*, marks: bool) -> str | None:
    """See whether code can be moved.

    Args:
        marks: there is a warm-up that shows what runs.

    Returns:
        None, or the note that says why nothing will be moved.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    if not _core.HAS_RELOCATION:
        return f"code was not relocated: CPython {version} has no immortal objects (3.12 and later)."
    watcher = who_watches_code()
    if watcher is not None:
        return watcher
    if _core.HAS_RESUME_CHECK:
        import opcode

        specialized = opcode._specialized_opmap  # type: ignore[attr-defined]
        _core.set_resume_opcodes(opcode.opmap["RESUME"], specialized["RESUME_CHECK"])
    elif not marks:
        return (
            f"code was not relocated: the bytecode of CPython {version} does not show what has run. "
            f"Pass warmup=: what runs in it is moved."
        )
    return None


def heap_notes(counts: _core.FreezeCounts, *, sealed: bool) -> tuple[str, ...]:
    """What a person should know about free memory, counters and code after a freeze."""
    notes = []
    if sealed and not counts.pools_known and not (counts.in_malloc and counts.chunks_why is None):
        notes.append(
            "memory does not come from pymalloc (PYTHONMALLOC is set): "
            "free blocks in the interpreter's pools were not filled up, and the first allocations "
            "of a worker copy their pages."
        )
    if sealed and counts.chunks_why is not None:
        notes.append(
            f"free memory of the C library's heap was not filled up: {counts.chunks_why}. A "
            f"worker's allocations above 512 bytes copy pages beside frozen tables."
        )
    if sealed and not counts.counters_known:
        notes.append(
            "the counters of this CPython's key tables are not known: each new instance of a "
            "frozen class may write to the class's table."
        )
    if counts.relocated_codes:
        notes.append(
            f"{counts.relocated_codes:,} code objects were moved together "
            f"({format_size(counts.relocated_bytes)}): they are equal to the old ones and have "
            f"other addresses."
        )
    if counts.unmoved_codes:
        notes.append(
            f"{counts.unmoved_codes:,} code objects that run were not moved: a debugging tool "
            f"keeps data about them, or there are more than 64 MiB of them."
        )
    return tuple(notes)
