"""pack of values beyond JSON's: dates, Decimal, enum members, instances, arrays; readonly=False."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import enum
import fractions
import gc
import json
import pickle
import sys
import typing
import uuid
import weakref
from decimal import Decimal
from typing import Any

import pytest
from helpers.child import run_once

import cowfreeze
from cowfreeze import clone, pack

IMMORTAL = sys.version_info >= (3, 12)


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Pair(typing.NamedTuple):
    x: Any
    y: Any


Other = collections.namedtuple("Other", "x y")


@dataclasses.dataclass
class Record:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    next: Any = None


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and (self.a, self.b) == (other.a, other.b)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Slotted({self.a!r}, {self.b!r})"


class Child(Slotted):
    __slots__ = ("c",)


class Named:
    """Attribute `x` lies in the dict although the class has a property of that name."""

    def __init__(self) -> None:
        self.__dict__.update({"x": [1], "y" + "z" * 3: 2})

    @property
    def x(self) -> Any:
        return self.__dict__["x"]

    @x.setter
    def x(self, value: Any) -> None:
        raise AssertionError("pack ran Python code")


class Hashed:
    def __hash__(self) -> int:
        raise AssertionError("pack ran Python code")


ZONE = dt.timezone(dt.timedelta(hours=2), "summer")
VALUES: dict[str, Any] = {
    "dates": [dt.date(2020, 1, 2), dt.date.min, dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.datetime.max,
              dt.datetime(2020, 1, 2, fold=1), dt.time(1, 2, 3), dt.time(1, fold=1), dt.timedelta(-1, 2, 3)],
    "aware": [dt.datetime(2020, 1, 2, tzinfo=ZONE), dt.time(1, tzinfo=ZONE), dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc)],
    "zones": [ZONE, dt.timezone.utc, dt.timezone(dt.timedelta(minutes=-5))],
    "decimals": [Decimal(x) for x in ("1.5", "-0", "0", "1e500", "-1E-500", "Infinity", "-Infinity", "1." + "7" * 300, "12345678901234567890")],
    "ranges": [range(3), range(0), range(10**30, 5, -2), range(-5, 300, 7)],
    "ids": [uuid.UUID(int=5), uuid.UUID(int=2**127)], "fractions": [fractions.Fraction(1, 3), fractions.Fraction(-(10**30), 7)],
    "members": [Color.RED, Color.BLUE, Level.LOW], "classes": [int, Record, Color],
    "tuples": [Pair(1, [2]), Pair("a", Pair(1, 2)), Other(None, ())],
    "instances": [Record("a", ["b"]), Slotted(1, ["x"])],
}  # fmt: skip
KEYS: list[Any] = [
    Color.RED, Level.LOW, (Color.BLUE, 1), frozenset({Color.RED, 3}), uuid.UUID(int=7), fractions.Fraction(2, 3),
    dt.date(1, 1, 1), dt.datetime(2020, 1, 2, tzinfo=ZONE), ZONE, Decimal("2.5"), Pair(1, (2, uuid.UUID(int=9))),
    range(4), int, Pair, "text", 10**20, 2.25, b"b", (1, (2, "x")),
]  # fmt: skip
PACKED = pack(VALUES)


@pytest.mark.parametrize("name", list(VALUES))
def test_is_equal_and_of_the_same_type(name: str) -> None:
    for readonly in (True, False):
        for made, value in zip(pack(VALUES[name], readonly=readonly), VALUES[name]):
            assert made == value and type(made) is type(value) and repr(made) == repr(value)
            if type(value).__hash__ is not None and name not in ("tuples", "instances"):
                assert hash(made) == hash(value)


def test_values_work() -> None:
    big = PACKED["decimals"][-2]
    assert big * big == Decimal("1." + "7" * 300) ** 2 and sum(PACKED["decimals"][:3]) == Decimal("1.5")
    assert PACKED["dates"][2] - PACKED["dates"][2] == dt.timedelta() and PACKED["dates"][7] * 2 == dt.timedelta(-1, 2, 3) * 2
    aware = PACKED["aware"]
    assert aware[0].astimezone(dt.timezone.utc).hour == 22 and aware[0].tzinfo is aware[1].tzinfo is PACKED["zones"][0]
    assert aware[2].tzinfo is dt.timezone.utc and PACKED["members"][0] is Color.RED and PACKED["classes"][1] is Record
    assert list(PACKED["ranges"][2][:2]) == [10**30, 10**30 - 2] and PACKED["fractions"][0] * 3 == 1
    assert PACKED["tuples"][0].y == [2] and PACKED["tuples"][0]._replace(y=1) == Pair(1, 1)
    assert copy.copy(pack(Decimal("NaN"))).is_nan() and pack(Decimal("sNaN12")).is_snan()


def test_keys_and_elements() -> None:
    source = {key: i for i, key in enumerate(KEYS)}
    for made in (pack(source), pack(source, readonly=False)):
        assert made == source and list(made) == list(source) and all(made[key] == i for i, key in enumerate(KEYS))
        assert all(made[key] == i for i, key in enumerate(list(made)))
        assert dict(made) == {**made} == source and Color.BLUE not in made
    for elements in (set(KEYS), frozenset(KEYS), set(range(1000)), set(range(4)), set(range(5)), {0, 8, 16, 24, 32, 40, 48, 56, 64}):
        for other in (pack(elements), pack(elements, readonly=False)):
            assert other == elements and len(other) == len(elements) and all(key in other for key in elements)
            assert not any(key in other for key in ("no", 5000, Color))
    assert hash(pack(frozenset(KEYS))) == hash(frozenset(KEYS))
    nan = float("nan")
    made = pack({nan: 1, "s": {nan, Decimal("NaN")}})
    assert all(element in made["s"] for element in made["s"])
    assert made[list(made)[0]] == 1 and next(iter(made["s"])) in made["s"]


def test_shared_references_and_cycles_through_instances() -> None:
    one = Record("one")
    one.next = Pair(one, {"me": [one]})
    two = Child(one, None)
    two.b, two.c = two, [two]
    for readonly in (True, False):
        made = pack([one, two], readonly=readonly)
        assert made[0].next.x is made[0].next.y["me"][0] is made[0] is made[1].a
        assert made[1].b is made[1] is made[1].c[0] and type(made[1]) is Child
        assert not hasattr(made[1], "d") and weakref.ref(made[1])() is made[1]


def test_attributes_are_set_without_python_code() -> None:
    made = pack([Named(), Named()])
    assert vars(made[0]) == {"x": [1], "yzzz": 2} and made[1].x == [1]
    with pytest.raises(TypeError, match=r"data\[<Hashed>\]: Hashed as \(a part of\) a key or set element cannot be packed"):
        Hashed.__hash__ = lambda self: 1  # type: ignore[method-assign]
        pack({Hashed(): 1})


def test_instances_stay_what_their_class_makes_them() -> None:
    made = pack([Record("a"), Slotted(1, 2), Child(3, 4)])
    made[0].name, made[0].more, made[1].a = ["new"], {}, {"b": made}
    for i in range(40):
        setattr(made[0], f"key{i}", i)
    gc.collect()
    assert made[0].name == ["new"] and made[0].key39 == 39 and made[1].a["b"] is made and made[2].b == 4
    del made[1].a, made[0].name
    assert not hasattr(made[1], "a") and not hasattr(made[0], "name")


def test_copies_are_ordinary() -> None:
    plain = {key: value for key, value in VALUES.items() if key != "classes"}
    packed = pack(plain)
    for made in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), clone(packed)):
        assert made == plain and type(made) is dict and type(made["tuples"][0].y) is list
        made["tuples"][0].y.append(1)
        made["instances"][1].b.append(1)
    assert dataclasses.asdict(pack(Record("a", ["b"]))) == {"name": "a", "tags": ["b"], "next": None}
    assert dataclasses.replace(packed["instances"][0], name="c").tags == ["b"]
    assert json.dumps(pack([{"p": Pair(1, [2]), "l": Level.LOW}])) == '[{"p": [1, [2]], "l": 1}]'
    for value in ([1], {"a": 1}, {1}, frozenset({1})):
        again = type(pack(value))(value)
        assert type(again) is type(value) and again == value
    exec("match packed:\n case {'tuples': [Pair(x=1, y=[2]), *_]}: pass\n case _: assert False", {"packed": packed, "Pair": Pair})


def test_exact_builtins() -> None:
    reports: list[cowfreeze.PackReport] = []
    source = {"l": [1, [2.5]], "d": {}, "s": {1, (2, "t")}, "f": frozenset({3, "u"}), "t": ([],), "text": "x" * 99}
    made = pack(source, readonly=False, report=reports.append)
    assert made == source and [type(v) for v in made.values()] == [type(v) for v in source.values()] and type(made) is dict
    assert reports[0].outside_objects == (7 if not IMMORTAL else 6) and reports[0].outside_bytes > 300
    made["l"].append(made)
    made["l"][1][:] = range(100)
    made["d"].update((str(i), i) for i in range(100))
    made["s"] |= set(range(100))
    made.pop("f")
    gc.collect()
    assert len(made["l"]) == 3 and made["d"]["99"] == 99 and len(made["s"]) == 101 and weakref.ref(frozenset({9}))
    assert made["l"][0:0] == [] and cowfreeze.is_frozen(made["l"]) is IMMORTAL


def test_the_report_says_what_lies_outside() -> None:
    reports: list[cowfreeze.PackReport] = []
    pack([Record("a"), Record("b"), Slotted(1, 2), Pair(1, 2), Color.RED], report=reports.append)
    (report,) = reports
    assert report.outside_objects == (2 if IMMORTAL else 3) and report.outside_bytes > 0 and report.referred_objects >= 4
    assert bool(report.notes) is not IMMORTAL and "outside of it" in str(report)
    assert json.dumps(report.to_dict())
    pack([Pair(1, 2), dt.date(1, 2, 3), uuid.UUID(int=1)] if IMMORTAL else [Pair(1, 2), dt.date(1, 2, 3)], report=reports.append)
    assert reports[1].outside_objects == reports[1].outside_bytes == 0 and not reports[1].notes
    pack([Decimal("9.99") + i % 2 for i in range(100)] + [dt.date(2020, 1, 1 + i % 3) for i in range(99)], report=reports.append)
    assert reports[2].objects <= 6 and reports[2].references == 194


@pytest.mark.skipif(IMMORTAL, reason="its header is this process's alone")
def test_no_class_is_assigned_to_a_shared_header() -> None:
    pair, fresh = pack([Pair(1, 2)])[0], Pair(1, 2)
    for assign in (setattr, object.__setattr__):
        with pytest.raises(TypeError, match="this Pair is packed and read-only"):
            assign(pair, "__class__", Other)
    fresh.__class__ = Other  # type: ignore[assignment]
    assert type(pair) is Pair and type(fresh) is Other


def test_failing_drops_what_lies_outside() -> None:
    class Tracked:
        pass

    ring = Record("x")
    ring.next = [ring, {"deep": ring}, Tracked()]
    for readonly in (True, False):
        for bad in ([ring, lambda: 1], [Slotted([ring], {}), {"k": {1, 2}}, object()]):
            gc.collect()
            before = sum(type(x) in (Record, Tracked, Slotted) for x in gc.get_objects())
            with pytest.raises(TypeError, match="cannot be packed"):
                pack(bad, readonly=readonly)
            assert sum(type(x) in (Record, Tracked, Slotted) for x in gc.get_objects()) == before


def test_arrays() -> None:
    np = pytest.importorskip("numpy")
    a = np.arange(12).reshape(3, 4)
    source = [
        a, a.T, a[::2], np.array(["a", "bb"]), np.zeros(0), np.zeros((0, 3)), np.array(5.0), np.zeros(3, complex), a,
        np.array(["2020-01-01"], "M8[D]"), np.zeros(2, dtype="i4,f8"), np.array([1.5, np.nan], "f2"),
    ]  # fmt: skip
    reports: list[cowfreeze.PackReport] = []
    packed = pack(source, report=reports.append)
    for made, value in zip(packed, source):
        assert made.dtype == value.dtype and made.shape == value.shape and made.tobytes() == value.tobytes()
        for write in (
            lambda made=made: made.flags.__setattr__("writeable", True),
            lambda made=made: made.setflags(write=True),
            lambda made=made: made.__setitem__(..., made),
        ):
            with pytest.raises(ValueError):
                write()
    assert packed[0] is packed[8] and packed[1].flags.f_contiguous and int((packed[0] @ packed[1]).sum()) == int((a @ a.T).sum())
    assert reports[0].outside_objects == 11 and reports[0].table_bytes > a.nbytes * 3
    for bad in (np.array([object()]), np.ma.masked_array([1]), np.float64(1)):
        with pytest.raises(TypeError, match=r"data\[0\]: numpy.* cannot be packed|data\[0\]: \w+ cannot be packed"):
            pack([bad])
    copied = copy.deepcopy(packed)
    copied[0][0, 0] = 5


def test_workers_share_the_new_kinds() -> None:
    result = run_once("pack.cases_packing_kinds", "shared", 4000)
    assert result["same"] and result["known"], result
    assert result["frozen"] <= 8, result  # of hundreds: classes that are referred to have caches
    assert result["copied"] <= 1 << 20, result


def test_a_worker_that_writes_changes_no_sibling() -> None:
    result = run_once("pack.cases_packing_kinds", "written")
    assert result == {"outcomes": ["returned", "returned"], "same": True, "repaired": 0}, result


def test_a_wild_write_is_explained_and_repaired() -> None:
    result = run_once("pack.cases_packing_kinds", "wild")
    assert result["same"] and result["left"] == 0 and result["killed"] is not IMMORTAL, result
    if not IMMORTAL:
        assert "packed data" in result["status"] and "restored" in result["status"], result


def test_shm_does_not_matter() -> None:
    assert run_once("pack.cases_packing_kinds", "shm_full") == {"full": True, "packed": True}


def test_freeze_points_to_pack_where_counts_are_written() -> None:
    assert any("cowfreeze.pack" in note for note in run_once("pack.cases_packing_kinds", "notes_of_a_freeze")) is not IMMORTAL
