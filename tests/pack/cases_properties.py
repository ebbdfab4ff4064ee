"""clone and pack of arbitrary plain data: equal, of the same types, and back again."""

from __future__ import annotations

import copy
import pickle
from typing import Any

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
    if kind in ("list", "tuple"):
        return kind, [shape(v) for v in value]
    if kind in ("set", "frozenset"):
        return kind, sorted(repr(shape(v)) for v in value)
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
