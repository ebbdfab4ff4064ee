"""Read-only copies in memory of their own: pack, PackReport."""

from __future__ import annotations

import dataclasses
import enum
import time
import typing
from collections.abc import Callable
from typing import Any

from cowfreeze import _core
from cowfreeze._errors import UnsupportedError
from cowfreeze._freeze.at_exit import flush_files, prepare_exit
from cowfreeze._freeze.checks import look_at_layouts
from cowfreeze._freeze.report import FreezeReport
from cowfreeze._sizes import format_size

__all__ = ["PackReport", "pack", "repair_packed"]


_core.clone_init(enum.Enum, typing.Generic)  # csrc/copy, which clone and pack share; clone may not be loaded
_core.pack_init()

# What packed memory refers to without counting it. Packed memory is never freed, so this never is.
_kept: list[list[Any]] = []

# Sealing takes up to some hundred KiB of free blocks: a few objects are not worth it.
_WORTH_SEALING = 1000


@dataclasses.dataclass(frozen=True)
class PackReport:
    """What one call of ``pack`` did.

    Attributes:
        objects: objects made in packed memory.
        bytes: what they take there, headers and tables together.
        header_bytes: of objects and what lies inside of them: characters, digits, tuple items.
        table_bytes: of the tables of lists, dicts and large sets, and of the data of arrays.
        source_bytes: what the objects that were copied take outside, each once.
        references: how often something stored before was used again instead of stored once
            more: shared containers, and equal strings and numbers that are met often.
        kept_strings: interned strings (most dict keys) that stayed the same objects.
        outside_objects: ordinary objects that were made because packed memory cannot hold them.
        outside_bytes: what ``freeze`` found of them: objects, their dicts, what is referred to.
        referred_objects: classes, enum members, time zones and NaNs that stayed the same objects.
        seconds: the whole call.
        notes: what a reader should know, in sentences.
    """

    objects: int
    bytes: int
    header_bytes: int
    table_bytes: int
    source_bytes: int
    references: int
    kept_strings: int
    outside_objects: int
    outside_bytes: int
    referred_objects: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        outside = ""
        if self.outside_objects:
            outside = f", {self.outside_objects:,} objects outside of it ({format_size(self.outside_bytes)})"
        line = (
            f"cowfreeze packed {self.objects:,} objects of {format_size(self.source_bytes)} into "
            f"{format_size(self.bytes)} in {self.seconds:.3f} s{outside} ({self.references:,} references "
            f"to what was stored before, {self.kept_strings:,} interned strings kept)"
        )
        return "\n".join([line, *(f"  note: {note}" for note in self.notes)])


def pack(obj: Any, *, readonly: bool = True, report: Callable[[PackReport], object] | None = None) -> Any:
    """An equal, read-only copy of plain data, in memory that forked workers share for good.

    The copy lies densely in a mapping of its own. Workers that read it copy none of its pages: on
    Python 3.12 and later because its objects are immortal, on 3.10 and 3.11, which count every
    reference in the object, because the counts lie in memory that all processes share. The time of
    a fork does not depend on its size. Packed memory is never freed.

    Packed are None, bool, int, float, complex, str, bytes, range, tuple, named tuples, list, dict,
    set, frozenset, the types of datetime, Decimal, UUID and Fraction, instances of classes written in
    Python (dataclasses, slots), and arrays of numpy without references to objects. Shared
    references and cycles are kept. Classes, enum members and time zones other than
    ``datetime.timezone(...)`` are taken by reference, and frozen.

    Lists, dicts and sets become read-only ones: isinstance, ==, iteration, json, pickle, copy, match
    and ``**kw`` treat them as list, dict and set, and what would change them raises TypeError
    (``list.sort(p)`` and ``dict.__setitem__(p, k, v)`` too). ``type(p) is dict`` is false.
    ``copy.copy``, ``copy.deepcopy``, ``cowfreeze.clone`` and pickle give ordinary, mutable ones.

    Instances stay what their class makes them: their attributes can be set, by each process for
    itself. Those with a ``__dict__``, on 3.10 and 3.11 all of them, and the array objects (not
    their data) are ordinary objects outside of packed memory, frozen like ``freeze`` does it; the
    report counts them. On 3.10 and 3.11 workers that read such an object copy its page. A NaN that
    something else may know, or that is part of a key, is taken by reference too.

    Args:
        obj: the data. It is not changed, and may be dropped afterwards.
        readonly: False keeps exact, mutable lists, dicts and sets, as ordinary frozen objects
            outside of packed memory; strings, numbers and tuples are packed.
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
        copy, keeper, figures = _core.pack(obj, readonly=readonly)
    except NotImplementedError as error:
        raise UnsupportedError(f"{error}. Use cowfreeze.freeze(), or report this build.") from None
    notes: list[str] = []
    outside_bytes = 0
    if keeper is not None:
        start = time.perf_counter()
        outside_bytes = _freeze_keeper(keeper, figures["outside_objects"], notes)
        figures["seconds"] += time.perf_counter() - start
    if report is not None:
        total = figures["header_bytes"] + figures["table_bytes"]
        report(PackReport(bytes=total, outside_bytes=outside_bytes, notes=tuple(notes), **figures))
    return copy


def _freeze_keeper(keeper: list[Any], outside: int, notes: list[str]) -> int:
    """Keep alive what packed memory refers to, and freeze it. The bytes that were frozen."""
    counts = _core.FreezeCounts()
    files: list[Any] = []
    seal = outside >= _WORTH_SEALING
    frozen = False
    try:
        _kept.append(keeper)
        look_at_layouts()
        prepare_exit()
        report = FreezeReport(counts, whole_heap=False, dry_run=False, sealed=seal)
        # A worker that packs does not become the one that finishes what its parent's freeze left.
        _core.freeze_objects((keeper,), counts, report, files, seal=seal, takes_over=False)
        frozen = not counts.refused
        flush_files(files)
    except MemoryError:
        pass
    if not frozen:
        _core.keep_for_good(keeper)
        why = {
            "": "there was no memory to freeze",
            "collector": "pack() was called while the garbage collector is running, and could not freeze",
            "interpreters": "pack() was called while there are sub-interpreters, and could not freeze",
        }[counts.refused]
        notes.append(
            f"{why} what lies outside of packed memory: it is complete, but workers that read it copy its pages."
        )
        return 0
    if outside and not _core.HAS_IMMORTAL:
        notes.append(
            f"{outside:,} objects are ordinary ones outside of the shared mapping, because any process may "
            "write to them: instances of Python classes, array objects (their data are packed), and what "
            "readonly=False keeps mutable. Before CPython 3.12 a worker that reads such an object copies its "
            "page. Use tuples, named tuples or dicts, or CPython 3.12 or later."
        )
    return counts.bytes if outside else 0


def repair_packed() -> int:
    """Restore packed lists and dicts that a C function has changed in shared memory.

    Only on Python 3.10 and 3.11, where processes share the headers of packed objects: C code that
    writes to a list or dict that it was given, without asking its type (``PyList_Sort``,
    ``PyDict_DelItem``), may change the length in a header before the read-only table kills its
    process. A parent that sees a worker die of SIGSEGV or SIGABRT calls this before it goes on.

    Returns:
        How many headers were wrong; 0 on 3.12 and later, where such a write is the worker's own.
    """
    return _core.repair_packed()
