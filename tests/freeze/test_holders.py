"""Frames, generators, greenlets that refer to what is frozen: their references must not count.

Holders: tests/freeze/holders.py; cases: tests/freeze/cases_holders.py.
"""

from __future__ import annotations

import sys

import pytest
from freeze.cases_holders import FROZEN
from helpers.child import run_in_child

VERSION = sys.version_info[:2]
FLAGS = VERSION >= (3, 14)
needs_immortal = pytest.mark.skipif(
    VERSION < (3, 12), reason="before 3.12 every reference is counted in the object"
)
MARK = FROZEN if FLAGS else 0xFFFFFFFF
STORES = 10_000


@needs_immortal
@pytest.mark.parametrize("where", ["here", "whole heap", "thread", "greenlet"])
def test_no_holder_moves_the_count(where: str) -> None:
    results = run_in_child("freeze.cases_holders", "drifts", where, STORES)
    assert len(results) >= 12
    for holder, result in results.items():
        # References that were in flight when the freeze was called may be dropped afterwards: some, once.
        assert MARK - 100 < result["at the freeze"] <= MARK, (holder, result)
        assert result["drift"] == 0, (holder, result)
        assert MARK - 100 < result["at the end"] <= MARK, (holder, result)


@needs_immortal
@pytest.mark.slow
def test_ten_million_stores() -> None:
    results = run_in_child(
        "freeze.cases_holders", "drifts", "here", 10_000_000, ["thread", "generator", "greenlet"], timeout=600
    )
    assert {result["drift"] for result in results.values()} == {0}, results


@needs_immortal
@pytest.mark.parametrize("case", ["below_the_caller", "frame_under_a_greenlet"])
def test_the_frame_that_waits_for_the_freeze(case: str) -> None:
    assert run_in_child("freeze.cases_holders", case, STORES) == {"at the freeze": MARK, "drift": 0}


@needs_immortal
def test_dropping_an_exception_writes_nothing_frozen() -> None:
    assert run_in_child("freeze.cases_holders", "kept_by_a_traceback") is False


@needs_immortal
def test_later_freezes_see_the_same_holders() -> None:
    result = run_in_child("freeze.cases_holders", "later_freezes")
    assert set(result.values()) == {0}, result
    assert len(result) > 10


def test_a_greenlet_still_ends() -> None:
    result = run_in_child("freeze.cases_holders", "greenlets_are_left")
    assert result == {"marked": False, "ended": ["finally"], "dead": True, "skipped": 1}


def test_greenlets_that_cannot_be_read_are_named() -> None:
    (note,) = run_in_child("freeze.cases_holders", "unknown_greenlets")
    assert "greenlet 99.0" in note and "count" in note
