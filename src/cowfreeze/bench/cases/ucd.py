"""The Unicode Character Database as dicts: `cowfreeze demo`'s data and the case `ucd`.

`unicodedata` is in every CPython, so it needs no download and no licence; as dicts of short
strings, numbers and tuples its records look like what web applications keep in memory.
Unassigned (Cn), private-use (Co) and surrogate (Cs) code points are left out: they have no
properties of their own, so 950,000 equal records would say nothing.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

from cowfreeze.bench.cases.base import Case, deep

_NOT_CHARACTERS = frozenset({"Cn", "Co", "Cs"})
_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def unicode_records(most: int | None = None) -> list[dict[str, Any]]:
    """One dict per assigned character, from the running Python's `unicodedata`; the first MOST."""
    return [*islice(_records(), most)]


def _records() -> Iterator[dict[str, Any]]:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category not in _NOT_CHARACTERS:
            yield _record(code, character, category)


def _record(code: int, character: str, category: str) -> dict[str, Any]:
    # 21 keys: with one more, CPython doubles the dict's key table, and a third of the data would
    # be empty slots, which no reader touches in any of the three ways.
    name = unicodedata.name(character, None)  # control characters have none
    return {
        "code_point": code,
        "label": f"U+{code:04X}",
        "character": character,
        "name": name,
        "words": tuple((name or "").split()),
        "category": category,
        "bidirectional": unicodedata.bidirectional(character),
        "combining": unicodedata.combining(character),
        "decomposition": tuple(unicodedata.decomposition(character).split()),
        "decimal": unicodedata.decimal(character, None),
        "digit": unicodedata.digit(character, None),
        "numeric": unicodedata.numeric(character, None),
        "east_asian_width": unicodedata.east_asian_width(character),
        "mirrored": bool(unicodedata.mirrored(character)),
        "lower": _code_points(character.lower()),
        "upper": _code_points(character.upper()),
        "title": _code_points(character.title()),
        "casefold": _code_points(character.casefold()),
        "normal_forms": tuple(unicodedata.normalize(form, character) for form in _FORMS),
        "utf8": character.encode().hex(" "),
        "identifier": character.isidentifier(),
    }


def _code_points(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def build(size: int) -> list[dict[str, Any]]:
    """The first SIZE records."""
    return unicode_records(size)


CASE = Case(
    "ucd",
    "the Unicode Character Database as dicts: short strings, numbers, tuples",
    "records",
    149_878,
    1600,
    build,
    deep,
)
