"""The collector: what it may write in a worker, and what freeze asks of it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from cowfreeze import CowfreezeError, _core, freeze
from helpers.cases import GC_HEAD, copied_by, in_worker, is_marked, pages_of, raw
from freeze.zoo import Plain, text


def _graph(n: int = 10_000) -> list[Any]:
    return [[k, {text(): [k]}, (k, [k])] for k in range(n)]


def _containers(graph: list[Any]) -> list[Any]:
    return [*graph, *(row[1] for row in graph), *(row[2] for row in graph)]


def collect_in_worker(gc_freeze: bool) -> dict[str, int]:
    """Pages of frozen containers that gc.collect() in a worker copies."""
    graph = _graph()
    pages = pages_of(_containers(graph))
    plain = len(copied_by(gc.collect) & pages)
    freeze(graph, gc_freeze=gc_freeze)

    def worker() -> None:
        for generation in (0, 1, 2):
            gc.collect(generation)
        cycles = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        for cycle in cycles:
            cycle.append(cycle)
        del cycles, cycle
        assert gc.collect() >= 1000

    copied = len(copied_by(worker) & pages)
    return {"pages": len(pages), "plain": plain, "frozen": copied}


def tracking() -> dict[str, Any]:
    """Nothing frozen is in the collector's lists, but for functions with gc_freeze."""

    def function() -> None:
        pass

    graph = [_graph(50), Plain(1, [2]), type("Fresh", (), {}), function, {text(): [1]}]
    before = sum(map(gc.is_tracked, graph))
    freeze(graph)
    tracked = [type(obj).__name__ for obj in [*graph, *_containers(graph[0])] if gc.is_tracked(obj)]
    listed = {id(obj) for obj in gc.get_objects()}
    in_lists = [type(obj).__name__ for obj in graph if id(obj) in listed]
    return {"before": before, "tracked": tracked, "in lists": in_lists, "permanent": gc.get_freeze_count() > 1000}


def without_gc_freeze() -> dict[str, Any]:
    """gc_freeze=False leaves the rest of the heap to the collector, untracks what is frozen."""
    before = gc.get_freeze_count()
    graph = _graph(50)
    freeze(graph, gc_freeze=False)
    return {
        "permanent": gc.get_freeze_count() - before,
        "tracked": sum(map(gc.is_tracked, _containers(graph))),
    }


def dying_neighbours(gc_freeze: bool) -> dict[str, int]:
    """Mortal objects made between frozen ones die in a worker: lists of the collector are
    doubly linked, so that each death writes the GC headers of both neighbours."""
    frozen, mortal = [], []
    for k in range(5000):
        frozen.append([k])
        mortal.append([k])
    freeze(*frozen, gc_freeze=gc_freeze)

    def worker() -> int:
        before = [raw(obj, GC_HEAD, 0) for obj in frozen]
        mortal.clear()
        gc.collect()
        return sum(raw(obj, GC_HEAD, 0) != head for obj, head in zip(frozen, before))

    return {"changed": in_worker(worker), "mortal": sum(map(is_marked, mortal))}


class Cycle:
    def __init__(self, deaths: list[int]) -> None:
        self.myself = self
        self.deaths = deaths

    def __del__(self) -> None:
        self.deaths.append(1)


def garbage_with_the_collector_off() -> dict[str, Any]:
    """PyGC_Collect does nothing while the collector is off: garbage would become immortal."""
    gc.collect()
    gc.disable()
    deaths: list[int] = []
    references = [weakref.ref(Cycle(deaths)) for _ in range(20)]
    alive = sum(reference() is not None for reference in references)
    freeze([text()])
    return {
        "alive before": alive,
        "alive after": sum(reference() is not None for reference in references),
        "deaths": len(deaths),
        "enabled": gc.isenabled(),
    }


def garbage_without_collect() -> dict[str, Any]:
    gc.collect()
    gc.disable()
    deaths: list[int] = []
    reference = weakref.ref(Cycle(deaths))
    young = (text(), 1.5)  # which a collection of the youngest would untrack; 3.14 and later never track it
    before = gc.is_tracked(young)
    freeze([text()], collect=False)
    return {"alive": reference() is not None, "untracked": before and not gc.is_tracked(young)}


class Saboteur:
    """A finaliser that runs in freeze's own collection and changes the graph."""

    def __init__(self, graph: list[Any]) -> None:
        self.myself = self
        self.graph = graph

    def __del__(self) -> None:
        self.graph.append([text()])
        raise RuntimeError("raised on purpose: a finaliser that fails")


def finaliser_changes_the_graph() -> dict[str, Any]:
    graph: list[Any] = [text()]
    Saboteur(graph)
    freeze(graph)
    return {"added": len(graph) - 1, "frozen": all(map(is_marked, [*graph, graph[-1][0]]))}


def callback_freezes() -> dict[str, Any]:
    """A gc callback that calls freeze: from within freeze's own collection."""
    inner: list[Any] = [text()]
    outer: list[Any] = [text()]
    errors = []

    def callback(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and not errors:
            try:
                freeze(inner)
            except CowfreezeError as error:
                errors.append(str(error))

    gc.callbacks.append(callback)
    freeze(outer)
    gc.callbacks.remove(callback)
    refused = len(errors) == 1 and "collector is running" in errors[0]
    return {"refused": refused, "inner": is_marked(inner[0]), "outer": is_marked(outer[0])}


# -- free blocks beside frozen ones -----------------------------------------


def free_blocks(seal: bool) -> dict[str, int]:
    """Survivors among freed objects; a worker allocates. Pages of the survivors that it copies."""
    survivors, freed = [], []
    for k in range(30_000):
        survivors.append(["%d s" % k, [k]])
        freed.append(["%d f" % k, [k]])
    del freed
    pages = pages_of(survivors) | pages_of(row[0] for row in survivors)
    pages |= pages_of(row[1] for row in survivors)
    report = freeze(survivors, seal=seal)

    def worker() -> None:
        kept = [["%d w" % k, [k]] for k in range(50_000)]
        del kept

    return {
        "pages": len(pages),
        "copied": len(copied_by(worker) & pages),
        "sealed": report.sealed_bytes,
    }


def pools_are_known() -> dict[str, bool]:
    report = freeze([text()])
    counts = report._counts
    return {
        "pools": counts.pools_known,
        "frames": counts.frames_known,
        "shared keys": counts.shared_keys_known,
        "pages": _core.frozen_pages() > 0,
    }


# -- memoryview -------------------------------------------------------------


def memoryviews(whole_heap: bool) -> dict[str, Any]:
    """managedbuffer is untracked without a check when its last view is released."""
    exporter, outside = bytearray(text().encode()), bytearray(b"outside")
    views = [memoryview(exporter), memoryview(exporter)[2:], memoryview(text().encode()).cast("b")]
    views += [memoryview(memoryview(exporter)).toreadonly()]
    other = memoryview(outside)
    graph = [views, exporter]
    report = freeze() if whole_heap else freeze(graph)
    marked = [is_marked(view) for view in views]
    tracked = [gc.is_tracked(view) for view in views]
    for _ in range(3):
        gc.collect()  # 3.14 untracks an immortal one here

    def release() -> bool:
        with views[0] as view:
            assert bytes(view) == bytes(exporter)
        for view in views:
            view.release()
        with other:
            pass
        gc.collect()
        exporter.append(1)  # all exports are gone
        return True

    return {
        "worker": in_worker(release),
        "parent": release(),
        "marked": marked,
        "tracked": tracked,
        "exporter": is_marked(exporter),
        "skipped": report.skipped.get("memoryview", 0),
    }


class Node:
    """Refers to itself, so that only the collector can end it; RETURNS: when it has come back once."""

    ended = 0

    def __init__(self, returns: bool) -> None:
        self.me, self.returns = None if returns else self, returns

    def __del__(self) -> None:
        Node.ended += 1
        if self.returns:
            self.returns = False
            back.append(self)  # tracked again, in the youngest generation


class Still:
    """The same without a finalizer, so that it is frozen."""

    def __init__(self) -> None:
        self.me = self


back: list[Node] = []


def weak_references(way: str) -> dict[str, Any]:
    """Frozen containers of weak references with callbacks, whose referents die in cycles afterwards."""
    node: Any = Still() if way == "frozen" else Node(way == "returns")
    cache: Any = weakref.WeakValueDictionary({1: node})
    group: Any = weakref.WeakSet([node])
    skipped = {}
    if way == "whole heap":
        skipped = freeze(skip=(Node,)).skipped
        gc.unfreeze()
    elif way == "frozen":
        skipped = freeze([cache, group, node]).skipped
    else:
        skipped = freeze([cache, group], gc_freeze=way == "returns").skipped
    reference = cache.data[1]
    del node
    gc.collect()
    if back:
        node = back.pop()
        node.me = node
        del node
        gc.collect()
    return {
        "ended": Node.ended > 0,
        "left": (len(cache), len(group)),
        "marked": is_marked(reference),
        "told": skipped.get("weak reference to what is not frozen", 0),
    }
