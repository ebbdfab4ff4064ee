"""Readers that write: what a worker makes when it asks, and who writes although it only reads."""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import ctypes
import dataclasses
import datetime
import decimal
import fractions
import functools
import gc
import importlib
import ipaddress
import json
import operator
import pathlib
import pickle
import re
import struct
import sys
import types
import uuid
import weakref
import zoneinfo
from collections.abc import Callable
from typing import Any

import cowfreeze
from freeze.zoo import text
from helpers.cases import Skip, copied_by, in_worker, needs, pages_of

COUNT = 3000


@dataclasses.dataclass
class Record:
    number: int
    name: str


class Plain:
    def __init__(self, number: int) -> None:
        self.number = number
        self.name = str(number)


# -- instances --------------------------------------------------------------

ASKING: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "vars": vars,
    "__dict__": lambda obj: obj.__dict__,
    "asdict": dataclasses.asdict,
    "replace": lambda obj: dataclasses.replace(obj, number=1),
    "json": lambda obj: json.dumps(obj, default=vars),
}


def asking(whole_heap: bool) -> dict[str, list[int]]:
    """By way of asking: [pages of the instances, copied without the option, copied with it]."""
    result = {}
    for label, ask in ASKING.items():
        counts = []
        for asked_for in (False, True):
            instances = [Record(number, text()) for number in range(COUNT)]
            pages = pages_of(instances)
            roots = () if whole_heap else (instances,)
            report = cowfreeze.freeze(*roots, instance_dicts=asked_for)
            assert report.instance_dicts >= COUNT * asked_for

            def read(instances: list[Record] = instances, ask: Callable[[Any], object] = ask) -> None:
                for instance in instances:
                    ask(instance)

            counts.append(len(copied_by(read) & pages))
        result[label] = [len(pages), *counts]
    return result


def third_parties() -> dict[str, list[int]]:
    """[pages, copied] for classes of attrs and pydantic, where they are installed."""
    result = {}
    makers: dict[str, tuple[Callable[[int], Any], Callable[[Any], object]]] = {}
    with contextlib.suppress(ImportError):
        import attrs

        made = attrs.make_class("Made", {"number": attrs.field(), "name": attrs.field()})
        makers["attrs"] = (lambda number: made(number, text()), attrs.asdict)
    with contextlib.suppress(ImportError):
        import pydantic

        model = pydantic.create_model("Model", number=(int, ...), name=(str, ...))
        makers["pydantic"] = (lambda number: model(number=number, name=text()), lambda obj: obj.model_dump())
    needs(bool(makers), "neither attrs nor pydantic is installed")
    for label, (make, ask) in makers.items():
        instances = [make(number) for number in range(COUNT)]
        cowfreeze.freeze(instances, instance_dicts=True)

        def read(instances: list[Any] = instances, ask: Callable[[Any], object] = ask) -> None:
            for instance in instances:
                ask(instance)

        pages = pages_of(instances)
        result[label] = [len(pages), len(copied_by(read) & pages)]
    return result


ran: list[str] = []


class OwnDict:
    """Its __dict__ is user code."""

    def __init__(self) -> None:
        self.value = 1

    @property
    def __dict__(self) -> dict[str, int]:  # type: ignore[override]
        ran.append("property")
        return {"other": 2}

    def __getattribute__(self, name: str) -> Any:
        ran.append(name)
        return super().__getattribute__(name)


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class SlottedWithDict:
    __slots__ = ("__dict__", "value")


class Empty:
    pass


class Number(int):
    pass


def behaves() -> dict[str, Any]:
    """Instances with and without a dict made beforehand: no user code, and the same answers."""

    def story(option: bool) -> list[Any]:
        plain, other, empty, number, with_dict = Plain(1), Plain(2), Empty(), Number(7), SlottedWithDict()
        many = Empty()
        for n in range(60):  # more than inline values hold
            setattr(many, f"a{n}", n)
        kinds = [plain, other, empty, number, with_dict, many, OwnDict(), Slotted()]
        ran.clear()
        cowfreeze.freeze(kinds, instance_dicts=option)
        called = list(ran)
        said: list[Any] = [called, vars(empty), vars(number), vars(with_dict), len(vars(many))]
        plain.name = "new"
        plain.__dict__["more"] = [3]
        said += [plain.more, sorted(vars(plain).items())]  # type: ignore[attr-defined]
        del plain.name
        said += [hasattr(plain, "name"), list(vars(plain))]
        plain.__dict__ = {"number": 9}
        said += [plain.number, vars(plain), vars(copy.copy(other)), vars(pickle.loads(pickle.dumps(other)))]
        other.__class__ = Empty  # type: ignore[assignment]
        other.later = 1
        said += [vars(other), type(other).__name__, kinds[6].__dict__, kinds[7].value]
        empty.first = 1  # type: ignore[attr-defined]
        said.append(vars(empty))
        return said

    without, with_option = story(False), story(True)
    return {"same": without == with_option, "ran": with_option[0], "said": repr((without, with_option))}


def dict_notes() -> list[list[str]]:
    """Notes of a freeze without the option and with it."""
    found = []
    for option in (False, True):
        instances = [Record(number, "x") for number in range(40_000)]
        found.append(list(cowfreeze.freeze(instances, instance_dicts=option).notes))
    return found


def no_memory() -> bool:
    """A freeze that finds no memory for what it makes has changed nothing."""
    from cowfreeze import _core
    from helpers.cases import is_marked

    instances = [Record(number, text()) for number in range(100)]
    _core.fail_allocation(2)
    try:
        cowfreeze.freeze(instances, instance_dicts=True)
    except MemoryError:
        return not any(is_marked(instance) for instance in instances)
    finally:
        _core.fail_allocation(-1)
    return False


# -- strings ----------------------------------------------------------------


def utf8_forms() -> list[list[int]]:
    """[pages, copied by asking for UTF-8, forms made, notes about it], without utf8=True and with it.

    As C extensions ask; what in the standard library does varies by patch release.
    """
    result = []
    ask = ctypes.pythonapi.PyUnicode_AsUTF8
    ask.argtypes, ask.restype = [ctypes.py_object], ctypes.c_void_p
    for option in (False, True):
        strings = [f"{text()} größe" for _ in range(20_000)] + ["\ud800 alone"]
        pages = pages_of(strings)
        report = cowfreeze.freeze(strings, utf8=option)

        def read(strings: list[str] = strings) -> None:
            for string in strings[:-1]:
                ask(string)

        notes = sum("UTF-8" in note for note in report.notes)
        result.append([len(pages), len(copied_by(read) & pages), report.utf8_forms, notes])
    return result


# -- time zones -------------------------------------------------------------


def zones() -> dict[str, Any]:
    """Hashes of datetimes with a ZoneInfo; one whose utcoffset is user code is left alone."""
    try:
        berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise Skip("no time zone data") from error
    start = datetime.datetime(2024, 1, 1, tzinfo=berlin)
    dates = [start + datetime.timedelta(minutes=n) for n in range(5000)]
    expected = in_worker(lambda: [hash(date) for date in dates[:50]])
    report = cowfreeze.freeze(dates)
    copied = len(copied_by(lambda: [hash(date) for date in dates] and None) & pages_of(dates))
    called = []

    class Zone(zoneinfo.ZoneInfo):
        def utcoffset(self, when: Any) -> Any:
            called.append(when)
            return super().utcoffset(when)

    mine = cowfreeze.freeze([datetime.datetime(2024, 1, 1, tzinfo=Zone("Europe/Berlin"))]).unwarmed
    early = list(called)
    in_python = importlib.import_module("zoneinfo._zoneinfo").ZoneInfo("Europe/Berlin")
    zoneinfo.ZoneInfo = type(in_python)  # type: ignore[misc]
    python = cowfreeze.freeze([datetime.datetime(2024, 1, day, tzinfo=in_python) for day in range(1, 8)]).unwarmed
    return {
        "pages": len(pages_of(dates)),
        "copied": copied,
        "unwarmed": report.unwarmed,
        "right": expected == [hash(date) for date in dates[:50]],
        "subclass": [mine, len(early)],
        "python": python,
    }


# -- who writes -------------------------------------------------------------


class Cached:
    def __init__(self, number: int) -> None:
        self.number = number

    @functools.cached_property
    def twice(self) -> int:
        return self.number * 2


Pair = collections.namedtuple("Pair", "one two")


@dataclasses.dataclass(frozen=True)
class Frozen:
    number: int


@dataclasses.dataclass
class WithSlots:
    __slots__ = ("number",)
    number: int


class Text(str):
    pass


class Table(dict):  # type: ignore[type-arg]
    pass


KINDS: dict[str, Callable[[int], Any]] = {
    "str": lambda n: text(),
    "str not ASCII": lambda n: text() + "ü",
    "str subclass": lambda n: Text(text()),
    "bytes": lambda n: text().encode(),
    "bytearray": lambda n: bytearray(text().encode()),
    "large int": lambda n: n + (1 << 80),
    "float": lambda n: n / 7,
    "complex": lambda n: complex(n, 1),
    "tuple": lambda n: (n, text()),
    "list": lambda n: [n, text()],
    "dict": lambda n: {"a": n, "b": text()},
    "dict subclass": lambda n: Table(a=n),
    "set": lambda n: {n, text()},
    "frozenset": lambda n: frozenset((n, text())),
    "range": lambda n: range(n, n + 1000),
    "slice": lambda n: slice(n, n + 1000),
    "OrderedDict": lambda n: collections.OrderedDict(a=n),
    "defaultdict": lambda n: collections.defaultdict(list, a=n),
    "Counter": lambda n: collections.Counter(text()),
    "ChainMap": lambda n: collections.ChainMap({"a": n}, {"b": n}),
    "deque": lambda n: collections.deque([n, text()]),
    "named tuple": lambda n: Pair(n, text()),
    "array": lambda n: array.array("d", [n] * 4),
    "SimpleNamespace": lambda n: types.SimpleNamespace(a=n),
    "MappingProxyType": lambda n: types.MappingProxyType({"a": n}),
    "instance": Plain,
    "dataclass": lambda n: Record(n, text()),
    "frozen dataclass": Frozen,
    "dataclass with slots": WithSlots,
    "cached_property": Cached,
    "Decimal": lambda n: decimal.Decimal(n) / 7,
    "Fraction": lambda n: fractions.Fraction(n, 7919),
    "date": lambda n: datetime.date.fromordinal(700_000 + n),
    "time": lambda n: datetime.time(microsecond=n),
    "datetime": lambda n: datetime.datetime.fromordinal(700_000 + n),
    "datetime with timezone": lambda n: datetime.datetime.fromordinal(700_000 + n).replace(
        tzinfo=datetime.timezone.utc
    ),
    "timedelta": lambda n: datetime.timedelta(seconds=n),
    "UUID": lambda n: uuid.UUID(int=n),
    "IPv4Address": lambda n: ipaddress.ip_address(n + (1 << 24)),
    "IPv4Network": lambda n: ipaddress.ip_network((n << 8 | 10 << 24, 24)),
    "Path": lambda n: pathlib.PurePosixPath(f"/data/{n}/x.png"),
    "partial": lambda n: functools.partial(operator.add, n),
    "function": lambda n: lambda: n,
    "method": lambda n: Plain(n).__init__,
    "property": lambda n: property(lambda self: n),
    "itemgetter": lambda n: operator.itemgetter(n, n + 1),
    "pattern": lambda n: re.compile(f"a{n}(b+)"),
    "Struct": lambda n: struct.Struct(f"<{n % 50 + 1}i"),
    "weakref.ref": lambda n: weakref.ref(_referent(n)),
    "class": lambda n: type(f"C{n}", (), {"x": n}),
}
_referents: list[Any] = []


def _referent(number: int) -> Any:
    _referents.append(Plain(number))
    return _referents[-1]


def _numpy_kinds() -> dict[str, Callable[[int], Any]]:
    try:
        import numpy
    except ImportError:
        return {}
    return {
        "numpy array": lambda n: numpy.arange(n, n + 4),
        "numpy scalar": lambda n: numpy.float64(n),
        "numpy array of objects": lambda n: numpy.array([n, text()], dtype=object),
    }


SLOW = {"class": 300, "pattern": 300}
DISTURBING = {"__abstractmethods__", "__annotations__", "__annotate__"}


def read_everything(objects: list[Any]) -> None:
    """Everything that can be asked without changing the answer: attributes, hash, text, items, pickle."""
    names = sorted(set(dir(objects[0])) - DISTURBING)
    for obj in objects:
        for name in names:
            with contextlib.suppress(Exception):
                getattr(obj, name)
        for ask in (hash, str, repr, bool, len, list, sorted, copy.copy, pickle.dumps, operator.index):
            with contextlib.suppress(Exception):
                ask(obj)  # type: ignore[operator]
        with contextlib.suppress(Exception):
            obj == objects[0]  # noqa: B015
        with contextlib.suppress(Exception):
            obj.encode()


def who_writes(instance_dicts: bool, utf8: bool) -> dict[str, list[int]]:
    """By kind: [pages of the objects, those that a worker copied by reading everything of each]."""
    result = {}
    for label, make in {**KINDS, **_numpy_kinds()}.items():
        objects = [make(number) for number in range(SLOW.get(label, 1500))]
        pages = pages_of(objects)
        cowfreeze.freeze(objects, instance_dicts=instance_dicts, utf8=utf8)
        copied = copied_by(lambda objects=objects: read_everything(objects))  # type: ignore[misc]
        result[label] = [len(pages), len(copied & pages)]
    return result


def reads_again() -> list[int]:
    """[pages, copied by reading everything a second time] of all kinds together, in one worker."""
    from cowfreeze import _core

    objects = [[make(n) for n in range(100)] for make in KINDS.values()]
    cowfreeze.freeze(objects, instance_dicts=True, utf8=True)
    pages = {page for few in objects for page in pages_of(few)}
    with _core.Witness() as witness:

        def worker() -> list[list[int]]:
            seen = []
            for _ in range(2):
                for few in objects:
                    read_everything(few)
                seen.append(list(_core.copied_addresses(witness)))
            return seen

        first, second = (set(addresses) for addresses in in_worker(worker))
    return [len(pages), len((second - first) & pages)]


if __name__ == "__main__":
    for label, (pages, copied) in who_writes("dicts" in sys.argv, "utf8" in sys.argv).items():
        print(f"{label:26} {copied:5} of {pages:5}")


def dicts_behind_gc_freeze() -> list[int]:
    """Dicts made beforehand of instances that only a local name holds, without and behind gc.freeze()."""

    def made(first: Callable[[], object]) -> int:
        held = [Plain(number) for number in range(5000)]
        first()
        count = in_worker(lambda: cowfreeze.freeze(instance_dicts=True, allow_forked=True).instance_dicts)
        assert held
        return int(count)

    return [made(lambda: None), made(gc.freeze)]
