"""Extensions that break rules, and Python code that would like to run during a freeze."""

from __future__ import annotations

import pytest
from helpers.child import run_in_child


def test_types_that_lie_to_the_collector() -> None:
    result = run_in_child("freeze.cases_hostile", "lies")
    whole, first_only = [True, True, True], [True, True, False]
    assert result["marked"] == {
        "Liar": first_only,  # what nobody reports stays mortal, and alive
        "Chatterbox": whole,
        "Maker": whole,
        "Raiser": whole,
        "Quitter": first_only,
        "Counter": whole,
        "Opaque": [True, False, False],
        "Null": whole,
    }
    assert result["read"] == 8
    assert result["deallocated"] == 0


def test_they_do_not_stop_a_freeze_of_everything() -> None:
    assert run_in_child("freeze.cases_hostile", "lies_in_the_whole_heap") == 7


def test_an_object_on_the_c_stack() -> None:
    assert run_in_child("freeze.cases_hostile", "on_the_stack") == {"marked": True, "list": True, "value": 3.5}


@pytest.mark.parametrize("whole_heap", [False, True])
def test_no_special_method_runs(whole_heap: bool) -> None:
    assert run_in_child("freeze.cases_hostile", "nobody_is_called", whole_heap) == []


def test_what_comes_back_from_the_dead() -> None:
    result = run_in_child("freeze.cases_hostile", "comes_back")
    assert "callback" in result["events"]
    assert result["gone"] and result["data"]
    assert result["returned"] == 1 and result["phoenix"] == [False]  # what has a finalizer is not frozen
