"""clone and pack of arbitrary plain data: equal, of the same types, and back again."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import pickle
from typing import Any, NamedTuple

import pytest

from cowfreeze import clone, pack

pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False) | st.binary(max_size=40) | st.text(max_size=20)
    | st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0x10FFFF), max_size=5)
)  # fmt: skip
keys = st.recursive(
    leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=4
)
graphs = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=6)
    | st.tuples(inner, inner)
    | st.dictionaries(keys, inner, max_size=6)
    | st.sets(keys, max_size=6)
    | st.frozensets(keys, max_size=6),
    max_leaves=25,
)


def shape(value: Any) -> Any:
    """What == does not tell: the types, True from 1, -0.0 from 0.0; sets as bags of shapes."""
    kind = value.__class__.__name__
    if kind == "dict":
        return kind, [(shape(k), shape(v)) for k, v in value.items()]
    if kind in ("list", "tuple", "Pair"):
        return kind, [shape(v) for v in value]
    if kind in ("set", "frozenset"):
        return kind, sorted(repr(shape(v)) for v in value)
    if isinstance(value, (Record, Slotted)):
        return kind, shape(value.a), shape(getattr(value, "b", "unset"))
    return kind, repr(value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(graphs)
def test_clone(value: Any) -> None:
    made = clone([value, value])
    assert shape(made) == shape([value, value]) and made == [value, value]
    if isinstance(value, (list, dict, set)):
        assert made[0] is made[1] and made[0] is not value


@settings(max_examples=60, deadline=None, derandomize=True)
@given(graphs)
def test_pack(value: Any) -> None:
    packed = pack([value])[0]
    assert shape(packed) == shape(value) and packed == value
    for made in (clone(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert shape(made) == shape(value) and type(made) is type(value)
    assert shape(pack(packed)) == shape(value)


class Side(enum.Enum):
    LEFT = 1
    RIGHT = "r"


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Record:
    a: Any
    b: Any = None


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and self.a == other.a

    __hash__ = None  # type: ignore[assignment]


zones = st.none() | st.timezones() | st.integers(-1400, 1400).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes), f"z{minutes}" if minutes % 2 else "")
)  # fmt: skip
scalars = (
    st.dates() | st.datetimes() | st.times() | st.timedeltas() | st.datetimes(timezones=zones) | st.decimals(allow_nan=False)
    | st.uuids() | st.fractions() | st.sampled_from(Side) | st.builds(range, st.integers(), st.integers(), st.integers(1))
    | st.datetimes(timezones=zones).map(lambda moment: moment.timetz().replace(fold=1))
)  # fmt: skip
more_keys = st.recursive(
    scalars | leaves, lambda inner: st.tuples(inner, inner) | st.builds(Pair, inner, inner) | st.frozensets(inner, max_size=4), max_leaves=4
)
more = st.recursive(
    scalars | leaves,
    lambda inner: st.lists(inner, max_size=4)
    | st.builds(Pair, inner, inner)
    | st.builds(Record, inner, inner)
    | st.builds(Slotted, inner)
    | st.dictionaries(more_keys, inner, max_size=4)
    | st.sets(more_keys, max_size=12),
    max_leaves=15,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(more)
def test_pack_of_more_kinds(value: Any) -> None:
    for readonly in (True, False):
        packed = pack([value], readonly=readonly)[0]
        assert shape(packed) == shape(value) and packed == value
        for made in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert shape(made) == shape(value) and type(made) is type(value)
        if isinstance(value, dict):
            assert all(packed[key] == value[key] for key in value) and all(packed[key] is packed[key] for key in packed)
        if isinstance(value, set):
            assert all(key in packed for key in value) and len(packed) == len(value)
