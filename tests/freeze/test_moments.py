"""freeze() inside of the collector, of handlers and finalizers, and beside sub-interpreters.

Cases: tests/freeze/cases_moments.py.
"""

from __future__ import annotations

import sys

import pytest
from freeze.cases_moments import MOMENTS
from helpers.child import run_in_child

VERSION = sys.version_info[:2]
INSIDE = ("gc callback, start", "gc callback, stop", "finalizer of garbage")


@pytest.mark.parametrize("freeze", [False, True], ids=["plain", "frozen"])
def test_pending_callbacks_of_weak_references_are_called(freeze: bool) -> None:
    result = run_in_child("freeze.cases_moments", "weak_callbacks", freeze)
    assert result == {"stale": 0, "answers": ["refused"] * 2 if freeze else []}


@pytest.mark.parametrize("whole", [False, True], ids=["data", "heap"])
def test_callbacks_without_a_collection_are_called_too(whole: bool) -> None:
    result = run_in_child("freeze.cases_moments", "weak_callbacks_without_a_collection", whole)
    assert result == {"stale": 0, "called": 3, "answers": ["frozen"], "kept": 3}


@pytest.mark.parametrize("label", list(MOMENTS))
def test_a_freeze_at_an_odd_moment(label: str) -> None:
    result = run_in_child("freeze.cases_moments", "moment", label)
    answer = "refused" if label in INSIDE else "frozen"
    assert set(result["answers"]) == {answer}
    assert result["marked"] == (answer == "frozen")
    assert result["afterwards"]


def test_a_freeze_in_an_atexit_handler() -> None:
    assert run_in_child("freeze.cases_moments", "at_exit") == []


@pytest.mark.parametrize("whole", [False, True], ids=["data", "heap"])
def test_the_exit_goes_on_after_it(whole: bool) -> None:
    run_in_child("freeze.cases_moments", "at_exit_and_on", whole)


def test_another_thread_is_inside_of_the_collector() -> None:
    result = run_in_child("freeze.cases_moments", "half_way_through_a_thread")
    assert result == {"answers": ["refused", "frozen"]}


# -- sub-interpreters -------------------------------------------------------

KINDS = ["legacy", "isolated"]


@pytest.mark.parametrize("kind", KINDS)
def test_beside_an_interpreter_it_is_refused_by_name(kind: str) -> None:
    assert run_in_child("freeze.cases_moments", "beside_an_interpreter", kind) == {
        "answers": ["refused", "refused"],
        "marked": False,
        "packed": True,
        "afterwards": True,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_interpreter_may_be_made_afterwards(kind: str) -> None:
    result = run_in_child("freeze.cases_moments", "made_afterwards", kind)
    assert result == {"same": True, "marked": True}


@pytest.mark.parametrize("first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_switched_off_there_and_works_here(kind: str, first: bool) -> None:
    said = run_in_child("freeze.cases_moments", "imported_there", kind, first)
    if VERSION >= (3, 12):
        assert "this is a sub-interpreter" in said["there"]
        assert said["here"] == "0"
    else:
        refused = said["here" if first else "there"]
        assert "only be loaded into one interpreter per process" in refused
