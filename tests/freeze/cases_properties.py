"""What must hold for every graph, tried on random ones (hypothesis).

Freezing cannot be undone, so one process tries many graphs and ends; each graph is new.
"""

from __future__ import annotations

import collections
import ctypes
import datetime
import decimal
import gc
import itertools
import sys
from random import Random
from typing import Any

import cowfreeze
from freeze import graphs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from helpers.cases import GC_HEAD, HAS_IMMORTAL, copied_by, is_marked, needs, pages_of
from freeze.walker import LEFT_ALONE, closure

RECIPES = st.lists(
    st.tuples(st.sampled_from(graphs.KINDS), st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=6)),
    max_size=40,
)
_rounds = itertools.count()
HASHED = (str, bytes, int, float, complex, tuple, frozenset)


def try_graphs(examples: int, start: int) -> dict[str, Any]:
    """Try EXAMPLES graphs; the first one that breaks a property is shrunk and raised."""
    tried = collections.Counter[str]()

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(RECIPES)
    def holds(recipe: graphs.Recipe) -> None:
        tried["graphs"] += 1
        tried["objects"] += check(recipe)
        for kind, _, _ in recipe:
            tried[kind] += 1

    holds()
    return {"tried": tried, "kinds": len(graphs.KINDS)}


def check(recipe: graphs.Recipe) -> int:
    """Freeze the graph of RECIPE and look at every object; returns how many there are."""
    graph, twin = graphs.build(recipe), graphs.build(recipe)
    expected = closure([graph], boundary=True)
    outside = {
        address: obj
        for address, obj in closure([twin], boundary=True).items()
        if address not in expected and not is_marked(obj)
    }
    before = [stable_repr(obj) for obj in graph]
    collector = (gc.isenabled(), gc.get_threshold(), gc.get_debug())
    referents = {address: sorted(map(id, gc.get_referents(obj))) for address, obj in expected.items() if walked(obj)}

    cowfreeze.freeze(graph, collect=False, gc_freeze=False, seal=False)

    missed = [obj for obj in expected.values() if not is_marked(obj) and not left_alone(obj)]
    assert not missed, f"missed {[type(obj) for obj in missed]}: {missed[0]!r:.200}"
    marked = [obj for obj in outside.values() if is_marked(obj) and not is_shared_name(obj)]
    assert not marked, f"outside of the graph, but marked: {[type(obj) for obj in marked]}: {marked[0]!r:.200}"
    wrong = [obj for obj in expected.values() if not left_alone(obj) and cowfreeze.is_frozen(obj) is not HAS_IMMORTAL]
    assert not wrong, f"is_frozen is wrong for {wrong[0]!r:.200}"
    assert collector == (gc.isenabled(), gc.get_threshold(), gc.get_debug())
    for address, ids in referents.items():
        assert ids == sorted(map(id, gc.get_referents(expected[address]))), expected[address]
    assert before == [stable_repr(obj) for obj in graph]
    for one, other in zip(graph, twin):
        assert type(one) is type(other)
        if isinstance(one, HASHED) and not isinstance(one, (tuple, frozenset)):
            assert hash(one) == hash(other) and one == other

    reading_writes_nothing(expected)
    again = cowfreeze.freeze(graph, collect=False, gc_freeze=False, seal=False)
    assert again.objects == 0, f"the second freeze took {again}"
    return len(expected)


def walked(obj: Any) -> bool:
    return isinstance(obj, (list, dict, set, tuple, frozenset, collections.deque, graphs.Attributes))


def left_alone(obj: Any) -> bool:
    return type(obj).__name__ in LEFT_ALONE


def is_shared_name(obj: Any) -> bool:
    """Interned strs, and the few values that CPython keeps one of, are in both graphs."""
    return isinstance(obj, str) and obj.isidentifier()


def stable_repr(obj: Any) -> str:
    """The repr, if it has no address in it."""
    return repr(obj) if isinstance(obj, (*HASHED, list, dict, set, range, slice)) and " at 0x" not in repr(obj) else ""


def body(obj: Any) -> bytes:
    """Header and fixed part of the object as they lie in memory."""
    head = GC_HEAD if gc.is_tracked(obj) or type(obj).__flags__ & (1 << 14) else 0
    size = type(obj).__basicsize__
    if isinstance(obj, str):
        size = min(size, obj.__sizeof__())  # a short one ends before the fixed part of its type does
    elif isinstance(obj, (datetime.time, datetime.datetime)) and obj.tzinfo is None:
        size -= 8  # without a zone there is no room for one: the next object begins there
    return ctypes.string_at(id(obj) - head, head + max(size, 16))


def reading_writes_nothing(objects: dict[int, Any]) -> None:
    """What a worker does with what it reads changes no byte of what is frozen."""
    if not HAS_IMMORTAL:
        return
    frozen = [obj for obj in objects.values() if not left_alone(obj) and is_data(obj)]
    bodies = [body(obj) for obj in frozen]
    for obj in frozen:
        read(obj)
    gc.collect(2 if next(_rounds) % 10 == 0 else 0)
    for obj, was in zip(frozen, bodies):
        assert body(obj) == was, f"reading wrote to a {type(obj)}: {obj!r:.200}"


def is_data(obj: Any) -> bool:
    """Not the program: classes and functions count their calls, iterators move when read."""
    return not isinstance(obj, type) and (
        isinstance(obj, (*HASHED, list, dict, set, range, slice, collections.deque))
        or type(obj).__module__ in ("graphs", "datetime", "decimal", "fractions", "uuid")
    )


def hashes_in_c(obj: Any) -> bool:
    """Is the hash filled by freezing? Tuples keep theirs from 3.14 on; what asks Python code, or
    types of which freeze does not know that they never do, is left to the reader (`unwarmed`)."""
    if isinstance(obj, tuple):
        return all(map(hashes_in_c, obj))
    return isinstance(obj, (*HASHED, list, dict, set, datetime.date, datetime.timedelta, decimal.Decimal, type(None)))


def read(obj: Any) -> None:
    kept = [obj] * 5
    if hashes_in_c(obj):
        try:
            hash(obj)
        except TypeError:
            pass
    if isinstance(obj, (list, tuple, set, frozenset, collections.deque)):
        kept.extend(obj)
    elif isinstance(obj, dict):
        kept.extend(obj.items())
    elif isinstance(obj, graphs.Attributes):
        # Not through __dict__ or dir(): asking for the dict makes one, which is a write.
        kept.extend(getattr(obj, f"attribute_{number}", None) for number in range(6))
    repr(obj)
    sys.getsizeof(obj)
    del kept


def read_in_a_worker(graphs_wanted: int, start: int) -> dict[str, int]:
    """Pages with data that a worker copies by reading everything, before and after the freeze."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    random = Random(start)
    data = [graphs.build(random_recipe(random)) for _ in range(graphs_wanted)]
    objects = [obj for obj in closure([data], boundary=True).values() if not left_alone(obj) and is_data(obj)]

    def reader() -> None:
        for obj in objects:
            read(obj)
        gc.collect()

    reader()  # its own inline caches, and what the library builds on first use
    pages = pages_of(objects)
    plain = len(copied_by(reader) & pages)
    cowfreeze.freeze(data, objects)
    return {"objects": len(objects), "pages": len(pages), "plain": plain, "frozen": len(copied_by(reader) & pages)}


def random_recipe(random: Random) -> graphs.Recipe:
    """Without what a reader writes beside: Fraction.__hash__ is an lru_cache, views stay mortal."""
    kinds = [kind for kind in graphs.KINDS if kind not in ("fraction", "memoryview")]
    return [
        (random.choice(kinds), random.randrange(1000), [random.randrange(60) for _ in range(random.randrange(7))])
        for _ in range(30)
    ]
