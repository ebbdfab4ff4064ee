"""From workers that wait to their Explanations: gathers, asks _core, finds words.

    parent (here)                        witness             worker
    ---------------------------------    ----------------    -------------------------
    /proc/WITNESS/mem, /proc/WORKER/mem
    opened before the workers start
                                                             lists its copied pages while
                                                             it measures (_core.PageList)
    index of all objects of this process
    compare page by page         <-----  bytes of the fork   bytes of now
    repr and path of the examples

The parent went on since the fork, so its objects only say what lies where; what they held is
read from the witness, and an object whose type differs there does not count.
"""

from __future__ import annotations

import dataclasses
import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cowfreeze import _core
from cowfreeze._explain.advice import advice_for
from cowfreeze._explain.causes import SAME_BYTES, UNKNOWN, CauseExample, Frame, PageCause
from cowfreeze._explain.explanation import Explanation
from cowfreeze._explain.memory_map import Layout, read_layout
from cowfreeze._explain.paths import (
    Root,
    Steps,
    detail_text,
    path_text,
    roots_of_this_process,
    short_repr,
    type_name,
)
from cowfreeze._trap import failure_text, notes_of, why_text, write_of

# Kind, type and field of what is no object.
_PLACES = {
    "pool header": ("allocator", "pymalloc", "pool header"),
    "pool free": ("allocator", "pymalloc", "free block used"),
    "pool used": ("allocator", "pymalloc", "block in use"),
    "chunk header": ("allocator", "malloc", "chunk header"),
    "chunk free": ("allocator", "malloc", "free chunk used"),
    "chunk used": ("allocator", "malloc", "block in use"),
    "chunk top": ("allocator", "malloc", "end of the heap"),
    "chunk mapped": ("allocator", "malloc", "large block"),
    "chunk arena": ("allocator", "malloc", "arena of a thread"),
    "interpreter": ("interpreter", "interpreter", "state"),
    "frames": ("interpreter", "interpreter", "frames of functions"),
    "stack": ("stack", "stack", "stack"),
}


class Waiting(NamedTuple):
    """A worker that has measured and waits."""

    number: int
    pages: _core.PageList
    memory: int  # descriptor of its /proc/PID/mem
    copied: int  # what its records say
    collected: bool  # it ran a full collection, and the collector leaves nothing alone
    trapped: _core.TrapBuffer | None = None  # the first writes that its trap has seen
    trap_only_if_cheap: bool = False


def open_memory(pid: int) -> int:
    """A descriptor for reading the memory of PID. To be opened before the worker can change
    its user: the right is asked at the open only. Raises OSError."""
    return os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)


def explain_waiting(
    witness: _core.Witness,
    witness_memory: int,
    waiting: Sequence[Waiting],
    target: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    names: Sequence[tuple[str, Any]] = (),
) -> dict[int, Explanation]:
    """An Explanation for each of WAITING, by index. Raises RuntimeError, MemoryError.

    NAMES: objects that paths shall begin at, by name, before all others.
    """
    started = time.perf_counter()
    first = [Root(name, value) for name, value in names]
    named = [Root("target", target)]
    for worker in waiting:
        named += [
            Root(f"args[{worker.number}][{number}]", value)
            for number, value in enumerate(calls[worker.number])
        ]
    roots = first + roots_of_this_process(*named)
    found = _core.explain_pages(
        witness,
        witness_memory,
        tuple(
            (worker.pages, worker.memory, worker.collected, worker.trapped) for worker in waiting
        ),
        tuple(root.object for root in roots),
    )
    layout, why = _layout_of(witness, witness_memory)
    made: dict[int, Explanation] = {}
    for worker, raw in zip(waiting, found):
        made[worker.number] = _explanation(worker, raw, roots, started, layout, why)
    return made


def _layout_of(witness: _core.Witness, memory: int) -> tuple[Layout | None, str]:
    """What lay where at the fork, or why it is unknown."""
    try:
        return read_layout(witness.pid, memory), ""
    except OSError as error:
        return None, f"there is no map of the pages: the witness's mappings may not be read ({error})"


def unexplained(index: int, why: str) -> Explanation:
    """For a worker whose pages could not be looked at."""
    return Explanation(
        worker=index, pages=0, unlisted=0, object_pages=0, allocator_pages=0, system_pages=0,
        unknown_pages=0, causes=(), top=20, objects=0, seconds=0.0,
        page_size=os.sysconf("SC_PAGE_SIZE"), notes=(why,),
    )  # fmt: skip


def _explanation(
    worker: Waiting,
    raw: dict[str, Any],
    roots: list[Root],
    started: float,
    layout: Layout | None,
    no_layout: str,
) -> Explanation:
    pages = array("Q", raw["pages"])
    main = array("I", raw["main"])
    unlisted = max(0, worker.copied - len(pages))
    notes = [no_layout] if no_layout else []
    owners, owner_of = _owner_texts(raw["owners"])
    if unlisted:
        notes.append(
            f"{unlisted:,} copied pages were not looked at: there was no room for more "
            "addresses, or they were unmapped meanwhile"
        )
    if raw["overflow"]:
        notes.append("there were more objects than the index has room for")
    ranks = raw["ranks"]
    steps = Steps(
        example["path"][1]
        for cause in raw["causes"]
        for example in cause["examples"]
        if example["path"] is not None
    )
    causes = [_cause(cause, roots, steps) for cause in raw["causes"]]
    if worker.trapped is not None:
        causes = _with_lines(causes, raw["writes"], worker.trapped)
        notes += _trap_notes(worker.trapped, worker.trap_only_if_cheap)
    if any(cause.field == "unreadable" for cause in causes):
        notes.append(
            "pages that are \"unreadable\" could not be read from the worker or the witness: "
            "unmapped by the worker, or it has ended"
        )
    causes, main = _merge(causes, main)
    return Explanation(
        worker=worker.number,
        pages=len(pages),
        unlisted=unlisted,
        object_pages=ranks["object"],
        allocator_pages=ranks["allocator"],
        system_pages=ranks["system"],
        unknown_pages=ranks["unknown"],
        causes=tuple(causes),
        top=20,
        objects=raw["objects"],
        seconds=time.perf_counter() - started,
        page_size=os.sysconf("SC_PAGE_SIZE"),
        notes=tuple(notes),
        addresses=pages,
        main=main,
        owners=owners,
        owner_of=owner_of,
        layout=layout,
    )


def _owner_texts(objects: list[Any]) -> tuple[tuple[str, ...], array[int]]:
    """Texts for OBJECTS, each once, and which one each object has; 0 is for None."""
    position = {"": 0}
    which = array("I")
    names: dict[type, str] = {}
    for value in objects:
        text = ""
        if value is not None:
            kind = type(value)
            name = names.get(kind) or names.setdefault(kind, type_name(kind))
            text = f"{name}: {short_repr(value)}"
        which.append(position.setdefault(text, len(position)))
    return tuple(position), which


def _with_lines(
    causes: list[PageCause], writes: list[tuple[int, int]], trapped: _core.TrapBuffer
) -> list[PageCause]:
    """Add to each cause the stack from which most of its pages were written first.

    WRITES: pairs of a write's number in TRAPPED and of its cause's position.
    """
    stacks: dict[int, dict[tuple[Frame, ...], int]] = {}
    pages: dict[int, tuple[Frame, ...]] = {}
    for number, position in writes:
        write = write_of(trapped, number)
        if write.stack:
            pages[write.page] = write.stack
            counts = stacks.setdefault(position, {})
            counts[write.stack] = counts.get(write.stack, 0) + 1
    lines = []
    mask = ~(os.sysconf("SC_PAGE_SIZE") - 1)
    for position, cause in enumerate(causes):
        first = [pages.get(example.address & mask, ()) for example in cause.examples]
        counts = stacks.get(position, {})
        stack = max(counts, key=lambda stack: counts[stack]) if counts else next(iter(first), ())
        examples = tuple(
            dataclasses.replace(example, line=str(stack[0])) if stack else example
            for example, stack in zip(cause.examples, first)
        )
        line = str(stack[0]) if stack else None
        lines.append(dataclasses.replace(cause, line=line, stack=stack, examples=examples))
    return lines


def _trap_notes(trapped: _core.TrapBuffer, only_if_cheap: bool) -> list[str]:
    """Why lines are missing, if they are."""
    figures = trapped.figures
    if figures["state"] == "ran":
        said = [] if figures["backend"] == "perf" else [f"lines come from {why_text(figures)}"]
        return said + notes_of(figures, True)
    why = failure_text(trapped, "perf" if only_if_cheap else None)
    hint = "; fork_workers(..., trap=True) write-protects frozen pages instead" if only_if_cheap else ""
    return [f"which lines wrote is unknown: {why}{hint}"]


def _merge(causes: list[PageCause], main: array[int]) -> tuple[list[PageCause], array[int]]:
    """Sort by pages, and let MAIN follow."""
    order = sorted(range(len(causes)), key=lambda i: (-causes[i].pages, -causes[i].words))
    position = [0] * len(causes)
    for place, i in enumerate(order):
        position[i] = place
    return [causes[i] for i in order], array("I", map(position.__getitem__, main))


def _cause(raw: dict[str, Any], roots: list[Root], steps: Steps) -> PageCause:
    kind, type_, field = _names(raw)
    examples = tuple(sorted(_examples(raw, roots, steps), key=_best_first))
    first = examples[0] if examples else None
    return PageCause(
        kind=kind,
        type=type_,
        field=field,
        same_bytes=raw["change"] == "same bytes",
        pages=raw["pages"],
        alone=raw["alone"],
        words=raw["words"],
        owner=first.owner if first else None,
        path=first.path if first else None,
        detail=first.detail if first else None,
        advice=advice_for(type_, field, raw["change"] == "same bytes"),
        examples=examples,
    )


def _best_first(example: CauseExample) -> tuple[int, bool, int]:
    """Most written first; among equals one with a path, and a short one."""
    return (-example.words, example.path is None, len(example.path or ""))


def _names(raw: dict[str, Any]) -> tuple[str, str, str]:
    if raw["change"] == "unreadable":
        return UNKNOWN, UNKNOWN, "unreadable"
    if raw["place"] == "free list":
        kind, type_, field = "allocator", type_name(raw["type"]), "free list"
    elif raw["type"] is not None:
        kind, type_, field = "object", type_name(raw["type"]), raw["field"]
    elif raw["place"] == "library":
        name = (raw["library"] or "C library").rpartition("/")[2]
        kind, type_, field = "library", name, "C variables"
        if raw["library"] is None:
            field = "thread-local data"
    else:
        kind, type_, field = _PLACES.get(raw["place"], (UNKNOWN, UNKNOWN, "memory of no known owner"))
    if raw["change"] == "same bytes" and raw["field"] == "none":
        field = SAME_BYTES
    return kind, type_, field


def _examples(
    raw: dict[str, Any], roots: list[Root], steps: Steps
) -> Iterator[CauseExample]:
    for example in raw["examples"]:
        owner = path = detail = None
        if example["is_object"]:
            value = example["object"]
            owner = short_repr(value)
            detail = detail_text(value, raw["field"], example["offset"], example["in_body"])
            if example["path"] is not None:
                number, chain = example["path"]
                path = path_text(roots, number, chain, steps)
        elif example["symbol"]:
            owner = example["symbol"]
        yield CauseExample(owner, path, detail, example["address"], example["words"])
