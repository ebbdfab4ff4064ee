"""What freeze reaches and where it stops. Cases: tests/freeze/cases_reach.py, cases_deep.py, cases_arrays.py."""

from __future__ import annotations

import sys

import pytest
from freeze import zoo  # only its names: nothing is frozen in this process
from helpers.child import run_in_child, run_once


@pytest.mark.parametrize("kind", sorted(zoo.KINDS))
def test_reaches_everything_of(kind: str) -> None:
    assert run_once("freeze.cases_reach", "every_kind")[kind] == []


def test_agrees_with_an_independent_walker() -> None:
    result = run_in_child("freeze.cases_reach", "compared_with_a_walker")
    assert result["missed"] == []
    assert result["outside"] == [], "not in the graph, but immortal"
    assert 100_000 < result["expected"] < result["everything"] - 10_000


@pytest.mark.parametrize("boundary", ["class", "module", "function", "globals", "code"])
def test_a_boundary_is_marked_and_not_walked(boundary: str) -> None:
    itself, *behind = run_once("freeze.cases_reach", "boundaries")[boundary]
    assert itself
    assert not any(behind)


def test_a_function_root_is_opened_but_not_its_globals() -> None:
    assert run_in_child("freeze.cases_reach", "function_root") == {
        "captured": True,
        "globals": False,
        "behind globals": False,
    }


def test_weak_references_are_not_followed() -> None:
    assert run_in_child("freeze.cases_reach", "weak_references_are_not_followed") == {
        "reference": True,
        "target": False,
        "died": True,
    }


def test_its_own_objects_stay_mortal() -> None:
    result = run_in_child("freeze.cases_reach", "own_objects_stay_mortal")
    assert result == {"data": True, "arguments": False, "report": False, "whole report": False}


# -- depth ------------------------------------------------------------------

SMALL_STACK = 512 << 10  # a C frame per level would need 100 times this


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "instance"])
def test_a_million_levels_on_a_small_stack(kind: str) -> None:
    result = run_in_child("freeze.cases_deep", "chain", kind, 1_000_000, stack_bytes=SMALL_STACK)
    assert result["stack"] == SMALL_STACK, "the limit was not set: nothing was tested"
    assert result["unmarked"] == 0
    assert result["objects"] and result["met"]
    assert result["bytes_per_object"] <= 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_ten_million_levels(kind: str) -> None:
    result = run_in_child("freeze.cases_deep", "chain", kind, 10_000_000, stack_bytes=SMALL_STACK, timeout=300)
    assert result["unmarked"] == 0
    assert result["objects"] and result["met"]
    assert result["bytes_per_object"] <= 8


def test_a_wide_list_needs_little_book_keeping() -> None:
    result = run_in_child("freeze.cases_deep", "wide", 500_000)
    assert result["unmarked"] == 0
    assert result["bytes_per_object"] <= 4


def test_cycles() -> None:
    assert run_in_child("freeze.cases_deep", "cycles") == {"unmarked": []}


# -- numpy ------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "one dimension",
        "three dimensions",
        "fortran order",
        "view",
        "view of a view",
        "no dimension",
        "empty",
        "never set",
        "subclass",
        "structured",
        "numbers",
        "strings",
        "datetimes",
        "in an instance",
    ],
)
def test_reaches_numpy_array(kind: str) -> None:
    assert run_once("freeze.cases_arrays", "object_arrays")[kind] == []


def test_object_fields_of_structured_arrays_are_frozen_or_reported() -> None:
    result = run_in_child("freeze.cases_arrays", "structured_with_objects")
    assert result["array"]
    assert result["unmarked"] == 0 or any("structured" in note for note in result["notes"])


def test_a_frozen_array_is_resized_without_the_check_only() -> None:
    """Before 3.12 a freeze adds one reference, which numpy 2.4 minds and earlier ones do not."""
    result = run_in_child("freeze.cases_arrays", "resized")
    assert result.pop("refused") or sys.version_info < (3, 12)
    assert result.pop("plain") or sys.version_info >= (3, 14), "numpy 2.4 refuses there without a freeze, too"
    assert result == {"sum": 45, "owned": False, "same": True}


def test_a_worker_reads_an_object_array_without_copying_it() -> None:
    result = run_in_child("freeze.cases_arrays", "read_in_worker")
    assert result["plain"] > 0.9 * result["pages"] > 100, "the read does not write mortal objects"
    assert result["frozen"] <= 0.02 * result["pages"]


def test_reserved_address_space_is_not_looked_through() -> None:
    """Every 256 KiB of it used to cost a page fault: ten seconds per TiB."""
    gib = 64
    result = run_in_child("freeze.cases_deep", "beside_reserved_memory", gib)
    assert result["objects"] > 1000
    assert result["faults"] < (gib << 30) // (256 << 10) // 4


def test_more_types_than_there_is_room_for() -> None:
    assert all(run_in_child("freeze.cases_reach", "more_types_than_there_is_room_for"))
