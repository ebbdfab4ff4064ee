"""Containers and instances. See zoo.py."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import sys
import types
import typing
from typing import Any

from freeze.zoo_kinds import Plain, kind, name, number, text


class Slotted:
    __slots__ = ("left", "right")


class MoreSlotted(Slotted):
    __slots__ = ("middle",)


class Colour(enum.Enum):
    RED = "zoo red value"
    GREEN = ("zoo", "green", 123456789)


@dataclasses.dataclass
class Record:
    title: str
    tags: list[str]


@dataclasses.dataclass(frozen=True)
class FrozenRecord:
    title: str


class Point(typing.NamedTuple):
    x: Any
    y: Any


class IntWithDict(int):
    pass


class StrWithDict(str):
    pass


class TupleWithDict(tuple[Any, ...]):
    pass


class DictWithDict(dict[Any, Any]):
    pass


class ListWithSlots(list[Any]):
    __slots__ = ("extra",)


# -- containers -------------------------------------------------------------


@kind
def dict_with_str_keys() -> tuple[Any, list[Any]]:
    root = {text(): text() for _ in range(20)}
    return root, [*root.keys(), *root.values()]


@kind
def dict_with_mixed_keys() -> tuple[Any, list[Any]]:
    root = {text(): text(), number(): text(), (text(), 1): text()}
    return root, [*root.keys(), *root.values()]


@kind
def dict_with_deleted_entries() -> tuple[Any, list[Any]]:
    root = {number(): text() for _ in range(100)}
    for key in list(root)[::2]:
        del root[key]
    return root, [*root.keys(), *root.values()]


@kind
def large_dict() -> tuple[Any, list[Any]]:
    root = {text(): number() for _ in range(70_000)}
    return root, [*root.keys(), *root.values()]


@kind
def untracked_tuple_and_dict() -> tuple[Any, list[Any]]:
    pair = (text(), number())
    inner = {text(): number()}
    root = [pair, inner]
    import gc

    gc.collect()  # untracks both, where the version does that
    return root, [pair, *pair, inner, *inner.keys(), *inner.values()]


@kind
def nested_lists() -> tuple[Any, list[Any]]:
    inner = [text(), [text(), (text(), {text()})]]
    return [inner], [inner, inner[0], inner[1], *inner[1], *inner[1][1], *inner[1][1][1]]


@kind
def long_list() -> tuple[Any, list[Any]]:
    root = [text() for _ in range(3000)]
    return root, [root, *root]


@kind
def sets() -> tuple[Any, list[Any]]:
    first, second = {text(), number()}, frozenset([text(), number()])
    return (first, second), [first, second, *first, *second]


@kind
def deque() -> tuple[Any, list[Any]]:
    root = collections.deque(text() for _ in range(300))
    return root, [root, *root]


@kind
def ordered_dict() -> tuple[Any, list[Any]]:
    root = collections.OrderedDict((text(), text()) for _ in range(10))
    root.move_to_end(next(iter(root)))
    return root, [root, *root.keys(), *root.values()]


@kind
def default_dict() -> tuple[Any, list[Any]]:
    factory = functools.partial(list, [text()])
    root: Any = collections.defaultdict(factory)
    root[text()].append(text())
    return root, [root, factory, factory.args[0][0], *root, *root.values()]


@kind
def counter_and_chain_map() -> tuple[Any, list[Any]]:
    counter: Any = collections.Counter({text(): number()})
    chain = collections.ChainMap({text(): text()}, counter)
    return chain, [chain, chain.maps, counter, *counter, *counter.values(), *chain.maps[0]]


@kind
def dict_subclass_with_attributes() -> tuple[Any, list[Any]]:
    root = DictWithDict({text(): text()})
    root.note = text()  # type: ignore[attr-defined]
    return root, [root, *root, *root.values(), root.note]  # type: ignore[attr-defined]


@kind
def mapping_proxy() -> tuple[Any, list[Any]]:
    inner = {text(): text()}
    root = types.MappingProxyType(inner)
    return root, [root, inner, *inner, *inner.values()]


if sys.version_info >= (3, 15):

    @kind
    def frozen_dict() -> tuple[Any, list[Any]]:
        root = frozendict({text(): text(), text(): [text()]})  # type: ignore[name-defined] # noqa: F821
        return root, [root, *root, *root.values(), list(root.values())[1][0]]


# -- instances --------------------------------------------------------------


def _attribute_names(cls: type, names: list[str]) -> list[str]:
    """The very str objects under which instances keep their attributes."""
    probe = cls.__new__(cls)
    for attribute in names:
        setattr(probe, attribute, None)
    return [key for key in probe.__dict__ if key in names]


@kind
def instance_with_inline_values() -> tuple[Any, list[Any]]:
    names = [name() for _ in range(3)]
    cls = type("Inline", (), {})
    root = cls()
    values = [text() for _ in names]
    for attribute, value in zip(names, values):
        setattr(root, sys.intern(attribute), value)
    return root, [root, cls, *values, *_attribute_names(cls, names)]


@kind
def instance_with_materialised_dict() -> tuple[Any, list[Any]]:
    names = [name() for _ in range(3)]
    cls = type("Materialised", (), {})
    root = cls()
    for attribute in names:
        setattr(root, sys.intern(attribute), text())
    values = vars(root)
    return root, [root, values, *values.keys(), *values.values()]


@kind
def instance_with_many_attributes() -> tuple[Any, list[Any]]:
    root = Plain(text(), text())
    for _ in range(60):
        setattr(root, name(), text())
    return root, [root, *vars(root).keys(), *vars(root).values()]


@kind
def slots() -> tuple[Any, list[Any]]:
    root = MoreSlotted()
    root.left, root.right, root.middle = text(), [text()], (text(),)
    return root, [root, root.left, root.right, root.right[0], root.middle, root.middle[0]]


@kind
def subclasses_of_atoms() -> tuple[Any, list[Any]]:
    root: Any = (IntWithDict(number()), StrWithDict(text()), TupleWithDict([text()]))
    for item in root:
        item.note = text()
    return root, [*root, *(item.note for item in root), root[2][0]]


@kind
def list_subclass_with_slots() -> tuple[Any, list[Any]]:
    root = ListWithSlots([text()])
    root.extra = text()
    return root, [root, root[0], root.extra]


@kind
def data_classes() -> tuple[Any, list[Any]]:
    root = (Record(text(), [text()]), FrozenRecord(text()))
    return root, [*root, root[0].title, root[0].tags, root[0].tags[0], root[1].title]


@kind
def named_tuple() -> tuple[Any, list[Any]]:
    root = Point(text(), [text()])
    return root, [root, root.x, root.y, root.y[0], Point]


@kind
def enum_members() -> tuple[Any, list[Any]]:
    return [Colour.RED, Colour.GREEN], [
        Colour.RED,
        Colour.GREEN,
        Colour.GREEN.value,
        Colour.GREEN.value[2],
        Colour,
    ]


@kind
def simple_namespace() -> tuple[Any, list[Any]]:
    root = types.SimpleNamespace(**{name(): text()})
    return root, [root, *vars(root).keys(), *vars(root).values()]


@kind
def exception_without_traceback() -> tuple[Any, list[Any]]:
    root = KeyError(text(), [text()])
    root.__cause__ = ValueError(text())
    return root, [root, *root.args, root.args[1][0], root.__cause__, root.__cause__.args[0]]
