"""One look at process trees: who is there, what each holds, and what each figure's age is.

    psutil      which processes form a tree (again at every look: workers come and go)
    stat        faults, threads, fork or exec      cheap, of every process at every look
    rollup      RSS PSS USS swap                   dear, the stalest first, within a budget
    pagemap     copied since the fork              dearer, one family (parent, workers) at a time

A figure that was not read now keeps its value and grows older, and its age is part of the result.
A figure that cannot be known is None and `unknown` says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cowfreeze._system.copied import Copied, measure_family
from cowfreeze._system.hosts import HELPERS, identify, is_python, title
from cowfreeze._system.label import read_label
from cowfreeze._system.proc import (
    PROC,
    Memory,
    Stat,
    Unreadable,
    forked,
    read_command,
    read_memory,
    read_stat,
)
from cowfreeze.cli.top.budget import Budget
from cowfreeze.cli.top.result import EXEC, FORK, ROOT, ProcessSample, TopSample, TreeSample

READING_SHARE = 0.005  # of the time may go into rollups and pagemaps; the rest of 1 % is for the frame


@dataclass
class _Record:
    """What is kept about a process from look to look."""

    stat: Stat
    stat_time: float
    rate: float | None = None
    memory: Memory | None = None
    memory_time: float | None = None
    memory_reason: str = "not read yet"
    frozen: int | None = None
    copied: Copied = field(default_factory=lambda: Copied(None, None, "not read yet"))
    copied_time: float | None = None


class Sampler:
    """Looks at the tree of one process, or at all trees of forked Python workers.

    Args:
        pid: the root; None for every tree that has a Python process with a forked child.
        limited: keep the readings within the budget; False reads everything at every look.
        clock, cost: seconds of wall clock and of processor time, for tests.
    """

    def __init__(
        self,
        pid: int | None = None,
        limited: bool = True,
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.process_time,
    ) -> None:
        self._pid = pid
        self._limited = limited
        self._proc = proc
        self._clock, self._cost = clock, cost
        self._budget = Budget(READING_SHARE)
        self._records: dict[tuple[int, int], _Record] = {}
        self._first: tuple[float, float] | None = None
        self.reading_seconds = 0.0  # of the last look

    def watch_faults(self) -> None:
        """Read the fault counters alone, so that the first sample knows a rate."""
        for members in self._discover():
            self._look(members)

    def sample(self) -> TopSample:
        """Look once.

        Raises:
            psutil.NoSuchProcess: the root is gone.
        """
        cost, now = self._cost(), self._clock()
        first = self._first is None
        trees = self._discover()
        looked = [self._look(members) for members in trees]
        alive = {(stat.pid, stat.started) for stats in looked for stat in stats}
        self._records = {key: record for key, record in self._records.items() if key in alive}
        self._budget.tick(now)
        self.reading_seconds = self._read(looked, everything=first or not self._limited)
        result = tuple(self._tree(stats) for stats in looked if stats)
        if self._first is None:
            self._first = (now, cost)
            share = None
        else:
            share = (self._cost() - self._first[1]) / max(now - self._first[0], 1e-9)
        return TopSample(time.time(), os.sysconf("SC_PAGE_SIZE"), self._cost() - cost, share, result)

    # --- who is there

    def _discover(self) -> list[list[int]]:
        """The pids of each tree, the root first."""
        if self._pid is not None:
            root = psutil.Process(self._pid)
            return [[self._pid, *(child.pid for child in root.children(recursive=True) if child.pid != os.getpid())]]
        return [tree for tree in self._python_trees() if self._has_worker(tree)]

    def _python_trees(self) -> Iterable[list[int]]:
        children: dict[int, list[int]] = {}
        python: set[int] = set()
        for process in psutil.process_iter(["pid", "ppid", "name", "exe", "cmdline"]):
            info = process.info
            if info["pid"] == os.getpid():
                continue
            children.setdefault(info["ppid"] or 0, []).append(info["pid"])
            if is_python(info["cmdline"] or [], info["exe"] or "", info["name"] or ""):
                python.add(info["pid"])
        below = {child for pid in python for child in _descendants(pid, children)}
        return [[pid, *_descendants(pid, children)] for pid in sorted(python - below)]

    def _has_worker(self, tree: Sequence[int]) -> bool:
        """Did a member of TREE fork, as far as one may look?"""
        stats: dict[int, Stat] = {}
        for pid in tree:
            try:
                stats[pid] = read_stat(pid, self._proc)
            except Unreadable:
                continue
        for child in stats.values():
            parent = stats.get(child.parent)
            if parent is None:
                continue
            same = forked(child, parent)
            if same is None:  # somebody else's: the arguments are all that is visible
                same = read_command(child.pid, self._proc) == read_command(parent.pid, self._proc) != []
            if same:
                return True
        return False

    def _look(self, pids: Sequence[int]) -> list[Stat]:
        """Read the cheap figures of PIDS; those that are gone drop out."""
        now = self._clock()
        found: list[Stat] = []
        for pid in pids:
            try:
                stat = read_stat(pid, self._proc)
            except Unreadable:
                continue
            found.append(stat)
            record = self._records.setdefault((pid, stat.started), _Record(stat, now))
            if now > record.stat_time:
                record.rate = (stat.minor_faults - record.stat.minor_faults) / (now - record.stat_time)
            record.stat, record.stat_time = stat, now
        return found

    # --- what it holds

    def _read(self, trees: Sequence[Sequence[Stat]], everything: bool) -> float:
        """Read rollups and pagemaps, the stalest first, while the budget lasts. Returns seconds spent."""
        work: list[tuple[float, Callable[[], None]]] = []
        for stats in trees:
            for stat in stats:
                record = self._record(stat)
                work.append((_age_key(record.memory_time), lambda s=stat, r=record: self._read_memory(s, r)))  # type: ignore[misc]
            for parent, workers in _families(stats).items():
                oldest = min(_age_key(self._record(worker).copied_time) for worker in workers)
                work.append((oldest, lambda p=parent, w=workers, t=stats: self._read_copied(p, w, t)))  # type: ignore[misc]
        spent = 0.0
        for _, read in sorted(work, key=lambda entry: entry[0]):
            if not everything and not self._budget.ready():
                break
            before = self._cost()
            read()
            used = self._cost() - before
            self._budget.spend(used)
            spent += used
        return spent

    def _read_memory(self, stat: Stat, record: _Record) -> None:
        record.memory_time = self._clock()
        if stat.state == "Z":
            record.memory, record.memory_reason = None, f"process {stat.pid} has ended and waits for its parent"
            return
        try:
            record.memory = read_memory(stat.pid, self._proc)
            label = read_label(stat.pid, self._proc)
            record.frozen = 0 if label is None else label.bytes
        except Unreadable as error:
            record.memory, record.memory_reason, record.frozen = None, str(error), None

    def _read_copied(self, parent: int, workers: Sequence[Stat], tree: Sequence[Stat]) -> None:
        busy = set(_families(tree)) & {worker.pid for worker in workers}
        alive = [worker.pid for worker in workers if worker.state != "Z"]
        try:
            found = measure_family(parent, alive, sorted(busy), self._proc)
        except Unreadable as error:
            found = {worker.pid: Copied(None, None, str(error)) for worker in workers}
        for worker in workers:
            record = self._record(worker)
            record.copied_time = self._clock()
            record.copied = self._bounded(found.get(worker.pid), worker, record)

    def _bounded(self, copied: Copied | None, worker: Stat, record: _Record) -> Copied:
        """Sharpen COPIED with what else is known: each copied page was a page fault of the worker."""
        if copied is None:
            return Copied(None, None, f"process {worker.pid} has ended and waits for its parent")
        if record.memory is not None and record.memory.ksm:
            return Copied(None, None, f"KSM merged pages of process {worker.pid}: copies look shared again")
        try:
            faults = read_stat(worker.pid, self._proc).faults * os.sysconf("SC_PAGE_SIZE")
        except Unreadable:
            return copied
        if copied.at_most is not None and copied.at_most <= faults:
            return copied
        at_least = None if copied.at_least is None else min(copied.at_least, faults)
        if at_least == faults:
            return Copied(faults, faults)
        return Copied(at_least, faults, copied.reason)

    def _record(self, stat: Stat) -> _Record:
        return self._records[stat.pid, stat.started]

    # --- the result

    def _tree(self, stats: Sequence[Stat]) -> TreeSample:
        by_pid = {stat.pid: stat for stat in stats}
        order = _in_depth(stats)
        rows = tuple(self._row(by_pid[pid], by_pid, depth) for pid, depth in order)
        # A process that ended holds nothing, and its missing figures must not hide the sum.
        pss = [row.pss for row in rows if row.state != "Z"]
        rss = [row.rss for row in rows if row.state != "Z"]
        near = (row.host for row in rows if row.depth < 2)
        host = next((name for name in near if name is not None and name not in HELPERS), None)
        known = sum(size for size in pss if size is not None)
        return TreeSample(
            root=stats[0].pid,
            host=host,
            processes=rows,
            cluster_pss=None if None in pss else known,
            cluster_pss_at_least=known,
            rss_sum=None if None in rss else sum(size for size in rss if size is not None),
        )

    def _row(self, stat: Stat, tree: dict[int, Stat], depth: int) -> ProcessSample:
        record = self._record(stat)
        now = self._clock()
        command = read_command(stat.pid, self._proc)
        host = identify(command, stat.name)
        name = title(command, stat.name)
        if stat.parent in tree and command and command == read_command(stat.parent, self._proc):
            name = "worker"  # the arguments are those of the parent, and say nothing about it
        memory, copied = record.memory, record.copied
        start = _start(stat, tree)
        unknown: dict[str, str] = {}
        if memory is None:
            unknown.update(dict.fromkeys(("pss", "uss", "swap", "shared_ratio"), record.memory_reason))
            if stat.state == "Z":
                unknown["rss"] = record.memory_reason
        if start in (ROOT, EXEC):
            copied = Copied(None, None, "nothing was inherited by a fork that is part of this tree")
        elif start is None:
            copied = Copied(None, None, record.memory_reason if memory is None else "its parent may not be looked at")
        if copied.exact is None:
            unknown["copied"] = copied.reason or "not known"
        if record.rate is None:
            unknown["faults_per_second"] = "a rate needs two looks"
        return ProcessSample(
            pid=stat.pid,
            parent=stat.parent,
            depth=depth,
            title=name,
            host=host.name if host is not None else None,
            start=start,
            state=stat.state,
            threads=stat.threads,
            # Both are resident sizes; that of the rollup is exact and belongs to the other figures.
            rss=memory.rss if memory is not None else None if stat.state == "Z" else stat.rss,
            pss=memory.pss if memory is not None else None,
            uss=memory.private if memory is not None else None,
            swap=memory.swap if memory is not None else None,
            shared_ratio=memory.shared_ratio if memory is not None else None,
            copied=copied.exact,
            copied_at_least=copied.at_least,
            copied_at_most=copied.at_most,
            frozen_bytes=record.frozen,
            faults_per_second=record.rate,
            memory_age=None if memory is None or record.memory_time is None else max(now - record.memory_time, 0.0),
            copied_age=None if start != FORK or record.copied_time is None else max(now - record.copied_time, 0.0),
            unknown=unknown,
        )


def _start(stat: Stat, tree: dict[int, Stat]) -> str | None:
    parent = tree.get(stat.parent)
    if parent is None:
        return ROOT
    same = forked(stat, parent)
    return None if same is None else FORK if same else EXEC


def _families(stats: Sequence[Stat]) -> dict[int, list[Stat]]:
    """Parents with the children that they forked."""
    tree = {stat.pid: stat for stat in stats}
    families: dict[int, list[Stat]] = {}
    for stat in stats:
        if _start(stat, tree) == FORK:
            families.setdefault(stat.parent, []).append(stat)
    return families


def _in_depth(stats: Sequence[Stat]) -> list[tuple[int, int]]:
    """Each pid with its depth, parents before their children and siblings by age."""
    tree = {stat.pid for stat in stats}
    children: dict[int, list[Stat]] = {}
    for stat in sorted(stats, key=lambda stat: (stat.started, stat.pid)):
        children.setdefault(stat.parent, []).append(stat)
    order: list[tuple[int, int]] = []
    # Several starts: an orphan whose parent ended between two readings still gets its row.
    waiting = [(stat, 0) for stat in reversed(stats) if stat.parent not in tree]
    while waiting:
        stat, depth = waiting.pop()
        order.append((stat.pid, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(stat.pid, []))]
    return order


def _descendants(pid: int, children: dict[int, list[int]]) -> list[int]:
    found: list[int] = []
    waiting = list(children.get(pid, ()))
    while waiting:
        child = waiting.pop(0)
        found.append(child)
        waiting += children.get(child, ())
    return found


def _age_key(moment: float | None) -> float:
    return float("-inf") if moment is None else moment
