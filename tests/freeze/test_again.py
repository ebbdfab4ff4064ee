"""Freezing twice, and failing: what was there before stays as it was.

Cases: tests/freeze/cases_again.py, cases_atomic.py.
"""

from __future__ import annotations

import pytest
from helpers.child import run_in_child

both = pytest.mark.parametrize("whole_heap", [False, True], ids=["roots", "whole_heap"])


def test_idempotent() -> None:
    result = run_in_child("freeze.cases_again", "idempotent")
    assert result["first"]
    assert result["again"] == [0, 0, 0]
    assert result["by_type"] == {}
    assert result["changed"] == 0
    assert result["pages"] == [True, True, True], "pages of what this call froze"


def test_a_second_freeze_takes_what_is_new_and_writes_nothing_old() -> None:
    result = run_in_child("freeze.cases_again", "grows")
    assert result["unmarked"] == 0 and result["tracked"] == 0
    assert result["changed"] == 0
    new, second, first = result["objects"]
    assert new <= second < first / 10


def test_a_second_freeze_writes_no_old_page() -> None:
    result = run_in_child("freeze.cases_again", "second_freeze_writes_no_old_page")
    assert result["planted"] >= 50, "the page count does not see writes"
    # Mortal neighbours may be written; every page of the graph would be otherwise.
    assert result["copied"] <= 0.1 * result["pages"]


def test_the_whole_heap_twice() -> None:
    result = run_in_child("freeze.cases_again", "whole_heap_twice")
    assert result["unmarked"] == 0
    assert 900 <= result["second"] < 0.1 * result["first"]


def test_what_gc_freeze_put_away_is_found() -> None:
    result = run_in_child("freeze.cases_again", "data_after_gc_freeze")
    assert result["unmarked"] == 0


def test_a_dry_run_writes_nothing() -> None:
    result = run_in_child("freeze.cases_again", "dry_run")
    assert result["changed"] == 0
    assert result["copied"] <= 0.2 * result["pages"]
    assert result["unmarked"] and result["untouched"]
    for label in ("objects", "bytes", "skipped"):
        dry, wet = result[label]
        assert dry == wet, label
    assert result["words"] == [True, True, True, False]
    assert result["sane"]


def test_a_dry_run_of_the_whole_heap_leaves_the_permanent_generation() -> None:
    result = run_in_child("freeze.cases_again", "dry_run_after_gc_freeze")
    assert result["permanent"] > 1000
    assert result["dry"] == result["failed"] == result["permanent"]
    assert result["still young"], "a dry run puts nothing away"
    assert result["still tracked"], "nor does gc_freeze=False"
    assert result["found"] > result["permanent"] / 2


@both
def test_failing_book_keeping_memory_changes_nothing(whole_heap: bool) -> None:
    result = run_in_child("freeze.cases_atomic", "book_keeping", whole_heap)
    assert result["requests"] >= 5, "no allocation failed: nothing was tested"
    assert result["problems"] == []
    (message,) = result["messages"]
    assert "nothing was frozen" in message and "ulimit" in message
    marked, objects = result["marked"]
    assert marked == objects, "the last attempt had all its memory"
    # Each freeze reserves at least a MiB: twenty that give theirs back stay below one.
    assert result["grows"] < 1 << 20


def test_failures_leak_no_book_keeping() -> None:
    result = run_in_child("freeze.cases_atomic", "leaks_of_failures")
    assert result["first"] == result["last"] < 1 << 20


@both
def test_failing_python_memory_changes_nothing(whole_heap: bool) -> None:
    outcomes = run_in_child("freeze.cases_atomic", "python_memory", whole_heap)
    assert set(outcomes) == {"frozen", "MemoryError"}, outcomes
    assert outcomes["MemoryError"] >= 10


def test_no_address_space_changes_nothing() -> None:
    result = run_in_child("freeze.cases_atomic", "address_space")
    assert result["outcomes"][0] == "MemoryError"
    assert set(result["outcomes"]) <= {"MemoryError", "frozen"}
    assert result["then"]


def test_extra_memory() -> None:
    """At most 8 bytes per object at the peak, by the report and by the kernel.

    What is kept until the process ends is a bit for every 8 bytes of frozen memory."""
    result = run_in_child("freeze.cases_atomic", "extra_memory", 200_000)
    assert result["objects"] > 1_000_000
    assert 0 < result["reported"] <= 8
    assert result["measured"] <= 8
    assert result["kept"] <= 2


def test_book_keeping_counts_what_is_passed_over() -> None:
    assert run_in_child("freeze.cases_atomic", "bytes_for_what_is_left") > 800_000
