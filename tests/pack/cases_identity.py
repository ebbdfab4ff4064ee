"""What a copy must not make one, must not make two, and must not take for all that there is. clone and pack alike."""

from __future__ import annotations

import abc
import collections
import copy
import ctypes
import dataclasses
import decimal
import importlib
import itertools
import json
import math
import pickle
import random
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cowfreeze import clone, pack


def pack_mutable(source: Any) -> Any:
    return pack(source, readonly=False)


COPIES = [clone, pack, pack_mutable]
each = pytest.mark.parametrize("make", COPIES, ids=lambda f: f.__name__)
NANS: list[Callable[[], Any]] = [
    lambda: float("nan"), lambda: complex(float("nan"), 0), lambda: complex(1, float("nan")),
    lambda: decimal.Decimal("NaN"), lambda: decimal.Decimal("-NaN7"),
]  # fmt: skip
each_nan = pytest.mark.parametrize("nan", NANS, ids=["float", "real", "imaginary", "Decimal", "payload"])


# -- NaN ------------------------------------------------------------------------------------------


@each
@each_nan
def test_two_nans_stay_two_keys(make: Any, nan: Any) -> None:
    a, b = nan(), nan()
    made = make({a: 1, b: 2})
    assert len(made) == 2 and sorted(made.values()) == [1, 2]
    assert [made[key] for key in made] == [1, 2] == list(dict(made).values())
    assert made[a] == 1 and made[b] == 2, "the caller's NaN finds its entry, as after copy.deepcopy"
    assert len(make({a, b})) == 2 and a in make({a, b}) and nan() not in make({a, b})


@each
@each_nan
def test_an_entry_is_found_by_its_own_key(make: Any, nan: Any) -> None:
    """In a large table a wrong hash is not found by chance."""
    one = nan()
    for wrap in (
        lambda i: (nan(), i), lambda i: frozenset({nan(), i}), lambda i: (i, frozenset({one})),
        lambda i: (i, (frozenset({(nan(),)}), one)), lambda i: frozenset({one, i}),
    ):  # fmt: skip
        source = {wrap(i): i for i in range(100)}
        made = make(source)
        assert [made.get(key) for key in made] == list(range(100))
        elements = make(set(source))
        assert all(element in elements for element in elements) and len(elements) == 100
        assert elements == set(elements) and dict(made) == made


@each
@each_nan
def test_a_nan_is_the_same_wherever_it_was(make: Any, nan: Any) -> None:
    a, b = nan(), nan()
    values = [a, b, a, (a, b), [a], {"x": a, "y": {"z": b}}]
    made = make([*values, {a: "a", b: "b"}])
    table = made[-1]
    assert (table[made[0]], table[made[1]], table[made[2]], table[made[3][0]]) == ("a", "b", "a", "a")
    assert table[made[4][0]] == "a" and table[made[5]["y"]["z"]] == "b"
    pair = (nan(), 1)
    del a, b, values
    made = make([pair, [pair], {pair: "pair"}, {(2, pair)}])
    assert made[2][made[0]] == made[2][made[1][0]] == "pair" and (2, made[0]) in made[3]


@each
def test_which_nans_are_one_is_as_in_the_source(make: Any) -> None:
    """The pattern of identities of random lists of NaNs, some of them known to nobody else."""
    numbers = random.Random(7)
    for _ in range(50):
        pool = [numbers.choice(NANS)() for _ in range(6)]
        source: list[Any] = []
        for _ in range(40):
            item = numbers.choice(pool) if numbers.random() < 0.6 else numbers.choice(NANS)()
            source.append(numbers.choice([item, (item,), [item], {"k": item}]))

        def pattern(values: Any) -> list[int]:
            seen: dict[int, int] = {}
            leaves = [v["k"] if isinstance(v, dict) else v[0] if isinstance(v, (list, tuple)) else v for v in values]
            return [seen.setdefault(id(leaf), i) for i, leaf in enumerate(leaves)]

        assert pattern(make(source)) == pattern(source)


@each
def test_constants_find_their_entries(make: Any) -> None:
    made = make({math.nan: [1], (math.nan, "x"): [2]})
    assert made[math.nan] == [1] and made[math.nan, "x"] == [2]


# -- equal, and not the same ----------------------------------------------------------------------


@each
def test_equal_values_that_differ(make: Any) -> None:
    values = [
        0.0, -0.0, 0, False, 1, True, 1.0, 1 + 0j, complex(0.0, -0.0), complex(-0.0, 0.0), 0j, "1", b"1",
        decimal.Decimal("1"), decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("-0"), decimal.Decimal("0"),
        2**70, float(2**70), (0.0,), (-0.0,), (1,), (True,), (1.0,), range(0), range(5, 5), frozenset({1}), frozenset({True}),
        frozenset({1.0}), frozenset({0.0}), frozenset({-0.0}), (frozenset({-0.0}), 1), {1: True}, {True: 1}, {1.0: 1}, {-0.0: 0},
    ]  # fmt: skip
    numbers = random.Random(3)
    for _ in range(20):
        source = [numbers.choice(values) for _ in range(200)]
        for wrap in (list, tuple, lambda v: {str(i): x for i, x in enumerate(v)}):
            made = make(wrap(source))
            back = list(made.values()) if isinstance(made, dict) else list(made)
            assert repr(back) == repr(source) and list(map(type, map(copy.copy, back))) == list(map(type, source))


@each
def test_strings_of_another_class_are_refused(make: Any) -> None:
    class Text(str):
        pass

    for value in (Text("a"), ["a", Text("a")], {Text("a"): 1}, ("a", (Text("a"),))):
        with pytest.raises(TypeError):
            make(value)


# -- instances: every byte is accounted for -------------------------------------------------------

T = typing.TypeVar("T")


@dataclasses.dataclass
class Box(typing.Generic[T]):
    a: Any = 1


class SlottedBox(typing.Generic[T]):
    __slots__ = ("a",)


class Named(typing.Protocol):
    def name(self) -> str: ...


class Impl(Named):
    def __init__(self) -> None:
        self.a = [1]


class Abstract(abc.ABC):
    def __init__(self) -> None:
        self.a = [1]


class Weak:
    __slots__ = ("a", "__weakref__")


class WithDict(Weak):
    __slots__ = ("__dict__", "b")


class Row(typing.NamedTuple):
    a: Any


if sys.version_info >= (3, 11):

    class GenericRow(typing.NamedTuple, typing.Generic[T]):
        a: Any


@each
def test_classes_that_class_statements_made(make: Any) -> None:
    slotted, weak, with_dict = SlottedBox[int](), Weak(), WithDict()
    slotted.a, weak.a, with_dict.a, with_dict.b, with_dict.c = [1], [1], [1], [2], [3]  # type: ignore[attr-defined]
    for source in (Box([1]), slotted, Impl(), Abstract(), weak, with_dict, Row([1])):
        made = make(source)
        assert type(made) is type(source) and made.a == [1] and made is not source, type(source)
    made = make(with_dict)
    assert made.b == [2] and made.c == [3] and list(vars(made)) == ["c"]
    if sys.version_info >= (3, 11):
        assert make(GenericRow([1])).a == [1]


class Simulation:
    def __init__(self) -> None:
        self.generator = random.Random(42)


@each
def test_state_of_c_code_is_refused(make: Any) -> None:
    """random.Random would be a generator of zeros, for ever."""
    with pytest.raises(TypeError, match="Random"):
        make(random.Random(1))
    with pytest.raises(TypeError, match=r"\.generator.*Random|generator.*Random"):
        make([Simulation()])


class Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("function", ctypes.c_void_p))


class Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(Slot)),
    )  # fmt: skip


DEFAULT_AND_BASE = 1 << 18 | 1 << 10
_kept: list[Any] = []


def c_type(extra: int) -> type:
    """What PyType_FromSpec makes of EXTRA bytes and no functions: it has all those of a `class` statement."""
    slots, name = (Slot * 1)(), f"spec.Pod{extra}".encode()
    spec = Spec(name, object.__basicsize__ + extra, 0, DEFAULT_AND_BASE, slots)
    _kept.extend([slots, name, spec])
    create = ctypes.pythonapi.PyType_FromSpec
    create.restype, create.argtypes = ctypes.py_object, [ctypes.c_void_p]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create(ctypes.addressof(spec))  # type: ignore[no-any-return]


@each
@pytest.mark.parametrize("extra", [8, 16, 64])
def test_bytes_of_a_c_type_are_refused(make: Any, extra: int) -> None:
    base = c_type(extra)

    class Derived(base):  # type: ignore[misc, valid-type]
        pass

    class WithSlots(base):  # type: ignore[misc, valid-type]
        __slots__ = ("a",)

    for cls in (base, Derived, WithSlots, type("Two", (Derived, Box), {})):
        instance = cls()
        ctypes.memset(id(instance) + object.__basicsize__, 0xAA, extra)
        with pytest.raises(TypeError):
            make({"x": [instance]})
        ctypes.memset(id(instance) + object.__basicsize__, 0, extra)


MODULES = (
    "random asyncio array io json pickle decimal fractions datetime zoneinfo threading queue socket ssl sqlite3 functools "
    "itertools operator collections contextvars struct zlib bz2 lzma hashlib csv xml.etree.ElementTree select ctypes mmap "
    "types weakref typing enum uuid logging email.message http.client unittest.mock concurrent.futures multiprocessing.pool "
    "string statistics numbers ipaddress pathlib tempfile subprocess ast dis inspect symtable locale codecs heapq bisect"
).split()


def subclasses(cls: type) -> Iterator[type]:
    seen, todo = set(), [cls]
    while todo:
        for sub in type.__subclasses__(todo.pop()):
            if sub not in seen:
                seen.add(sub)
                todo.append(sub)
                yield sub


def explained_size(cls: type) -> int:
    """Bytes of an instance that slots, a dict and weak references account for, counted in Python."""
    size = object.__basicsize__ + 8 * (cls.__dictoffset__ > 0) + 8 * (cls.__weakrefoffset__ > 0)
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        slots = (slots,) if isinstance(slots, str) else slots
        size += 8 * len([s for s in slots if s not in ("__dict__", "__weakref__")])
    return size


@pytest.mark.filterwarnings("ignore")
def test_of_all_types_only_explained_ones_are_copied() -> None:
    """A subclass of each class of the standard library: what is copied has no byte that nobody knows."""
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            continue
    tried, copied = 0, 0
    for cls in list(subclasses(object)):
        if issubclass(cls, (type, tuple)) or cls.__module__.startswith(("pytest", "_pytest", "cowfreeze", "spec")):
            continue
        try:
            sub = type("Sub", (cls,), {}) if cls.__flags__ & (1 << 10) else cls
            instance = sub.__new__(sub)
            made = clone(instance)
        except BaseException:  # noqa: BLE001, S112 - a type that cannot be made, or that is refused
            tried += 1
            continue
        if made is instance:
            continue  # an enum member, a time zone
        copied += 1
        if type(made).__basicsize__ != explained_size(type(made)):
            assert type(made) in (int, float, complex, str, bytes, bytearray, range, list, dict, set, frozenset) or (
                type(made).__module__ in ("datetime", "decimal")
            ), cls
    assert tried > 200 and copied > 100


@each
def test_instances_of_aliases_keep_their_alias(make: Any) -> None:
    source = Box[int]([1])
    assert make(source).__orig_class__ == source.__orig_class__  # type: ignore[attr-defined]


# -- order ----------------------------------------------------------------------------------------


class Ordered:
    def __init__(self, names: str) -> None:
        for name in names:
            setattr(self, name, name * 2)


@each
def test_attributes_in_the_order_of_the_instance(make: Any) -> None:
    for names in itertools.permutations("xyz"):
        source = Ordered("".join(names))
        assert list(vars(make(source))) == list(names)
        source = Ordered("".join(names))
        del source.y  # type: ignore[attr-defined]
        source.y = 1  # type: ignore[attr-defined]
        made = make(source)
        assert json.dumps(vars(made)) == json.dumps(vars(source)), "after a deletion, without and with a dict"
        assert json.dumps(vars(make(source))) == json.dumps(vars(source))
        assert pickle.loads(pickle.dumps(made)).__dict__ == source.__dict__
    many = Ordered("".join(reversed("abcdefghijklmnopqrstuvwxyz")))
    assert list(vars(make(many))) == list(vars(many)) and make(collections.OrderedDict is not None) is True


# -- a class's own book-keeping -------------------------------------------------------------------


class Model:
    """As pydantic does it: which attributes were set stands in a slot, and is written by each assignment."""

    __slots__ = ("__dict__", "__fields_set__", "__private__", "tags")

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "__dict__", values)
        object.__setattr__(self, "__fields_set__", set(values))
        object.__setattr__(self, "__private__", {"_p": [1]})
        object.__setattr__(self, "tags", {"x"})

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        self.__fields_set__.add(name)
        self.__private__["_last"] = name


@each
def test_dunder_slots_stay_writable(make: Any) -> None:
    made = make(Model(a=1))
    made.b = [2]
    assert vars(made) == {"a": 1, "b": [2]} and made.__fields_set__ == {"a", "b"} and type(made.__fields_set__) is set
    assert made.__private__ == {"_p": [1], "_last": "b"} and made.tags == {"x"}
    if make is pack:
        with pytest.raises(TypeError, match="read-only"):
            made.tags.add("y")
        with pytest.raises(TypeError, match="read-only"):
            made.__private__["_p"].append(2)


@each
def test_pydantic_models(make: Any) -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")

    class Point(pydantic.BaseModel, extra="allow"):  # type: ignore[misc, name-defined]
        a: int
        b: list[int] = [1]
        _p: int = pydantic.PrivateAttr(5)

    source = Point(a=1, more="x")
    made = make(source)
    assert made == source and made.model_dump() == source.model_dump() == made.model_copy(deep=True).model_dump()
    assert made.model_dump(exclude_unset=True) == {"a": 1, "more": "x"} and json.loads(
        made.model_dump_json(exclude_unset=True)
    ) == {"a": 1, "more": "x"}
    made.a, made.b, made._p, made.other = 2, [3], 6, "y"
    assert made.model_dump(exclude_unset=True) == {"a": 2, "b": [3], "more": "x", "other": "y"} and made._p == 6
    assert source.a == 1 and source._p == 5 and made.model_fields_set == {"a", "b", "more", "other"}
