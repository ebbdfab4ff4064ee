"""The whole heap, and freezes at odd moments. Cases: tests/freeze/cases_whole.py.

Each process ends in the ordinary way, with finalisation: status 0 is part of every test.
"""

from __future__ import annotations

import sys

import pytest
from helpers.child import run_in_child


@pytest.mark.parametrize("before", [False, True], ids=["cold", "warm"])
def test_everything_goes_on_working(before: bool) -> None:
    result = run_in_child("freeze.cases_whole", "frozen", before)
    assert result["workers"] == [1, 1]
    assert result["objects"] > 20_000 and result["second"] > 0
    assert result["text"] and all(result["marked"])


def test_data_of_every_kind_in_a_frozen_heap() -> None:
    result = run_in_child("freeze.cases_whole", "zoo_in_a_frozen_heap")
    assert result["missed"] == {} and result["read"]


def test_workers_read_a_frozen_heap_without_copying_it() -> None:
    result = run_in_child("freeze.cases_whole", "read_by_workers")
    assert result["pages"] > 1000
    assert result["copied"] <= 0.01 * result["pages"]


def test_while_something_is_being_built() -> None:
    result = run_in_child("freeze.cases_whole", "half_built")
    assert result["n"] > 80
    assert result["wrong"] == []


def test_while_a_tuple_is_full_and_not_finished() -> None:
    """tuple(iterator) asks once more when its guessed size is used up, and then resizes."""
    assert run_in_child("freeze.cases_whole", "full_tuple") == {"wrong": []}


def test_while_a_list_is_being_sorted() -> None:
    # Its table is gone meanwhile, and its size reads as -1.
    assert run_in_child("freeze.cases_whole", "half_sorted", timeout=20) == {"sorted": True, "marked": True}


def test_from_methods_and_coroutines_and_except_blocks() -> None:
    result = run_in_child("freeze.cases_whole", "in_methods")
    assert result["marked"]
    assert not result["exception"]
    assert result["skipped"] == {"exception with a traceback": 1}


def test_under_a_tracer() -> None:
    result = run_in_child("freeze.cases_whole", "tracing")
    assert result == {"marked": True, "seen": True}


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc_debug", "malloc_debug"])
def test_with_another_allocator(allocator: str) -> None:
    result = run_in_child("freeze.cases_whole", "frozen", False, environment={"PYTHONMALLOC": allocator})
    assert result["workers"] == [1, 1]


@pytest.mark.parametrize("option", ["-O", "-Xdev", "-Ximporttime", "-Xtracemalloc"])
def test_with_an_interpreter_option(option: str) -> None:
    result = run_in_child("freeze.cases_whole", "frozen", False, options=(option,))
    assert result["workers"] == [1, 1]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="mimalloc came with 3.13")
def test_with_mimalloc() -> None:
    result = run_in_child("freeze.cases_whole", "frozen", False, environment={"PYTHONMALLOC": "mimalloc"})
    assert result["workers"] == [1, 1]
