"""Causes in seven groups, each with a colour.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any
common form of colour blindness tell apart; on the dark ground the blue is lighter. What is
shared is grey, so that colour means damage.
"""

from __future__ import annotations

from typing import NamedTuple


class Group(NamedTuple):
    """One colour of the map."""

    name: str
    light: str  # on a white ground
    dark: str  # on a black ground


COUNTS = Group("reference counts", "#d55e00", "#e8702a")
COLLECTOR = Group("garbage collector", "#e69f00", "#f0b429")
CACHES = Group("caches filled late", "#0072b2", "#4a9fe0")
CONTENTS = Group("contents changed", "#cc79a7", "#e08fbb")
ALLOCATOR = Group("allocator", "#009e73", "#2bbf94")
SYSTEM = Group("interpreter, stack, libraries", "#56b4e9", "#8fd0f5")
UNKNOWN_CAUSE = Group("unknown", "#1a1a1a", "#fafafa")
GROUPS = (COUNTS, COLLECTOR, CACHES, CONTENTS, ALLOCATOR, SYSTEM, UNKNOWN_CAUSE)

SHARED = Group("shared", "#cfd4da", "#4a5058")
FROZEN = Group("shared, frozen", "#b3bfcc", "#5d6b7a")

_BY_KIND = {"allocator": ALLOCATOR, "interpreter": SYSTEM, "stack": SYSTEM, "library": SYSTEM}
_CACHES = (
    "cached hash", "UTF-8 cache", "type version tag", "type cache", "inline cache or counter",
    "function version", "dict table header", "attribute names of the class",
    "instance dict or weak references",
)  # fmt: skip


def group_of(kind: str, field: str) -> Group:
    """The group of a cause, by its KIND and FIELD."""
    if kind != "object":
        return _BY_KIND.get(kind, UNKNOWN_CAUSE)
    if field == "reference count":
        return COUNTS
    if field == "GC header":
        return COLLECTOR
    return CACHES if field in _CACHES else CONTENTS
