"""Read-only copies in memory of their own: pack, PackReport."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cowfreeze import _core
from cowfreeze._errors import UnsupportedError
from cowfreeze._sizes import format_size

__all__ = ["PackReport", "pack", "repair_packed"]


@dataclasses.dataclass(frozen=True)
class PackReport:
    """What one call of ``pack`` did.

    Attributes:
        objects: objects made in packed memory.
        bytes: what they take there, headers and tables together.
        header_bytes: of objects and what lies inside of them: characters, digits, tuple items.
        table_bytes: of the tables of lists, dicts and large sets.
        source_bytes: what the objects that were copied take outside, each once.
        references: how often something stored before was used again instead of stored once
            more: shared containers, and equal strings and numbers that are met often.
        kept_strings: interned strings (most dict keys) that stayed the same objects.
        seconds: the whole call.
    """

    objects: int
    bytes: int
    header_bytes: int
    table_bytes: int
    source_bytes: int
    references: int
    kept_strings: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return (
            f"cowfreeze packed {self.objects:,} objects of {format_size(self.source_bytes)} into "
            f"{format_size(self.bytes)} in {self.seconds:.3f} s ({self.references:,} references to what "
            f"was stored before, {self.kept_strings:,} interned strings kept)"
        )


def pack(obj: Any, *, report: Callable[[PackReport], object] | None = None) -> Any:
    """An equal, read-only copy of plain data, in memory that forked workers share for good.

    The copy lies densely in a mapping of its own. Workers that read it copy none of its pages: on
    Python 3.12 and later because its objects are immortal, on 3.10 and 3.11, which count every
    reference in the object, because the counts lie in memory that all processes share. The time of
    a fork does not depend on its size. Packed memory is never freed.

    Packed are None, bool, int, float, complex, str, bytes, tuple, list, dict, set and frozenset;
    shared references and cycles are kept. Lists, dicts and sets become read-only ones: isinstance,
    ==, iteration, json, pickle, copy, match and ``**kw`` treat them as list, dict and set, and what
    would change them raises TypeError (``list.sort(p)`` and ``dict.__setitem__(p, k, v)`` too).
    ``type(p) is dict`` is false. ``copy.copy``, ``copy.deepcopy``, ``cowfreeze.clone`` and pickle
    give ordinary, mutable ones.

    Args:
        obj: the data. It is not changed, and may be dropped afterwards.
        report: called with the PackReport, for example ``report=print``.

    Returns:
        The copy.

    Raises:
        TypeError: a value of another type, with the path to it:
            ``data[17]['lock']: _thread.lock cannot be packed``.
        MemoryError: no memory, or a limit (address space, file size) forbids it.
        OSError: memfd_create is forbidden here (a seccomp filter).
        UnsupportedError: the tables of this CPython are not known, or a sub-interpreter.

    If it raises, nothing is left behind.
    """
    if not _core.is_main_interpreter():
        raise UnsupportedError(
            "cowfreeze.pack() was called in a sub-interpreter, where immortal objects of the main "
            "one are not expected. Call it in the main interpreter."
        )
    try:
        copy, figures = _core.pack(obj)
    except NotImplementedError as error:
        raise UnsupportedError(f"{error}. Use cowfreeze.freeze(), or report this build.") from None
    if report is not None:
        report(PackReport(bytes=figures["header_bytes"] + figures["table_bytes"], **figures))
    return copy


def repair_packed() -> int:
    """Restore packed lists and dicts that a C function has changed in shared memory.

    Only on Python 3.10 and 3.11, where processes share the headers of packed objects: C code that
    writes to a list or dict that it was given, without asking its type (``heapq.heappop(p)``,
    ``PyDict_DelItem``), may change the length in a header before the read-only table kills its
    process. A parent that sees a worker die of SIGSEGV or SIGABRT calls this before it goes on.

    Returns:
        How many headers were wrong; 0 on 3.12 and later, where such a write is the worker's own.
    """
    return _core.repair_packed()
