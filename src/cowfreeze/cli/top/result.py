"""What one look of `cowfreeze top` found: a process, its tree, all trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

ROOT, FORK, EXEC = "root", "fork", "exec"


@dataclass(frozen=True)
class ProcessSample:
    """One process. Sizes in bytes; a figure that is None has its reason in `unknown` (by its name).

    Attributes:
        start: "root" of the tree, "fork" (shares its parent's pages), "exec" (a program of its
            own: nothing is shared by forking), None where it may not be looked at.
        host: gunicorn, Celery, ... if its command line tells.
        shared_ratio: resident memory that another process maps too, from 0 to 1.
        copied: bytes copied since the fork; None unless both bounds are the same.
        copied_at_least, copied_at_most: bounds, see `_copied`. None for root and exec, where the
            question does not arise.
        frozen_bytes: what it, or the process that it was forked from, has frozen; 0: nothing. None
            where that may not be read.
        faults_per_second: minor page faults since the look before; each copied page is one.
        memory_age, copied_age: seconds since the sizes and the copied pages were read.
    """

    pid: int
    parent: int
    depth: int
    title: str
    host: str | None
    start: str | None
    state: str
    threads: int
    rss: int | None
    pss: int | None
    uss: int | None
    swap: int | None
    shared_ratio: float | None
    copied: int | None
    copied_at_least: int | None
    copied_at_most: int | None
    frozen_bytes: int | None
    faults_per_second: float | None
    memory_age: float | None
    copied_age: float | None
    unknown: dict[str, str]


@dataclass(frozen=True)
class TreeSample:
    """A process and its descendants, parents before their children.

    Attributes:
        cluster_pss: memory of the whole tree with each shared page counted once; None if one
            process may not be read, and then `cluster_pss_at_least` is the sum of the others.
    """

    root: int
    host: str | None
    processes: tuple[ProcessSample, ...]
    cluster_pss: int | None
    cluster_pss_at_least: int
    rss_sum: int | None


@dataclass(frozen=True)
class TopSample:
    """One look. `seconds` is the processor time that it took, `cost` the part of the time since
    the first look that watching took (None before there is a second one)."""

    time: float
    page_size: int
    seconds: float
    cost: float | None
    trees: tuple[TreeSample, ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
