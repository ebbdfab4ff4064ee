"""clone and iter_clone: equal, independent, and without a write to the source."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import fractions
import gc
import pickle
import sys
import sysconfig
import threading
import uuid
import weakref
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from helpers.child import run_in_child, run_once

import cowfreeze
from cowfreeze import _core, clone, iter_clone


class Pair(NamedTuple):
    left: int
    right: list[int]


@dataclass
class Plain:
    a: Any
    b: Any


@dataclass
class Derived(Plain):
    c: int = 3


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, a: Any) -> None:
        self.a = a


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


class Final:
    def __del__(self) -> None:
        pass


IS_DEBUG = bool(sysconfig.get_config_var("Py_DEBUG"))
TZ = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
VALUES = [
    None, True, False, ..., 0, 1, -1, 255, 257, 2**30, 2**62, 2**63, -(2**63), 2**64, -(10**60),
    0.0, -1.5, 1e300, 2 - 3j, "", "a", "abc", "\xe9", "\xff" * 3, "日本語", "\U0001f600x", "x" * 1000,
    b"", b"a", b"abc" * 300, bytearray(b"abc"), (), (1,), (1, (2, [3])), [], [1, [2]], {}, {"a": 1},
    {1: "a", (2, (3, "x")): [4], frozenset({5}): 6, None: 7, b"k": 8, 1.5: 9, Number.ONE: 10, int: 11},
    set(), {1, "a", (2, 3)}, {7, 15}, frozenset(), frozenset({1, frozenset({2})}),
    range(0), range(3, 100, 7), range(10**30, -(10**30), -(10**28)),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1), datetime.datetime(2021, 5, 6, tzinfo=TZ),
    datetime.datetime(2021, 5, 6, tzinfo=datetime.timezone.utc), datetime.date(1, 1, 1),
    datetime.time(1, 2, 3, 4), datetime.time(1, tzinfo=TZ), datetime.timedelta(-3, 4, 5),
    decimal.Decimal("1.50"), decimal.Decimal("-0"), decimal.Decimal("1e999"), decimal.Decimal("1" * 80),
    uuid.UUID(int=12345), fractions.Fraction(3, 7), Pair(1, [2]), Plain(1, [2]), Derived([1], 2, 3),
    Color.RED, Number.ONE, int, Plain,
]  # fmt: skip


def shown(value: Any) -> Any:
    """repr(), but for the order of a set: elements whose hashes collide may change places in any copy."""
    return sorted(map(repr, value)) if isinstance(value, (set, frozenset)) else repr(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_is_equal_and_of_the_same_type(value: Any) -> None:
    before = repr(value)
    made = clone(value)
    assert made == value and type(made) is type(value) and shown(made) == shown(value)
    assert repr(value) == before
    assert clone([value, value]) == [value, value]


def test_nan_and_unset_slots() -> None:
    assert repr(clone(decimal.Decimal("sNaN12"))) == "Decimal('sNaN12')"
    made = clone(Slotted([1]))
    assert made.a == [1] and not hasattr(made, "b")
    assert weakref.ref(made)() is made


def test_shares_nothing_mutable() -> None:
    data = {"list": [1], "dict": {"x": [2]}, "set": {3}, "bytes": bytearray(b"x"), "tuple": ([4],)}
    before = copy.deepcopy(data)
    made = clone(data)
    made["list"].append(1)
    made["dict"]["x"].append(1)
    made["set"].add(1)
    made["bytes"].append(1)
    made["tuple"][0].append(1)
    assert data == before


def test_shared_references_and_cycles() -> None:
    shared = [1]
    made = clone({"a": shared, "b": (shared,), "c": Plain(shared, None)})
    assert made["a"] is made["b"][0] is made["c"].a and made["a"] is not shared
    ring: list[Any] = []
    ring.append((ring, {"me": ring}))
    made = clone(ring)
    assert made[0][0] is made and made[0][1]["me"] is made
    node = Plain(None, 1)
    node.a = node
    made = clone(node)
    assert made.a is made and made is not node
    loop = Slotted(None)
    loop.a = [loop]
    made = clone(loop)
    assert made.a[0] is made


def test_a_key_met_before_as_a_value() -> None:
    key = (1, (2, frozenset({3})))
    made = clone([key, {key: key}, {key}])
    assert made == [key, {key: key}, {key}]


def test_depth_is_no_matter() -> None:
    deep: Any = []
    for i in range(200_000):
        deep = [deep] if i % 2 else {"k": deep}
    made = clone(deep)
    for _ in range(200_000):
        made = made[0] if isinstance(made, list) else made["k"]
    assert made == []


def test_attributes_in_whichever_place() -> None:
    """Instances with a dict of their own, with deleted and with late attributes."""
    with_dict = Plain(1, [2])
    assert vars(with_dict)["a"] == 1
    late = Plain(1, 2)
    late.extra = [3]  # type: ignore[attr-defined]
    del late.a
    many = Plain(1, 2)
    for i in range(100):
        setattr(many, f"x{i}", i)
    for made, source in zip(clone([with_dict, late, many]), [with_dict, late, many]):
        assert vars(made) == vars(source)
        made.new = 1
        assert not hasattr(source, "new")
    assert clone(late).extra is not late.extra  # type: ignore[attr-defined]


def with_attribute(name: object) -> Plain:
    """Only by way of __dict__ can an attribute's name be no str."""
    made = Plain(1, 2)
    vars(made)[name] = 3  # type: ignore[index]
    return made


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([0] * 17 + [{"lock": threading.Lock()}], r"data\[17\]\['lock'\]: _thread.lock cannot be cloned"),
        (Plain(1, [open]), r"data\.b\[0\]: builtin_function_or_method cannot"),
        (Slotted({1: threading.Lock()}), r"data\.a\[1\]: _thread.lock cannot"),
        ({"x": Text("x")}, r"data\['x'\]: Text cannot be cloned"),
        ([{Text("x"): 1}], r"data\[0\]\[<Text>\]: Text cannot be cloned"),
        (OrderedDict(a=1), r"data: collections.OrderedDict cannot"),
        ([defaultdict(list)], r"data\[0\]: collections.defaultdict cannot"),
        ({Color.RED: 1}, r"data\[<Color>\]: Color as \(a part of\) a key"),
        ({(1, (Slotted(2),)): 1}, r"data\[<tuple>\]\[1\]\[0\]: Slotted as \(a part of\) a key"),
        ([{1, Color.RED}], r"data\[0\]{element}: Color as"),
        ([1, iter([])], r"data\[1\]: list_iterator cannot"),
        (with_attribute(1), r"data\[1\]: int cannot be cloned"),
        (with_attribute(10**5), r"data\[100000\]: int cannot be cloned"),
        (with_attribute((1, 2)), r"data\[<tuple>\]: tuple cannot be cloned"),
        ({10**5000: threading.Lock()}, r"data\[<int>\]: _thread.lock cannot"),
        (Final(), r"data: Final cannot be cloned"),
    ],
)
def test_refuses_with_the_path(data: Any, text: str) -> None:
    counts = [sys.getrefcount(data), gc.isenabled()]
    with pytest.raises(TypeError, match=text):
        clone(data)
    assert [sys.getrefcount(data), gc.isenabled()] == counts


def test_paths() -> None:
    keys: list[Any] = ["tags", 5, -7, 10**20, 1.5, b"k", None, True]
    data = {"a": [{key: [key] for key in keys} for _ in range(20)], "t": (1, {"x": 2})}
    for key in keys:
        assert clone(data, "a", 17, key) == [key]
    assert clone(data, "a", -1, 5.0) == [5]
    assert clone(data, "t", 1, "x") == 2
    assert clone(data) == data
    for wrong, error, text in [
        (("a", 20), IndexError, r"data\['a'\]\[20\]: index out of range"),
        (("a", 10**30), IndexError, "index out of range"),
        (("b",), KeyError, r"data\['b'\]: no such key"),
        (("a", 0, "tags", -2), IndexError, r"data\['a'\]\[0\]\['tags'\]\[-2\]"),
        (("a", "x"), TypeError, r"data\['a'\]\['x'\]: a list or tuple takes an int"),
        (("a", 0, (1,)), TypeError, "clone\\(\\) follows keys"),
        (("t", 0, 0), TypeError, "only lists, tuples and dicts"),
    ]:
        with pytest.raises(error, match=text):
            clone(data, *wrong)


def test_paths_through_large_tables() -> None:
    """Probing: collisions, deleted entries, every width of index."""
    for size in (100, 1000, 70_000):
        table = {(i * 2654435761) % 1_000_003 << 7: i for i in range(size)}
        for key in list(table)[::3]:
            del table[key]
        for key in list(table)[:: max(1, size // 200)]:
            assert clone(table, key) == table[key]
        for key in range(200):
            if key not in table:
                with pytest.raises(KeyError):
                    clone(table, key)


def test_iter_clone() -> None:
    data = [{"a": [i]} for i in range(10)]
    made = list(iter_clone(data))
    assert made == data and all(x is not y for x, y in zip(made, data))
    assert list(iter_clone({"x": [(1, 2), ([3],)]}, "x", 1)) == [[3]]
    assert list(iter_clone([])) == []
    running = iter_clone(data)
    next(running)
    del data[2:]
    assert next(running) == {"a": [1]}
    assert list(running) == [] and next(running, None) is None
    with pytest.raises(TypeError, match="clone a dict or set as a whole"):
        next(iter_clone({"a": 1}))
    with pytest.raises(TypeError, match=r"data\['x'\]\[1\]: _thread.lock"):
        list(iter_clone({"x": [1, threading.Lock()]}, "x"))


def test_keys_of_an_address_that_was_reused() -> None:
    """iter_clone remembers keys by address; the characters decide."""
    data: list[dict[str, int]] = [{}]

    def grow() -> Any:
        for i, made in enumerate(iter_clone(data)):
            yield made
            if i < 2000:
                data[i] = {}
                data.append({f"key {i}": i})

    for i, made in enumerate(grow()):
        assert made == ({} if i == 0 else {f"key {i - 1}": i - 1})


def test_counts_of_the_source_stay() -> None:
    data = [{"name": [f"x{i}"], "at": (i * 1e10, f"y{i}")} for i in range(50)]
    parts = [data, *data, *(d["name"] for d in data), *(d["at"] for d in data)]
    before = [sys.getrefcount(part) for part in parts]
    made = clone(data)
    assert [sys.getrefcount(part) for part in parts] == before
    assert made == data


def test_memory_failures_leave_nothing_behind() -> None:
    data = [[i] for i in range(40_000)]  # each twice: more entries than are kept for the next call
    shared = [data, data[:]]
    clone(shared)
    kept = 2 << 20  # for the next call
    for n in range(1, 40):
        _core.fail_allocation(n)
        try:
            assert clone(shared) == shared
            break
        except MemoryError:
            pass
        finally:
            _core.fail_allocation(-1)
        assert _core.bookkeeping_bytes() <= kept and gc.isenabled()
    else:
        pytest.fail("never enough memory")
    assert n > 1, "no allocation failed: the case proves nothing"


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("handler", ["clear", "clone"])
def test_signal_handlers_run_when_the_clone_is_complete(handler: str, refused: bool) -> None:
    assert run_in_child("clone.cases_clone", "interrupted", handler, refused)


def test_result_can_be_pickled_and_changed() -> None:
    made = clone([Plain(1, [2]), Pair(1, [2])])
    assert pickle.loads(pickle.dumps(made)) == made
    made[0].a = 5
    assert made[0].a == 5


@pytest.mark.parametrize("how", ["iter_clone", "clone", "whole", "refused"])
def test_copies_no_page_of_the_source(how: str) -> None:
    """In a worker, of a structure that is neither frozen nor packed, on every version."""
    result = run_once("clone.cases_clone", "cloned", how, 6000)
    # The allocator of debug builds puts one object of the interpreter beside the data.
    assert result["pages"] > 400 and result["copied"] <= IS_DEBUG, result


def test_what_is_asserted_can_fail() -> None:
    result = run_once("clone.cases_clone", "cloned", "deepcopy", 6000)
    assert result["copied"] > 400, result


def test_instances_cost_the_page_of_their_class() -> None:
    result = run_once("clone.cases_clone", "instances", 6000)
    assert result["pages"] > 200 and result["copied"] <= 4, result


def test_public_names() -> None:
    assert cowfreeze.clone is clone and cowfreeze.iter_clone is iter_clone
