"""The promise, said with the pytest plugin: workers that only read frozen objects share them.

Each body runs in workers; the fixtures that it asks for are frozen before they are forked.
Details, and what cannot be said this way, stand in the tests of freeze and fork_workers.
"""

from __future__ import annotations

import dataclasses
import gc
import pickle
import re
from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from helpers.plugin import needs_immortal

from cowfreeze.bench.cases.reader import read

pytestmark = needs_immortal

COUNT = 10_000


@dataclasses.dataclass
class Record:
    """A mutable instance, the most common thing that an application holds."""

    key: str
    tags: list[str]
    parent: Record | None = None


@dataclasses.dataclass
class Slotted:
    __slots__ = ("key", "value")
    key: str
    value: tuple[float, int]


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return [
        {"id": number, "name": f"name {number}", "tags": [f"t{number % 7}", str(number)]}
        for number in range(COUNT)
    ]


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found: dict[str, Record] = {}
    parent = None
    for number in range(COUNT):
        parent = Record(f"key {number}", [str(number)], parent)
        found[parent.key] = parent
    return found


@pytest.fixture(scope="module")
def mixture() -> list[Any]:
    start = datetime(2020, 1, 1)
    return [
        (
            {number, str(number)},
            frozenset((number, -number)),
            deque([number] * 3),
            OrderedDict(a=number),
            defaultdict(list, {number: [number]}),
            Decimal(number) / 7,
            start + timedelta(minutes=number),
            Slotted(f"s{number}", (number / 3, number)),
            number + (1 << 80),
        )
        for number in range(COUNT // 4)
    ]


@pytest.mark.cow(max_copied="512 KiB")
def test_reading_a_table(table: list[dict[str, Any]]) -> None:
    read(table)


@pytest.mark.cow(max_copied="512 KiB")
def test_collecting_in_the_worker(table: list[dict[str, Any]]) -> None:
    for _ in range(3):
        gc.collect()


@pytest.mark.cow(max_copied="512 KiB")
def test_instances_and_their_attributes(records: dict[str, Record]) -> None:
    for key, record in records.items():
        assert record.key == key
        assert isinstance(record.tags[0], str)
        assert hash(record.key)


@pytest.mark.cow(max_copied="512 KiB")
def test_following_a_chain(records: dict[str, Record]) -> None:
    record: Record | None = records[f"key {COUNT - 1}"]
    length = 0
    while record is not None:
        record = record.parent
        length += 1
    assert length == COUNT


@pytest.mark.cow(max_copied="512 KiB")
def test_many_kinds_of_objects(mixture: list[Any]) -> None:
    for members, frozen, line, order, groups, amount, when, slotted, large in mixture:
        assert large - (1 << 80) in members and large - (1 << 80) in frozen
        assert line[0] == order["a"] == slotted.value[1]
        assert groups[line[0]]
        assert amount >= 0 and when.year >= 2020
        hash((amount, when, large, slotted.key))


@pytest.mark.cow(freeze="heap", max_copied="512 KiB")
def test_the_whole_heap(table: list[dict[str, Any]]) -> None:
    pattern = re.compile(r"name (\d+)")
    for row in table:
        assert pattern.match(row["name"])
    gc.collect()


@pytest.mark.cow(workers=4, max_copied="512 KiB")
def test_four_workers(table: list[dict[str, Any]]) -> None:
    read(table)


def test_it_is_the_freeze_that_does_it(cow: Any, table: list[dict[str, Any]]) -> None:
    """The same body without a freeze copies most of what it reads."""
    frozen = cow.run(read, preload="table")
    plain = cow.run(read, preload="table", freeze="none")
    size = frozen.frozen_bytes
    assert plain.copied > size / 3
    assert frozen.copied < size / 10


def test_the_copy_that_a_worker_sends_away(assert_no_cow: Any) -> None:
    """Pickling writes a reference count per object; frozen ones have none to write."""

    def send(records: list[dict[str, int]]) -> int:
        return sum(len(pickle.dumps(record)) for record in records)

    with assert_no_cow("512 KiB") as measured:
        measured.run(send, preload=lambda: [{"a": n, "b": -n} for n in range(COUNT)])
