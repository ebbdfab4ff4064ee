"""Failures: whatever does not get its memory, nothing has changed."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from cowfreeze import _core, freeze
from freeze.cases_again import _inside, _rows
from helpers.cases import is_marked, needs

OPTIONS: tuple[dict[str, bool], ...] = ({}, {"gc_freeze": False, "seal": False, "collect": False})


class Graph:
    """Data, an equal copy, and the bytes of all its objects."""

    def __init__(self) -> None:
        self.rows = _rows(200)
        self.objects = _inside(self.rows)
        self.copy = [[row[0], dict(row[1]), row[2].plain_one] for row in self.rows]
        gc.collect()  # what a collection untracks is untracked now
        gc.collect()
        self.tracked = [gc.is_tracked(obj) for obj in self.objects]
        self.permanent = gc.get_freeze_count()
        self.threshold = gc.isenabled()
        self.headers = self._headers()

    def _headers(self) -> list[bytes]:
        # Without the collector's links: a collection reorders its lists.
        from helpers.cases import raw

        return [raw(obj, 0, max(16, type(obj).__basicsize__)) for obj in self.objects]

    def differences(self) -> list[str]:
        found = []
        if any(map(is_marked, self.objects)):
            found.append("something is marked")
        if self._headers() != self.headers:
            found.append("headers or bodies differ")
        if [[row[0], row[1], row[2].plain_one] for row in self.rows] != self.copy:
            found.append("the graph is not equal to its copy")
        if [gc.is_tracked(obj) for obj in self.objects] != self.tracked:
            found.append("tracked differently")
        if gc.get_freeze_count() != self.permanent:
            found.append("the permanent generation changed")
        if gc.isenabled() != self.threshold:
            found.append("the collector was switched")
        if _core.frozen_pages() != 0:
            found.append("pages count as frozen")
        return found


def _mapped() -> int:
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def book_keeping(whole_heap: bool) -> dict[str, Any]:
    """Fail the n-th request for book-keeping memory, for every n."""
    graph = Graph()
    start = _core.bookkeeping_bytes()
    problems, messages, n = [], set(), 0
    while n < 200:
        n += 1
        _core.fail_allocation(n)
        try:
            report = freeze(*([] if whole_heap else [graph.rows]))
        except MemoryError as error:
            messages.add(str(error))
        else:
            break
        finally:
            _core.fail_allocation(-1)
        found = graph.differences()
        # The set of frozen pages is made by the first freeze that gets so far, and stays.
        if found:
            problems.append(f"request {n}: {found}")
    marked = sum(map(is_marked, graph.objects))
    kept = _core.bookkeeping_bytes()
    del report
    gc.collect()
    for _ in range(5):
        freeze([n], collect=False)  # after the first the heap grows little
    after_one, mapped = _core.bookkeeping_bytes(), _mapped()
    for _ in range(20):
        freeze([n], collect=False)
    bits = (_mapped() - mapped) // 32  # what is frozen is noted with a bit for every 8 bytes of the heap
    return {
        "requests": n - 1,
        "problems": problems,
        "messages": sorted(messages),
        "marked": [marked, len(graph.objects)],
        "grows": max(0, _core.bookkeeping_bytes() - after_one - bits),
        "start": start,
        "kept": kept - after_one >= 0,
    }


def leaks_of_failures() -> dict[str, int]:
    """Book-keeping that is mapped after many failed freezes: none."""
    graph = Graph()
    seen = []
    for _ in range(5):
        for n in range(1, 30):
            _core.fail_allocation(n)
            try:
                freeze(graph.rows, dry_run=True, collect=False)
            except MemoryError:
                pass
            finally:
                _core.fail_allocation(-1)
        gc.collect()
        seen.append(_core.bookkeeping_bytes())
    return {"first": seen[0], "last": seen[-1]}


def _forked(target: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = target()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def python_memory(whole_heap: bool) -> dict[str, Any]:
    """Fail the n-th allocation of Python's own allocators, for every n, each in a fork."""
    try:
        import _testcapi
    except ImportError:
        needs(False, "this Python has no _testcapi")
    freeze([1.5], dry_run=True)  # imports that the first call makes
    graph = Graph()
    roots = () if whole_heap else (graph.rows,)
    outcomes: dict[str, int] = {}
    enough = 400  # allocations that a freeze needs; found out by the first round
    for persistent in (True, False):
        for n in range(1, enough):

            def attempt(n: int = n, persistent: bool = persistent) -> int:
                _testcapi.set_nomemory(n, 0 if persistent else n + 1)
                try:
                    freeze(*roots, allow_forked=True, threads="allow")
                except MemoryError:
                    _testcapi.remove_mem_hooks()
                    return 1 if not graph.differences() else 3
                except BaseException:
                    _testcapi.remove_mem_hooks()
                    raise
                _testcapi.remove_mem_hooks()
                return 0 if all(map(is_marked, graph.objects)) else 4

            status = _forked(attempt)
            word = {0: "frozen", 1: "MemoryError"}.get(status, f"status {status} at {n}")
            outcomes[word] = outcomes.get(word, 0) + 1
            if status == 0 and persistent:
                enough = n + 1
                break
    return outcomes


def address_space() -> dict[str, Any]:
    """RLIMIT_AS leaves no room for the book-keeping."""
    freeze([1.5], dry_run=True)  # imports that the first call makes
    graph = Graph()
    mapped = _mapped()
    outcomes = []
    for extra in (0, 64 << 10, 1 << 20, 8 << 20):
        resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, resource.RLIM_INFINITY))
        try:
            freeze(graph.rows, collect=False)
            outcomes.append("frozen")
        except MemoryError:
            outcomes.append("MemoryError")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if outcomes[-1] == "MemoryError" and graph.differences():
            outcomes[-1] += f" {graph.differences()}"
    freeze(graph.rows)
    return {"outcomes": outcomes, "then": all(map(is_marked, graph.objects))}


def extra_memory(n: int) -> dict[str, Any]:
    """Resident memory at its peak during a freeze, beyond that before it."""
    rows = [{"number": k, "name": "%d name" % k, "tags": ["%d tag" % k, k * 1.5]} for k in range(n)]
    gc.collect()
    freeze(rows, dry_run=True, collect=False)  # the code pages of the walk itself
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")  # reset the peak
    before = _status("VmRSS")
    report = freeze(rows, seal=False, collect=False)
    peak, after = _status("VmHWM"), _status("VmRSS")
    return {
        "objects": report.objects,
        "reported": report.peak_extra_bytes / report.objects,
        "measured": (peak - before) / report.objects,
        "kept": (after - before) / report.objects,
        "modules": len(sys.modules) > 0,
    }


def _status(field: str) -> int:
    with open("/proc/self/status") as stream:
        line = next(line for line in stream if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024




class _Finalised:
    def __del__(self) -> None:
        pass


def bytes_for_what_is_left() -> int:
    """Book-keeping for 100,000 objects that are passed over: a word for each."""
    return freeze([_Finalised() for _ in range(100_000)], dry_run=True).peak_extra_bytes
