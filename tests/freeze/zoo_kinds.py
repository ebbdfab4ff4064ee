"""The registry of kinds of objects, and values that nobody else has. See zoo.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

Kind = Callable[[], tuple[Any, list[Any]]]
KINDS: dict[str, Kind] = {}
_numbers = itertools.count(10**6)


def text() -> str:
    """A str that nobody else has."""
    return "".join(["zoo value ", str(next(_numbers))])


def name() -> str:
    return "".join(["zoo_", str(next(_numbers))])


def number() -> int:
    return next(_numbers) * 10**6


def kind(maker: Kind) -> Kind:
    KINDS[maker.__name__] = maker
    return maker


class Plain:
    def __init__(self, *values: Any) -> None:
        self.plain_one, self.plain_two = values
