"""What marker, options and ini keys say about a measurement.

The marker wins over the command line, the command line over the ini file: the marker knows
its test. ``--cow-no-freeze`` alone wins over everything, because it asks another question.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import pytest

from cowfreeze._sizes import check_count, format_size, parse_size

FREEZE = ("data", "heap", "none")

# A worker that only reads frozen data copies 80 to 260 KiB: pages that the interpreter, the
# allocator and the function itself write. Session and test change it by some ten pages.
MAX_COPIED = "1 MB"
# 0 to 8 of these pages hold frozen objects too: small ones (interned names, types) lie beside
# mortal objects of the session, and a page is copied as a whole. As cowfreeze.assert_shared.
# With freeze="heap" every page of the heap holds frozen objects, so the count says the same as
# the bytes and has no default of its own.
MAX_FROZEN = 16
# A warm-up that only reads writes up to 20 pages with frozen objects, which lie beside what it takes
# from the allocator. From here on it is told.
MAX_FROZEN_BY_WARMUP = 64
WORKERS = 2
WARMUP = 1

_PAGE = os.sysconf("SC_PAGE_SIZE")

_NAMES = (
    "max_copied", "max_frozen", "workers", "warmup", "freeze", "preload", "isolated", "timeout",
    "reason",
)  # fmt: skip


class WrongSetting(ValueError):
    """A value that is none; the text names the right form."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure one body, and how much it may copy.

    Attributes:
        max_copied: bytes that each worker may copy.
        max_frozen: how many of its copied pages may hold frozen objects.
        workers: how many are forked.
        warmup: how often the body runs in the zygote before it freezes and forks.
        freeze: "data" (the preloaded values), "heap" (everything) or "none".
        preload: fixtures whose values are the data; None: those that the test asks for.
        isolated: in a fresh interpreter.
        timeout: seconds for all workers together; None: as long as they like.
        reason: why a limit is above the default.
    """

    max_copied: int
    max_frozen: int
    workers: int
    warmup: int
    freeze: str
    preload: tuple[str, ...] | None
    isolated: bool
    timeout: float | None
    reason: str | None


def of_item(item: pytest.Item, **overrides: Any) -> Settings:
    """The settings of a marked test; a marker that is closer to the test wins, key by key.

    Args:
        item: the test.
        overrides: what wins over every marker.

    Raises:
        WrongSetting: an argument of the marker is wrong.
    """
    given: dict[str, Any] = {}
    for mark in item.iter_markers("cow"):
        if mark.args:
            raise WrongSetting(
                f"takes no positional arguments, but has {mark.args!r}: write "
                '@pytest.mark.cow(max_copied="512 KiB")'
            )
        given = {**mark.kwargs, **given}
    unknown = sorted(set(given) - set(_NAMES))
    if unknown:
        raise WrongSetting(
            f"has no argument {', '.join(unknown)}; there are " + ", ".join(_NAMES)
        )
    return make(item.config, {**given, **overrides})


def make(config: pytest.Config, given: Mapping[str, Any]) -> Settings:
    """Settings from what is GIVEN, the options and the ini keys.

    Raises:
        WrongSetting: a value is wrong.
    """
    default = defaults(config)
    try:
        freeze = given.get("freeze", "data")
        if freeze not in FREEZE:
            raise ValueError(f'freeze={freeze!r} is wrong: give "data", "heap" or "none"')
        max_copied = parse_size(given.get("max_copied", default["max_copied"]), "max_copied")
        max_frozen = default["max_frozen"]
        if max_frozen is None:
            max_frozen = MAX_FROZEN if freeze == "data" else max_copied // _PAGE
        made = Settings(
            max_copied=max_copied,
            max_frozen=check_count(given.get("max_frozen", max_frozen), "max_frozen"),
            workers=check_count(given.get("workers", default["workers"]), "workers", least=1),
            warmup=check_count(given.get("warmup", default["warmup"]), "warmup"),
            freeze=freeze,
            preload=_preload(given.get("preload")),
            isolated=_isolated(given.get("isolated", False)),
            timeout=_timeout(given.get("timeout")),
            reason=_reason(given.get("reason")),
        )
        if made.reason is None:
            _check_tolerance(made, default["max_copied"], max_frozen)
    except (TypeError, ValueError) as error:
        raise WrongSetting(str(error)) from None
    if config.getoption("cow_no_freeze"):
        return dataclasses.replace(made, freeze="none")
    return made


def defaults(config: pytest.Config) -> dict[str, Any]:
    """The values where a marker says nothing, as option or ini key give them.

    ``max_frozen`` is None without an ini key: it depends on what is frozen.

    Raises:
        ValueError, TypeError: an ini value is wrong.
    """
    warmup = _ini_count(config, "cow_warmup", 0)
    return {
        "max_copied": parse_size(config.getini("cow_max_copied") or MAX_COPIED, "cow_max_copied"),
        "max_frozen": _ini_count(config, "cow_max_frozen", 0),
        "workers": config.getoption("cow_workers") or _ini_count(config, "cow_workers", 1) or WORKERS,
        "warmup": WARMUP if warmup is None else warmup,
    }


def _ini_count(config: pytest.Config, name: str, least: int) -> int | None:
    text = config.getini(name)
    if not text:
        return None
    try:
        return check_count(int(text), name, least)
    except ValueError:
        raise ValueError(f"{name}={text!r} is wrong: give an int of at least {least}") from None


def _check_tolerance(made: Settings, max_copied: int, max_frozen: int) -> None:
    """A limit above the default says why, so that it is not raised until the test is green."""
    if made.max_copied > max_copied:
        raise ValueError(
            f"max_copied is {format_size(made.max_copied)}, above the default of "
            f'{format_size(max_copied)}, and nothing says why: add reason="..."'
        )
    if made.max_frozen > max_frozen:
        raise ValueError(
            f"max_frozen={made.max_frozen} is above the default of {max_frozen}, and nothing "
            'says why: add reason="..."'
        )


def _preload(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if (
        not isinstance(names, (tuple, list))
        or not names
        or not all(isinstance(name, str) and name.isidentifier() for name in names)
    ):
        raise ValueError(
            f"preload={value!r} does not name fixtures: give a name or several, such as "
            'preload=("index", "words")'
        )
    return tuple(names)


def _isolated(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"isolated={value!r} is wrong: give True or False")
    return value


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"timeout={value!r} is no time: give seconds above 0, or None")
    return float(value)


def _reason(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"reason={value!r} is none: give a sentence")
    return value
