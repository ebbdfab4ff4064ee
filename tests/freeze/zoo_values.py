"""Callables, code and values. See zoo.py."""

from __future__ import annotations

import array
import contextvars
import datetime
import decimal
import fractions
import functools
import ipaddress
import itertools
import operator
import pathlib
import re
import types
import typing
import uuid
import weakref
import xml.etree.ElementTree
from collections.abc import Iterator
from typing import Any

from freeze.zoo_kinds import Plain, kind, name, number, text


class AwareDatetime(datetime.datetime):
    pass


# -- callables --------------------------------------------------------------


@kind
def bound_methods() -> tuple[Any, list[Any]]:
    one, many = Plain(text(), text()), [text()]
    root = [one.__init__, many.append]  # type: ignore[misc]
    return root, [*root, one, one.plain_one, many, many[0], Plain.__init__]


@kind
def partial() -> tuple[Any, list[Any]]:
    root = functools.partial(operator.add, text(), **{name(): [text()]})
    value = next(iter(root.keywords.values()))
    return root, [root, root.args[0], *root.keywords, value, value[0]]


@kind
def closure_of_a_root() -> tuple[Any, list[Any]]:
    captured, deep = [text()], text()

    def inner() -> str:
        return deep

    def root(a: Any = [text()], *, b: Any = (text(), 2)) -> Any:
        return captured, inner, a, b

    root.note = text()  # type: ignore[attr-defined]
    cells = [cell.cell_contents for cell in root.__closure__ or ()]
    keyword = (root.__kwdefaults__ or {})["b"]
    default = (root.__defaults__ or ())[0]
    return root, [root, *cells, captured[0], default, default[0], keyword, keyword[0], root.note]  # type: ignore[attr-defined]


@kind
def cell() -> tuple[Any, list[Any]]:
    root = types.CellType([text()])
    return root, [root, root.cell_contents, root.cell_contents[0]]


@kind
def operator_objects() -> tuple[Any, list[Any]]:
    key = text()
    attribute = text()
    root = [
        operator.itemgetter(key),
        operator.methodcaller(name(), [attribute]),
        property(None, None, None, None),
    ]
    return root, [*root, key, attribute]


@kind
def static_and_class_method() -> tuple[Any, list[Any]]:
    inner = functools.partial(print, text())
    root = [staticmethod(inner), classmethod(inner), functools.cached_property(inner)]
    return root, [*root, inner, inner.args[0]]


@kind
def code_object_as_root() -> tuple[Any, list[Any]]:
    source = f"def f(a_{name()}):\n    return {text()!r}, {number()}, ({text()!r}, 2.5)\n"
    root = compile(source, text(), "exec")
    inner = next(c for c in root.co_consts if isinstance(c, types.CodeType))
    return root, [root, root.co_consts, root.co_filename, root.co_names, inner]


@kind
def code_object_opened() -> tuple[Any, list[Any]]:
    namespace: dict[str, Any] = {}
    source = f"def f(a):\n    return {text()!r}, {number()}, ({text()!r}, a), a.{name()}\n"
    exec(compile(source, text(), "exec"), namespace)
    root = namespace["f"].__code__
    constants = [c for c in root.co_consts if c is not None]
    return root, [root, *constants, *root.co_names, root.co_filename]


@kind
def type_as_root() -> tuple[Any, list[Any]]:
    attribute, value = name(), text()
    root = type(name(), (Plain,), {attribute: value, "__slots__": (name(),), "__doc__": text()})
    member = root.__dict__[root.__slots__[0]]  # type: ignore[attr-defined]
    return root, [
        root,
        value,
        root.__name__,
        root.__mro__,
        root.__bases__,
        root.__doc__,
        member,
        root.__slots__[0],  # type: ignore[attr-defined]
        next(key for key in root.__dict__ if key == attribute),
    ]


@kind
def renamed_type_as_root() -> tuple[Any, list[Any]]:
    root = type(name(), (), {})
    root.__name__, root.__qualname__ = text(), text()
    return root, [root, root.__name__, root.__qualname__]


@kind
def member_descriptor() -> tuple[Any, list[Any]]:
    cls = type(name(), (), {"__slots__": (name(),)})
    root = cls.__dict__[cls.__slots__[0]]  # type: ignore[attr-defined]
    return root, [root, cls, root.__name__]


@kind
def module_as_root() -> tuple[Any, list[Any]]:
    root = types.ModuleType(name(), text())
    setattr(root, name(), [text()])
    value = next(v for v in vars(root).values() if type(v) is list)
    return root, [root, vars(root), value, value[0], root.__name__, root.__doc__]


# -- values -----------------------------------------------------------------


@kind
def datetimes() -> tuple[Any, list[Any]]:
    zones = [
        datetime.timezone(datetime.timedelta(minutes=n), text()) for n in (7, 8, 9)
    ]
    root = [
        datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=zones[0]),
        datetime.time(1, 2, 3, tzinfo=zones[1]),
        AwareDatetime(2024, 1, 2, tzinfo=zones[2]),
        datetime.date(2024, 1, 2),
        datetime.timedelta(123, 4),
    ]
    offsets = [zone.utcoffset(None) for zone in zones]
    labels = [zone.tzname(None) for zone in zones]
    return root, [*root, *zones, *offsets, *labels]


@kind
def numbers() -> tuple[Any, list[Any]]:
    root = [
        decimal.Decimal(text()[10:]),
        fractions.Fraction(number(), number() + 1),
        float(number()),
        complex(number(), 1),
        number() ** 9,
    ]
    return root, [*root, root[1].numerator, root[1].denominator]  # type: ignore[union-attr]


@kind
def regular_expressions() -> tuple[Any, list[Any]]:
    pattern = re.compile("(?P<zoo_group>" + text() + ")")
    subject = pattern.pattern[14:-1]
    match = pattern.match(subject)
    assert match is not None
    return [pattern, match], [pattern, match, pattern.pattern, match.string]


@kind
def ranges_and_slices() -> tuple[Any, list[Any]]:
    root = [range(number(), number() * 3, 100_003), slice(number(), text(), [text()])]
    return root, [
        *root,
        root[0].start,
        root[0].stop,
        root[0].step,
        root[1].start,
        root[1].stop,
        root[1].step,
        root[1].step[0],  # type: ignore[index]
    ]


@kind
def iterators() -> tuple[Any, list[Any]]:
    items = [text(), text()]
    start = 10**30 + number()
    root: list[Iterator[Any]] = [
        iter(items),
        enumerate(items, start),
        zip(items, (text(),)),
        map(str, {text(): 1}),
        itertools.chain([text()]),
        itertools.repeat(text()),
        reversed(items),
    ]
    return root, [*root, items, *items]


@kind
def binary() -> tuple[Any, list[Any]]:
    root = [text().encode(), bytearray(text().encode()), array.array("d", [1.0, 2.0])]
    return root, [*root]


@kind
def buffer_behind_a_memoryview() -> tuple[Any, list[Any]]:
    exporter = bytearray(text().encode())
    return [memoryview(exporter)[1:]], [exporter]


@kind
def generic_alias() -> tuple[Any, list[Any]]:
    argument = type(name(), (), {})
    root = dict[str, argument]  # type: ignore[valid-type]
    return root, [root, root.__args__, argument]  # type: ignore[attr-defined]


@kind
def context_variable() -> tuple[Any, list[Any]]:
    default = [text()]
    root = contextvars.ContextVar(name(), default=default)
    return root, [root, default, default[0], root.name]


@kind
def xml_element() -> tuple[Any, list[Any]]:
    root = xml.etree.ElementTree.Element(text(), {text(): text()})
    child = xml.etree.ElementTree.SubElement(root, text())
    root.text = text()
    return root, [root, root.tag, root.attrib, *root.attrib, child, child.tag, root.text]


@kind
def values_of_library_classes() -> tuple[Any, list[Any]]:
    root = [uuid.UUID(int=number()), pathlib.PurePath(text()), ipaddress.ip_address(number())]
    return root, [*root, root[0].int]  # type: ignore[union-attr]


@kind
def weak_reference() -> tuple[Any, list[Any]]:
    target = Plain(text(), text())
    root = [weakref.ref(target), target]
    return root, [*root]


@kind
def type_variable() -> tuple[Any, list[Any]]:
    bound = type(name(), (), {})
    root = typing.TypeVar(name(), bound=bound)  # type: ignore[misc]
    return root, [root, bound]
