"""trap(): which thread and line writes a frozen page first, and what was there before.

    with cowfreeze.trap() as trapped:     in a worker
        serve()
    print(trapped)

     page      0x7f32c0a41000   written by thread 8109 at app.py:12 in handle
     word      0x7f32c0a41270   was 0x2
     owner     list, list contents: config['hosts'], found afterwards

The C part notes writes in a signal handler (csrc/trap/trap.c); everything here comes after the end
of the block. Owners are looked for in this process as it is then, so what was freed within the
block has none.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError
from cowfreeze._explain.causes import Frame
from cowfreeze._explain.paths import (
    Root,
    Steps,
    detail_text,
    path_text,
    roots_of_this_process,
    short_repr,
    type_name,
)
from cowfreeze._sizes import check_count
from cowfreeze._tables import Table, render

if TYPE_CHECKING:
    from rich.console import RenderableType

_PAGES = ("frozen", "all")
_BACKENDS = {None: 0, "perf": 1, "mprotect": 2}
_FEW_UNSEEN = 16  # page faults of the handler itself are not told apart
_ROWS = 30

_NO_STACK = {
    "longer": "there are more frames; the innermost are kept",
    "no thread": "no Python function ran in the thread",
    "layout": "the frames of this interpreter are not laid out as expected",
    "unreadable": "a frame did not hold what it should",
    "codes full": "more functions than there is room for",
}


@dataclasses.dataclass(frozen=True)
class TrappedWrite:
    """The first write to one page.

    Attributes:
        thread: id of the thread in the kernel (``threading.get_native_id()``).
        page, address: of the page, and of the written word (8 bytes) in it.
        old_value: that word before the write, as an unsigned number.
        type, field, owner, path, detail: of the object that the word belongs to, as in
            PageCause; None when it is no object's, or was not looked for.
        stack: the Python functions that ran, innermost first.
        stack_note: why the stack is empty or not complete; None when it is complete.
    """

    thread: int
    page: int
    address: int
    old_value: int
    type: str | None
    field: str | None
    owner: str | None
    path: str | None
    detail: str | None
    stack: tuple[Frame, ...]
    stack_note: str | None

    @property
    def line(self) -> str | None:
        """The innermost frame in one text, ``app.py:12 in handle``; None if it is unknown."""
        return str(self.stack[0]) if self.stack else None

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        values = dataclasses.asdict(self)
        values["stack"] = [frame._asdict() for frame in self.stack]
        values["line"] = self.line
        return values


class Trap:
    """A trap and what it has seen; a table when printed. Made by trap().

    Attributes:
        writes: the first write to each page, in their order. While the trap runs: those so
            far, without owners.
        backend: "perf" or "mprotect"; None before the block.
        why: why it is that one, a sentence.
        pages: how many pages are watched.
        lost: writes for which there was no room.
        unseen: page faults of which no signal came, because the thread blocked SIGTRAP or
            because the handler itself caused them; None when unknown. Only perf has them.
        given_up: pages that were opened unseen because the kernel had no mappings left.
        notes: what a reader must know, one sentence each.
    """

    def __init__(self, pages: str, backend: str | None, room: int, owners: bool) -> None:
        self._everything = pages == "all"
        self._wanted = backend
        self._owners = owners
        self._buffer = _core.TrapBuffer(room)
        self._room = room
        self._done: tuple[TrappedWrite, ...] | None = None
        self._owner_note: str | None = None

    def __enter__(self) -> Trap:
        self._done = None
        if not (self._buffer.prepare(self._everything, _BACKENDS[self._wanted]) and self._buffer.arm()):
            raise CowfreezeError(failure_text(self._buffer, self._wanted))
        return self

    def __exit__(self, *error: object) -> None:
        self._buffer.disarm()  # before anything else: it would be among the writes
        if self._buffer.figures["pid"] != os.getpid():
            return  # a forked child leaves its parent's block: the trap is the parent's
        writes = list(writes_of(self._buffer))
        if self._owners and writes:
            try:
                writes = _with_owners(writes)
            except (MemoryError, RuntimeError) as failure:
                self._owner_note = f"owners are unknown: {failure}"
        self._done = tuple(writes)

    @property
    def writes(self) -> tuple[TrappedWrite, ...]:
        return tuple(writes_of(self._buffer)) if self._done is None else self._done

    @property
    def backend(self) -> str | None:
        backend: str | None = self._buffer.figures["backend"]
        return backend

    @property
    def why(self) -> str:
        return why_text(self._buffer.figures)

    @property
    def pages(self) -> int:
        return int(self._buffer.figures["watched"])

    @property
    def lost(self) -> int:
        return int(self._buffer.figures["lost"])

    @property
    def unseen(self) -> int | None:
        unseen: int | None = self._buffer.figures["unseen"]
        return unseen

    @property
    def given_up(self) -> int:
        return int(self._buffer.figures["given_up"])

    @property
    def notes(self) -> tuple[str, ...]:
        notes = [self.why, *notes_of(self._buffer.figures, self._everything)]
        if self._owner_note is not None:
            notes.append(self._owner_note)
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        names = ("backend", "why", "pages", "lost", "unseen", "given_up")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        values["notes"] = list(self.notes)
        values["writes"] = [write.to_dict() for write in self.writes]
        return values

    def _table(self) -> Table:
        writes = self.writes
        rows = []
        for write in writes[:_ROWS]:
            what = "no known object" if write.type is None else f"{write.type}: {write.field}"
            parts = [part for part in (write.path, write.owner, write.detail) if part]
            at = [f"    {frame}" for frame in write.stack[:3]]
            if not write.stack:
                at = [f"    line unknown: {write.stack_note}"]
            text = "\n".join([what + (f": {', '.join(parts)}" if parts else ""), *at])
            rows.append((text, f"{write.address:#x}", f"{write.old_value:#x}", str(write.thread)))
        title = f"{len(writes):,} of {self.pages:,} watched pages were written ({self.backend})"
        notes = list(self.notes)
        if len(writes) > _ROWS:
            notes.insert(0, f"{len(writes) - _ROWS:,} more writes are in .writes")
        columns = ("what was written first on a page, and where from", "word", "was", "thread")
        return Table(title, columns, rows, notes)

    def __str__(self) -> str:
        return render(self._table())

    def __rich__(self) -> RenderableType:
        return self._table().__rich__()


def trap(
    *, pages: str = "frozen", backend: str | None = None, room: int = 65536, owners: bool = True
) -> Trap:
    """Note who writes each frozen page first, while a ``with`` block runs.

    For a worker, a test or a debugger's hand: one write costs some microseconds, reading costs
    nothing. Two ways to see a write:

    * "perf": the kernel reports page faults as a signal (Linux 5.18, perf_event_paranoid at most
      2, no seccomp filter against it). It sees writes that copy a page, that is, of pages that
      are shared with another process at that moment.
    * "mprotect": the pages are write-protected, and the fault is caught (SIGSEGV). It sees every
      first write, works everywhere, and has limits: a system call that stores into such a page
      fails with EFAULT, and scattered writes use up the process's mappings (vm.max_map_count).

    One trap can run in a process. A child that is forked within the block is not watched.
    faulthandler keeps working if it is enabled before the block.

    Args:
        pages: "frozen", the pages that hold frozen objects; or "all", every page that the
            process has at the start (perf only; otherwise the frozen ones are watched).
        backend: "perf" or "mprotect"; None takes perf where it is allowed.
        room: for how many writes; 128 bytes each once they happen.
        owners: look for the objects that the written words belong to, at the end of the block:
            walks over all objects of the process, about a second per million.

    Returns:
        A context manager; ``with cowfreeze.trap() as trapped:`` gives the Trap.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
        CowfreezeError: on entering the block, when no trap can run: nothing is frozen, another
            trap runs, the wanted backend is not allowed, no mappings are left. Nothing has
            changed then.
    """
    if pages not in _PAGES:
        raise ValueError(f"pages={pages!r} is not one of {', '.join(map(repr, _PAGES))}")
    if backend not in _BACKENDS:
        raise ValueError(f"backend={backend!r} is not one of 'perf', 'mprotect' or None")
    return Trap(pages, backend, check_count(room, "room", least=1), owners)


# --- of a buffer ----------------------------------------------------------------------


def writes_of(buffer: _core.TrapBuffer) -> Iterable[TrappedWrite]:
    """What BUFFER holds, without owners."""
    for number in range(buffer.figures["writes"]):
        yield write_of(buffer, number)


def write_of(buffer: _core.TrapBuffer, number: int) -> TrappedWrite:
    thread, address, old_value, frames, end = buffer.write(number)
    return TrappedWrite(
        thread, address & ~(os.sysconf("SC_PAGE_SIZE") - 1), address, old_value,
        None, None, None, None, None, tuple(Frame(*frame) for frame in frames),
        None if end is None else _NO_STACK[end],
    )  # fmt: skip


def why_text(figures: dict[str, Any]) -> str:
    """Which backend, and why that one."""
    if figures["backend"] is None:
        return "the trap has not run"
    if figures["why"] == "perf":
        return "perf: page-fault events are allowed here; writes that copy a page are seen"
    if figures["why"] == "asked":
        return "mprotect: it was asked for"
    return f"mprotect: {_no_perf(figures)}"


def _no_perf(figures: dict[str, Any]) -> str:
    if figures["why"] == "silent":
        return "perf events can be made here, but no signal arrives from them"
    number = figures["error"]
    if number == errno.ENOTSUP:
        return "perf needs Linux 5.18"
    hint = ""
    if number in (errno.EACCES, errno.EPERM):
        hint = "; kernel.perf_event_paranoid must be at most 2, and no seccomp filter in the way"
    return f"perf events are not to be had ({os.strerror(number)}{hint})"


def notes_of(figures: dict[str, Any], everything: bool) -> list[str]:
    """What a reader of a trap's writes must know."""
    notes = []
    if figures["backend"] == "mprotect" and everything:
        notes.append(
            "only pages with frozen objects were watched: protecting all would break system calls"
        )
    if figures["backend"] == "perf" and figures["exclusive"] and not everything:
        if figures["exclusive"] * 2 > figures["watched"]:
            notes.append(
                f"{figures['exclusive']:,} of {figures['watched']:,} watched pages belonged to this "
                "process alone: writing to them copies nothing, and perf does not see it. "
                "backend='mprotect' does"
            )
    if figures["lost"]:
        notes.append(f"{figures['lost']:,} writes were lost: there was room for {figures['writes']:,}")
    if figures["unseen"] is None:
        notes.append("how many page faults were missed is unknown: the perf events were closed")
    elif figures["unseen"] > _FEW_UNSEEN:
        notes.append(
            f"{figures['unseen']:,} page faults, of any page, came without a signal: threads "
            "blocked SIGTRAP"
        )
    if figures["given_up"]:
        notes.append(
            f"{figures['given_up']:,} pages were not watched to the end: the process had as many "
            "mappings as vm.max_map_count allows, and they were opened to let it go on"
        )
    return notes


def failure_text(buffer: _core.TrapBuffer, wanted: str | None = None) -> str:
    """Why a trap could not be prepared or armed."""
    figures = buffer.figures
    number = buffer.failure
    if number == errno.EBUSY or (number == 0 and _core.trap_is_armed()):
        return "a trap runs in this process already: one at a time"
    if number == errno.ENODATA:
        return "nothing is frozen, so there is no page to watch: call cowfreeze.freeze() first"
    if number == errno.EOPNOTSUPP:
        return f"backend={wanted!r} is not possible: {_no_perf(figures)}"
    if number == errno.ENOMEM:
        return (
            "no trap could be set: the process has as many mappings as vm.max_map_count allows, "
            "or no memory is left. Nothing is protected. Raise it "
            "(sysctl vm.max_map_count=262144), or use backend='perf'"
        )
    return f"no trap could be set: {os.strerror(number)}"


def _with_owners(writes: list[TrappedWrite]) -> list[TrappedWrite]:
    roots = roots_of_this_process()
    found, paths = _core.find_owners(
        [write.address for write in writes], tuple(root.object for root in roots)
    )
    steps = Steps(chain for _, chain in paths.values())
    return [_with_owner(write, found.get(write.address), paths, roots, steps) for write in writes]


def _with_owner(
    write: TrappedWrite,
    found: tuple[Any, str, int, bool] | None,
    paths: dict[int, tuple[int | None, list[Any]]],
    roots: list[Root],
    steps: Steps,
) -> TrappedWrite:
    if found is None:
        return write
    owner, field, offset, in_body = found
    way = paths.get(id(owner))
    return dataclasses.replace(
        write,
        type=type_name(type(owner)),
        field=field,
        owner=short_repr(owner),
        path=None if way is None else path_text(roots, *way, steps),
        detail=detail_text(owner, field, offset, in_body),
    )
