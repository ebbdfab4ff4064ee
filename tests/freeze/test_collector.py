"""The collector, memoryviews, and free memory beside frozen objects. Cases: tests/freeze/cases_collector.py."""

from __future__ import annotations

import sys

import pytest
from helpers.child import run_in_child

FLAGS = sys.version_info >= (3, 14)
both = pytest.mark.parametrize("gc_freeze", [True, False], ids=["gc_freeze", "no_gc_freeze"])


@both
def test_collecting_in_a_worker_copies_nothing_frozen(gc_freeze: bool) -> None:
    result = run_in_child("freeze.cases_collector", "collect_in_worker", gc_freeze)
    assert result["plain"] > 0.9 * result["pages"] > 500
    # Without gc_freeze, mortal objects on the same pages are still written.
    assert result["frozen"] <= (0.02 if gc_freeze else 0.1) * result["pages"]


def test_what_is_frozen_is_untracked() -> None:
    result = run_in_child("freeze.cases_collector", "tracking")
    assert result["before"] == 5
    # Functions stay where live code is found through them (3.14), in the permanent generation.
    assert set(result["tracked"]) <= ({"function"} if FLAGS else set())
    assert result["in lists"] == []
    assert result["permanent"]


def test_without_gc_freeze_the_rest_stays_with_the_collector() -> None:
    assert run_in_child("freeze.cases_collector", "without_gc_freeze") == {"permanent": 0, "tracked": 0}


@both
def test_dying_neighbours_write_to_nothing_frozen(gc_freeze: bool) -> None:
    result = run_in_child("freeze.cases_collector", "dying_neighbours", gc_freeze)
    assert result == {"changed": 0, "mortal": 0}


def test_garbage_is_collected_though_the_collector_is_off() -> None:
    result = run_in_child("freeze.cases_collector", "garbage_with_the_collector_off")
    assert result == {"alive before": 20, "alive after": 0, "deaths": 20, "enabled": False}


def test_collect_false_collects_nothing() -> None:
    result = run_in_child("freeze.cases_collector", "garbage_without_collect")
    assert result == {"alive": True, "untracked": False}


def test_a_finaliser_may_change_the_graph() -> None:
    assert run_in_child("freeze.cases_collector", "finaliser_changes_the_graph") == {"added": 1, "frozen": True}


def test_a_gc_callback_of_the_freeze_may_not_freeze() -> None:
    result = run_in_child("freeze.cases_collector", "callback_freezes")
    assert result == {"refused": True, "inner": False, "outer": True}


def test_allocations_of_a_worker_do_not_land_on_frozen_pages() -> None:
    sealed = run_in_child("freeze.cases_collector", "free_blocks", True)
    unsealed = run_in_child("freeze.cases_collector", "free_blocks", False)
    assert unsealed["copied"] > 0.9 * unsealed["pages"] > 1000, "nothing was planted"
    assert unsealed["sealed"] == 0 < sealed["sealed"] < 16 << 20
    assert sealed["copied"] <= 0.01 * sealed["pages"]


def test_every_layout_is_known() -> None:
    """A patch release that moves a field switches its feature off; here it must be on."""
    result = run_in_child("freeze.cases_collector", "pools_are_known")
    assert result == {"pools": True, "frames": True, "shared keys": True, "pages": True}


@pytest.mark.parametrize("whole_heap", [False, True], ids=["roots", "whole_heap"])
def test_memoryviews_can_be_released_afterwards(whole_heap: bool) -> None:
    result = run_in_child("freeze.cases_collector", "memoryviews", whole_heap)
    assert result["worker"] and result["parent"]
    assert not any(result["marked"]) and all(result["tracked"])
    assert result["exporter"], "what is behind a memoryview is data"
    assert result["skipped"] >= 8  # four views and their buffers


@pytest.mark.parametrize("way", ["roots", "whole heap", "returns"])
def test_weak_references_whose_referent_dies(way: str) -> None:
    """The collector moves those with a callback to another list, and must find them in one."""
    result = run_in_child("freeze.cases_collector", "weak_references", way)
    assert not result["marked"]
    if way == "whole heap" and sys.version_info < (3, 11):
        assert not result["ended"]  # its frozen __dict__ holds it
    else:
        assert result["ended"] and result["left"] == [0, 0]
    assert result["told"] >= 2


def test_weak_references_to_what_is_frozen_are_frozen() -> None:
    result = run_in_child("freeze.cases_collector", "weak_references", "frozen")
    assert result == {"ended": False, "left": [1, 1], "marked": True, "told": 0}
