"""freeze(): make what workers will read immortal, before they are forked."""

from __future__ import annotations

import os
import time

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError
from cowfreeze._freeze.at_exit import flush_files, prepare_exit
from cowfreeze._freeze.checks import check_forked, check_interpreter, check_threads, look_at_layouts, refusal
from cowfreeze._freeze.move import prepare_move
from cowfreeze._freeze.report import FreezeReport
from cowfreeze._freeze.warm_up import warm_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

is_frozen = _core.is_frozen


class _Done:
    """What was frozen so far in this process, or in the one that it was forked from.

    The numbers stand in one buffer. Ints of their own, made behind a freeze, would lie beside what is loaded
    next, and the next freeze would make holes of them, which workers fill: a copied page of that data each.
    """

    __slots__ = ("_numbers", "report")

    def __init__(self) -> None:
        self._numbers = bytearray(5 * 8)
        self.report: FreezeReport | None = None

    def _number(self, i: int) -> int:
        return int.from_bytes(self._numbers[8 * i : 8 * i + 8], "little")

    def _set(self, i: int, number: int) -> None:
        self._numbers[8 * i : 8 * i + 8] = number.to_bytes(8, "little")

    freezes = property(lambda self: self._number(0))
    objects = property(lambda self: self._number(1))
    bytes = property(lambda self: self._number(2))
    pid = property(lambda self: self._number(3))
    at = property(lambda self: self._number(4) / 1e6)  # seconds

    def add(self, report: FreezeReport) -> None:
        """Count REPORT, and show the sum to who looks at this process from outside."""
        self._set(0, self.freezes + 1)
        self._set(1, self.objects + report.objects)
        self._set(2, self.bytes + report.bytes)
        self._set(3, os.getpid())
        self._set(4, int(time.time() * 1e6))
        self.report = report
        text = (
            f"cowfreeze frozen={self.objects} bytes={self.bytes} freezes={self.freezes} pid={self.pid} "
            f"at={self.at:.0f}"
        )
        _core.show_label(text.encode())


done = _Done()
# How the last freeze treated the heap beside frozen objects: bits of a small int, for the same reason.
_COLLECT, _GC_FREEZE, _SEAL = 1, 2, 4
_last: int | None = None  # None: nothing is frozen
_putting_away = False
_files: list[Any] = []  # met by a freeze; made once: a list that it leaves behind is what a worker takes next


def freeze(
    *roots: Any,
    collect: bool = True,
    gc_freeze: bool = True,
    seal: bool = True,
    skip: Iterable[type] = (),
    threads: str = "warn",
    allow_forked: bool = False,
    dry_run: bool = False,
    warmup: Callable[[], object] | None = None,
    relocate_code: bool = False,
    remap: bool = False,
    hugepages: bool = False,
    instance_dicts: bool = False,
    utf8: bool = False,
) -> FreezeReport:
    """Freeze every object that the roots reach, for good. Frozen objects are never freed.

    Call it in the parent, after loading and before forking. Workers that only read what was
    frozen then copy none of its pages, whatever they touch and whenever the collector runs.
    Without roots the whole heap is frozen: "boot is finished".

    With roots, modules, functions, code objects and types are marked, but not walked (one
    instance would otherwise drag the whole program in); a root itself is always opened.
    Frames, generators, greenlets, locks, files, sockets, tasks and memoryviews are left as they are and
    counted in the report. A second call handles what is new and writes to nothing that is
    frozen already. If it raises, no object has changed.

    Args:
        roots: objects of any type.
        collect: run a full garbage collection first, so that garbage is not made immortal.
        gc_freeze: move all other objects that the collector tracks to its permanent generation
            (``gc.freeze``), so that a collection in a worker does not write to neighbours. Before
            3.14 a freeze without roots takes out what is there already, to see it.
        seal: take free memory beside frozen objects out of use, in the interpreter's pools and
            in glibc's heap, so that a worker's first allocations do not land on frozen pages;
            without roots also stop counters that each new instance of a class writes. What it
            costs is reported as ``sealed_bytes`` and ``sealed_heap_bytes``.
        skip: types whose instances are to be left as they are, subclasses included.
        threads: what to do when other Python threads are running: "warn", "refuse" or "allow".
            A thread that changes the graph during the call cannot corrupt it, because the GIL
            is held, but what it does afterwards may write to frozen pages.
        allow_forked: do not warn in a process that was itself forked (a zygote, a fork server).
        dry_run: walk and count only (``warmup`` is called, and garbage collected, all the same). Before
            3.14 what ``gc.freeze`` has put away is counted only where something else leads to it.
        warmup: called without arguments before anything else happens (twice for
            ``relocate_code``): let it do what workers will do, each route or kind of job once or
            twice. Caches and inline caches that it fills are frozen full; else each worker fills
            its own. What it raises is raised, and nothing has changed.
        relocate_code: without roots: move code objects that have run, with ``warmup`` those that
            ran in its second call, onto pages of their own. Code that runs writes itself; scattered among
            frozen objects that is most of what a worker still copies. ``f.__code__`` is an equal
            object at another address afterwards. Nothing is moved while a tracer, a profiler, a
            debugger or coverage is active, and before 3.12; a note says so. On 3.12 only
            ``warmup`` shows what runs.
        remap: then move memory that holds frozen objects and little else to private mappings of
            memfds, which fork skips: a fork takes the same time at any size. Every address stays.
            Workers fault the pages in when they read them. From 3.12 on.
        hugepages: then put that memory on huge pages (MADV_COLLAPSE, Linux 6.1): forks get faster
            by a large factor, and no page is faulted in. Both must come before the first fork
            and exclude each other; see docs/internals/moving.md.
        instance_dicts: first make the ``__dict__`` of each instance that keeps its attributes without
            one. ``pickle``, ``copy.copy``, ``vars`` and ``obj.__dict__`` make it in each worker else, and
            write it into the instance. 64 bytes each, in the parent. Setting an attribute of such an
            instance takes two to five times as long afterwards; reading one takes longer on
            3.12, and on 3.14 and 3.15 in code that has not run before the freeze. Nothing before 3.12.
        utf8: first make the UTF-8 form of each str that is not ASCII. C and Rust extensions that ask
            for it (``PyUnicode_AsUTF8``) keep it in the str. Its length in UTF-8, each, in the
            parent. Nothing before 3.12.

    Returns:
        A FreezeReport.

    Raises:
        MemoryError: no memory for the book-keeping; nothing is frozen. What ``instance_dicts`` and ``utf8``
            have made by then stays.
        TypeError, ValueError: a wrong argument.
        Exception: whatever ``warmup`` raises.
        CowfreezeError: other threads are running and ``threads="refuse"``; ``remap`` or
            ``hugepages`` is not possible or not safe here (other threads, children that share the
            memory, locked memory, no memfd, no huge pages). What turns up only after objects were
            frozen (too many mappings, no memory half-way) is a note in the report instead.
        CowfreezeError: the collector is running (called by a finalizer, or by a callback of a weak
            reference or of ``gc.callbacks``).
        UnsupportedError: called in a sub-interpreter, or while there are such; ``remap`` on 3.10 or
            3.11.

    Source: PEP 683 (immortal objects); Include/refcount.h of each version.
    """
    global _last
    unwanted = tuple(skip)
    for kind in unwanted:
        if not isinstance(kind, type):
            raise TypeError(f"skip= takes types, not {kind!r}; use skip=(MyCache,)")
    if threads not in ("warn", "refuse", "allow"):
        raise ValueError(f'threads= takes "warn", "refuse" or "allow", not {threads!r}')
    if warmup is not None and not callable(warmup):
        raise TypeError(f"warmup= takes a function without arguments, not {warmup!r}")
    if relocate_code and roots:
        raise ValueError(
            "relocate_code=True moves the code of the whole program; call freeze() without roots"
        )
    check_interpreter()
    if remap or hugepages:
        prepare_move(remap, hugepages)  # before the warm-up, which may take long
    move, notes = warm_up(warmup, relocate=relocate_code)
    check_threads(threads)
    check_forked(allow_forked)
    notes += look_at_layouts()
    moved = prepare_move(remap, hugepages)
    if not dry_run:
        prepare_exit()
    counts = _core.FreezeCounts()
    notes = _notes_on_roots(roots) + notes
    report = FreezeReport(
        counts, whole_heap=not roots, dry_run=dry_run, sealed=seal and not dry_run, first_notes=notes, moved=moved,
        huge=hugepages,
    )  # fmt: skip
    treatment = (_COLLECT if collect else 0) | (_GC_FREEZE if gc_freeze else 0) | (_SEAL if seal else 0)
    # From here on nothing is allocated once objects have been marked. And no exception is caught: a handler
    # far inside of a long function has CPython make an int, for ever if there is no memory.
    _core.freeze_objects(
        roots, counts, report, _files, skip=unwanted, collect=collect, gc_freeze=gc_freeze, seal=seal, dry_run=dry_run,
        relocate=move, instance_dicts=instance_dicts, utf8=utf8,
    )  # fmt: skip
    if counts.refused:
        raise refusal(counts.refused)
    if not dry_run:
        _last = treatment
    try:
        if not dry_run and not _putting_away:
            done.add(report)
    except MemoryError:
        pass  # it is frozen: what raises now would say the opposite
    try:
        flush_files(_files)  # Ctrl-C may come meanwhile
    except MemoryError:
        pass
    finally:
        _files.clear()
    if moved is not None and not dry_run:
        moved.run(huge=hugepages)
    return report


def put_away() -> None:
    """After an import behind a freeze: treat what it made, and the holes that it left, as that freeze did.

    In the process that froze; a worker would copy what it treats. It is no freeze of the user's: not counted.
    """
    global _putting_away
    if _last is None or _core.is_inherited():
        return
    _putting_away = True
    try:
        freeze(
            (), threads="allow", allow_forked=True, collect=bool(_last & _COLLECT),
            gc_freeze=bool(_last & _GC_FREEZE), seal=bool(_last & _SEAL),
        )  # fmt: skip
    except (CowfreezeError, MemoryError):
        pass  # in a collection, beside an interpreter: figures are larger then, and nothing is wrong
    finally:
        _putting_away = False


def _notes_on_roots(roots: tuple[Any, ...]) -> tuple[str, ...]:
    notes = []
    for position, root in enumerate(roots):
        if root is None or isinstance(root, (bool, int)):
            notes.append(
                f"root {position + 1} is {root!r}: there is nothing behind it to freeze. "
                f"Was something else meant?"
            )
    return tuple(notes)
