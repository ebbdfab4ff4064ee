"""Graphs from recipes: a recipe is plain data, the same recipe makes the same graph twice.

    recipe   [ [kind, seed, [numbers]], ... ]     one entry per object
    numbers  which objects it refers to: of those made before for what is immutable, of all for
             what can be changed after it was made - that is how cycles come about

What a kind cannot hold (a list in a set) is left out, so that every recipe makes a graph.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import itertools
import operator
import types
import uuid
import weakref
from collections.abc import Callable
from typing import Any

Recipe = list[tuple[str, int, list[int]]]
TEXTS = ["plain ascii {}", "latin \xe9\xe8 {}", "bmp \u4e2d\u6587 {}", "astral \U0001f600 {}", "name_{}", ""]


class Attributes:
    """Instances with a dict, which is inlined, materialised or shared, by version and history."""


class Slots:
    __slots__ = ("first", "second", "__weakref__")


class ListWithMore(list[Any]):
    pass


class DictWithMore(dict[Any, Any]):
    __slots__ = ("more",)


@dataclasses.dataclass
class Record:
    one: Any
    many: Any


@dataclasses.dataclass(frozen=True)
class FrozenRecord:
    one: Any


Pair = collections.namedtuple("Pair", ["left", "right"])


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


def text(seed: int) -> str:
    return TEXTS[seed % len(TEXTS)].format(seed)


# -- leaves: from a seed alone ------------------------------------------------

LEAVES: dict[str, Callable[[int], Any]] = {
    "none": lambda seed: None,
    "bool": lambda seed: bool(seed % 2),
    "int": lambda seed: (seed - 500) * 7 ** (seed % 40),
    "float": lambda seed: seed / 7.0,
    "complex": lambda seed: complex(seed, -1),
    "str": text,
    "bytes": lambda seed: b"bytes %d" % seed,
    "bytearray": lambda seed: bytearray(b"x") * (seed % 900),
    "date": lambda seed: datetime.date(1900 + seed % 200, 1 + seed % 12, 1 + seed % 28),
    "datetime": lambda seed: datetime.datetime(2000, 1, 1, tzinfo=zone(seed) if seed % 2 else None),
    "time": lambda seed: datetime.time(seed % 24, seed % 60, tzinfo=zone(seed) if seed % 2 else None),
    "timedelta": lambda seed: datetime.timedelta(seed, 7),
    "decimal": lambda seed: decimal.Decimal(seed) / 7,
    "fraction": lambda seed: fractions.Fraction(seed, 7),
    "uuid": lambda seed: uuid.UUID(int=seed * 10**30),
    "range": lambda seed: range(seed, seed * 10**9, 1 + seed),
    "enum": lambda seed: Colour.RED if seed % 2 else Colour.GREEN,
    "array": lambda seed: array.array("q", range(seed % 50)),
    "class": lambda seed: Attributes,
    "function": lambda seed: text,
    "builtin": lambda seed: len,
    "module": lambda seed: operator,
}


def zone(seed: int) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(minutes=seed % 700), text(seed))


# -- immutable: from what was made before -------------------------------------


def hashable(values: list[Any]) -> list[Any]:
    found = []
    for value in values:
        try:
            hash(value)
        except TypeError:
            continue
        found.append(value)
    return found


def attribute(values: list[Any]) -> Any:
    return values[0] if values else None


def cell_function(value: Any) -> Callable[[], Any]:
    def inner() -> Any:
        return value

    return inner


FINISHED: dict[str, Callable[[int, list[Any]], Any]] = {
    "tuple": lambda seed, values: tuple(values),
    "frozenset": lambda seed, values: frozenset(hashable(values)),
    "namedtuple": lambda seed, values: Pair(text(seed), tuple(values)),
    "slice": lambda seed, values: slice(attribute(values), seed, tuple(values)),
    "partial": lambda seed, values: functools.partial(text, *values, **{f"key_{seed}": seed}),
    "frozen_record": lambda seed, values: FrozenRecord(tuple(values)),
    "proxy": lambda seed, values: types.MappingProxyType(dict.fromkeys(hashable(values), seed)),
    "method": lambda seed, values: types.MethodType(text, attribute(values) or seed + 1000),
    "itemgetter": lambda seed, values: operator.itemgetter(*(values or [seed])),
    "attrgetter": lambda seed, values: operator.attrgetter(f"a_{seed}.b", "c"),
    "cells": lambda seed, values: tuple(cell_function(tuple(values)).__closure__ or ()),
    "property": lambda seed, values: property(None, None, None, text(seed)),
    "alias": lambda seed, values: types.GenericAlias(list, (int, *map(type, values))),
    "exception": lambda seed, values: ValueError(text(seed), *values),
    "iterator": lambda seed, values: iter(tuple(values)),
    "chain": lambda seed, values: itertools.chain(tuple(values), [seed]),
    "memoryview": lambda seed, values: memoryview(b"view %d" % seed),
}

# -- mutable: made empty, filled when all are there ------------------------------


def fill_list(made: Any, seed: int, values: list[Any]) -> None:
    made.extend(values)
    made.append(text(seed))


def fill_dict(made: Any, seed: int, values: list[Any]) -> None:
    for number, value in enumerate(values):
        made[f"key {number}"] = value
        if seed % 3 == 0:
            for key in hashable([value]):
                made[key] = number
    if seed % 5 == 0 and made:
        del made[next(iter(made))]


def fill_set(made: Any, seed: int, values: list[Any]) -> None:
    # Not what is filled later itself and hashes by what it holds: it would change in the set.
    made.update(value for value in hashable(values) if type(value) in SAFE_IN_SETS)
    made.add(text(seed))


def fill_attributes(made: Any, seed: int, values: list[Any]) -> None:
    for number, value in enumerate(values):
        setattr(made, f"attribute_{number}", value)
    if seed % 4 == 0:
        made.__dict__[text(seed)] = seed


def fill_slots(made: Any, seed: int, values: list[Any]) -> None:
    made.first = values
    if seed % 2:
        made.second = text(seed)


def fill_record(made: Any, seed: int, values: list[Any]) -> None:
    made.one, made.many = attribute(values), values


def fill_weak(made: Any, seed: int, values: list[Any]) -> None:
    for value in values:
        try:
            made.append(weakref.ref(value))
        except TypeError:
            made.append(value)


SAFE_IN_SETS = (str, bytes, int, float, complex, datetime.date, datetime.timedelta, uuid.UUID, Colour)

FILLED: dict[str, tuple[Callable[[], Any], Callable[[Any, int, list[Any]], None]]] = {
    "list": (list, fill_list),
    "deque": (collections.deque, fill_list),
    "list_subclass": (ListWithMore, fill_list),
    "dict": (dict, fill_dict),
    "ordered": (collections.OrderedDict, fill_dict),
    "default": (lambda: collections.defaultdict(list), fill_dict),
    "dict_subclass": (DictWithMore, fill_dict),
    "set": (set, fill_set),
    "attributes": (Attributes, fill_attributes),
    "namespace": (types.SimpleNamespace, fill_attributes),
    "slots": (Slots, fill_slots),
    "record": (lambda: Record(None, None), fill_record),
    "weak": (list, fill_weak),
}

KINDS = [*LEAVES, *FINISHED, *FILLED]


def build(recipe: Recipe) -> list[Any]:
    """All objects of the recipe, in its order; the list is the root of the graph."""
    made: list[Any] = []
    for kind, seed, numbers in recipe:
        if kind in LEAVES:
            made.append(LEAVES[kind](seed))
        elif kind in FINISHED:
            made.append(FINISHED[kind](seed, [made[n % len(made)] for n in numbers] if made else []))
        else:
            made.append(FILLED[kind][0]())
    for (kind, seed, numbers), thing in zip(recipe, made):
        if kind in FILLED:
            FILLED[kind][1](thing, seed, [made[n % len(made)] for n in numbers])
    return made
