"""What a case is: data of a given size, and what a worker does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cowfreeze.bench.cases.reader import Content, visit
from cowfreeze.bench.modes.serialized import SerializedList

DATA = "cowfreeze.bench.one_run:program"  # build, apply, fork workers, measure
GIB = 1 << 30


def deep(view: Any) -> Content:
    """Read everything and hash every string; of a SerializedList, element by element."""
    if type(view) is SerializedList:
        containers, strings, others, checksum = visit(iter(view))
        return containers + 1, strings, others, checksum  # the list itself
    return visit(iter((view,)))


def untouched(view: Any) -> Content:
    """An idle worker: only what the fork and the exit write counts."""
    return 0, 0, 0, 0


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        unit: what its size counts.
        default_size: elements in an ordinary run.
        bytes_each: bytes that one element takes at most, with all it refers to (measured).
        build: makes the data of a size.
        read: what each worker does with it; None: the case has a program of its own.
        workers: how many by default; None: as the command line says.
        exits: how many children are ended by SIGTERM to see what their exit copies;
            None: one per worker.
        modes: which modes make sense; None: all. The others are rows with `why_not`.
        program: "module:function" that runs in the room.
        missing: why the case cannot be run here, or None.
        warmup: size of the data on which the reader's bytecode is warmed up in the parent.
        scales: without --size, take less when memory is short instead of refusing.
    """

    name: str
    summary: str
    unit: str
    default_size: int
    bytes_each: int
    build: Callable[[int], Any]
    read: Callable[[Any], Content] | None
    workers: int | None = None
    exits: int | None = 1
    modes: tuple[str, ...] | None = None
    why_not: str = ""
    program: str = DATA
    missing: Callable[[], str | None] = _always
    warmup: int = 50
    scales: bool = False

    def bytes_needed(self, size: int, workers: int) -> int:
        """Bytes at the worst moment: the data, and a copy of it in each worker that reads it
        (or ends: those end one after another)."""
        copies = 1 if self.read is untouched else workers
        return self.bytes_each * size * (1 + copies) + (workers + 1) * (40 << 20)

    def largest(self, room: int, workers: int) -> int:
        """The largest size that fits into ROOM bytes; 0 when none does."""
        one, two = self.bytes_needed(0, workers), self.bytes_needed(1000, workers)
        return max(0, (room - one) * 1000 // (two - one))
