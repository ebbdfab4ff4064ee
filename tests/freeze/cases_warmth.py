"""What a reader would write late, read from the objects themselves.

    str, bytes, tuple     word at 24     (after ob_refcnt, ob_type, length or ob_size)
    frozenset             word at 48     (fill, used, mask, table before it)
    datetime types        word at 16
    Decimal               word at 16

Each offset is checked on a hashed object first.
"""

from __future__ import annotations

import datetime
import decimal
import gc
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import cowfreeze
from helpers.cases import HAS_FLAGS, HAS_IMMORTAL, copied_by, pages_of, word_at
from freeze.zoo import text

Pair = namedtuple("Pair", "one two")
_days = iter(range(1, 10**6))


def _date() -> datetime.date:
    return datetime.date.fromordinal(700_000 + next(_days))


def _aware() -> datetime.datetime:
    zone = datetime.timezone(datetime.timedelta(minutes=next(_days) % 600))
    return datetime.datetime.fromordinal(700_000 + next(_days)).replace(tzinfo=zone)


KINDS: dict[str, tuple[int, Callable[[], Any]]] = {
    "str": (24, text),
    "non-ascii str": (24, lambda: text() + "\u20ac"),
    "str subclass key": (24, lambda: "".join([text(), "x"])),
    "bytes": (24, lambda: text().encode()),
    "frozenset": (48, lambda: frozenset([text(), 7])),
    "date": (16, _date),
    "datetime": (16, lambda: datetime.datetime.fromordinal(700_000 + next(_days))),
    "aware datetime": (16, _aware),
    "time": (16, lambda: datetime.time(microsecond=next(_days))),
    "timedelta": (16, lambda: datetime.timedelta(days=next(_days))),
    "Decimal": (16, lambda: decimal.Decimal(next(_days)) / 7),
}
if HAS_FLAGS:  # 3.14: gh-131525
    KINDS["tuple"] = (24, lambda: (text(), 1, None))
    KINDS["tuple in tuple"] = (24, lambda: ((text(), (b"x", 2.5)), 1))
    KINDS["named tuple"] = (24, lambda: Pair(text(), text()))


def hashes() -> dict[str, list[Any]]:
    """By kind: was the hash missing before, and is it there after the freeze?"""
    result = {}
    for label, (offset, maker) in KINDS.items():
        probe = maker()
        before = word_at(probe, offset)
        known = hash(probe)
        assert word_at(probe, offset) == known, f"{label}: the hash is not at {offset}"
        objects = [maker() for _ in range(300)]
        cold = sum(word_at(obj, offset) == before for obj in objects)
        cowfreeze.freeze(objects, collect=False, seal=False)
        stored = [word_at(obj, offset) for obj in objects]
        right = sum(word == hash(obj) for word, obj in zip(stored, objects))
        result[label] = [cold, right]
    return result


def pages_written_by_hashing() -> dict[str, list[int]]:
    """[pages, copied by a worker that hashes after a freeze] by kind.

    Header writes are not in it where the version cannot avoid them.
    """
    result = {}
    for label, (_, maker) in KINDS.items():
        objects = [maker() for _ in range(5000)]
        pages = pages_of(objects)
        cowfreeze.freeze(objects)

        def read(objects: list[Any] = objects) -> None:
            for obj in objects:
                hash(obj)

        result[label] = [len(pages), len(copied_by(read) & pages) if HAS_IMMORTAL else 0]
    return result


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


hashed: list[int] = []


class Python:
    """A hash that is user code: it must not run inside the freeze."""

    def __hash__(self) -> int:
        hashed.append(1)
        return 5

    def __eq__(self, other: object) -> bool:
        hashed.append(2)
        return self is other


class StrWithHash(str):
    def __hash__(self) -> int:
        hashed.append(3)
        return 6


class Zone(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        hashed.append(4)
        return datetime.timedelta(0)

    def dst(self, when: datetime.datetime | None) -> None:
        hashed.append(5)

    def tzname(self, when: datetime.datetime | None) -> str:
        hashed.append(6)
        return "zone"


def user_code() -> dict[str, Any]:
    """Hashes that need user code are left and counted; a table with them works as before."""
    keys = [Python() for _ in range(5)]
    table: dict[Any, Any] = {key: n for n, key in enumerate(keys)}
    graph = [
        table,
        {StrWithHash("a"): 1},
        frozenset(keys[:2]),  # has its items' hashes in its table
        (keys[0], 1),
        (StrWithHash("b"), 2),
        datetime.datetime(2024, 1, 1, tzinfo=Zone()),
        datetime.time(1, tzinfo=Zone()),
        (Unhashable(), 1),
        (slice(1, 2), 1),  # of built-in parts
        ([], 1),
        decimal.Decimal("sNaN"),
    ]
    hashed.clear()
    report = cowfreeze.freeze(graph)
    ran = list(hashed)
    assert table[keys[3]] == 3
    return {"ran": ran, "unwarmed": report.unwarmed, "notes": list(report.notes)}


def version_tags() -> dict[str, Any]:
    """Type version tags: a worker's first attribute look-up must not write into the type."""
    classes = []
    for n in range(300):
        base = type(f"Base{n}", (), {"attribute": n, "method": lambda self: 1})
        classes.append(type(f"Derived{n}", (base,), {"__slots__": (), "other": n}))
    instances = [cls() for cls in classes]
    pages = pages_of(classes)

    def read() -> None:
        for obj in instances:
            obj.attribute, obj.other, type(obj).attribute  # noqa: B018
            getattr(obj, "missing", None)

    if not HAS_IMMORTAL:
        tags = [_version_tag(cls) for cls in classes]
        cowfreeze.freeze(instances)
        after = [_version_tag(cls) for cls in classes]
        read()
        return {"cold": tags.count(0), "changed": after != [_version_tag(c) for c in classes]}
    cold = [_version_tag(cls) for cls in classes].count(0)
    cowfreeze.freeze(instances)
    copied = len(copied_by(read) & pages)
    return {"cold": cold, "pages": len(pages), "copied": copied, "changed": False}


def _version_tag(cls: type) -> int:
    import ctypes

    # PyTypeObject: tp_version_tag follows tp_del, at the same place in all versions.
    return ctypes.c_uint.from_address(id(cls) + 384).value


def large_values() -> dict[str, Any]:
    """Above 1 MiB a hash costs more than the page: left and counted."""
    values = ["x y" * 500_000, b"x y" * 500_000]
    small = [text()]
    report = cowfreeze.freeze(values, small)
    return {
        "unwarmed": report.unwarmed,
        "large": [word_at(value, 24) for value in values],
        "small": word_at(small[0], 24) != -1,
    }


def deep_tuples(depth: int) -> dict[str, Any]:
    """Tuples in tuples, inner ones above outer ones in memory and below: all warm (3.14)."""
    up: Any = (text(),)
    for _ in range(depth):
        up = (up, 1)
    report = cowfreeze.freeze([up])
    cold, level = 0, up
    while type(level[0]) is tuple:
        cold += word_at(level, 24) == -1
        level = level[0]
    return {"cold": cold, "unwarmed": report.unwarmed}


def debug_strings() -> None:
    """Debug builds assert the intern state of an immortal str, in these operations."""
    values = [text(), text() + "\u20ac", "".join(["cf_", "name", str(id(values_made))])]
    values_made.append(values)
    keys = {value: value for value in values}
    cowfreeze.freeze(values, keys)
    for value in values:
        print(value, file=sys.stderr)
        value.encode(), value.encode("utf-16"), f"{value!s:>40}", value + "x", value.upper()
        keys[value], value.split(), sys.intern(value), repr(value), value[:3], hash(value)
        setattr(Carrier, value, 1)
        getattr(Carrier, value)
        type(value[:5], (), {value: 1})
        int(value[-1:], 36) if value.isascii() else None
        compile(repr(value), value if "\0" not in value else "x", "eval")
        "".join([value, value]).replace(value, "y")
    gc.collect()


values_made: list[Any] = []


class Carrier:
    pass
