"""Workers walk over a large list and take a reference to each element, nothing more.

The case of a well-known report about Perl, where such a loop un-shares the structure in every
child although it "only reads". Strings are not hashed: only the reference counts are touched.
"""

from __future__ import annotations

from typing import Any

from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.cases.reader import Content


def build(size: int) -> list[list[str]]:
    """SIZE lists of one string each."""
    return [[f"element {i}"] for i in range(size)]


def take(view: Any) -> Content:
    """Refer to every element and to what it holds."""
    count = 0
    for element in view:
        for text in element:
            count += 1
    del element, text
    return count, count, 0, 0


CASE = Case("loop", "a million small lists, of which workers only take references", "lists", 1_000_000, 180, build, take)
