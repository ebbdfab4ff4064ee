"""Relocated code. Cases: tests/freeze/cases_relocate.py, each in a process of its own.

CPython's own suite is the other half of this test; docs/internals/heap.md says where it was run.
"""

from __future__ import annotations

import sys

import pytest
from helpers.child import run_in_child

RELOCATES = sys.version_info >= (3, 12)
SEES_WHAT_RAN = sys.version_info >= (3, 13)
ALL = ["comprehensions", "delegating", "everything", "failing", "generator", "numbers", "recursive", "step"]
needs_relocation = pytest.mark.skipif(not RELOCATES, reason="code is relocated from 3.12 on")


@needs_relocation
def test_moved_code_runs() -> None:
    result = run_in_child("freeze.cases_relocate", "runs_on")
    # 3.12 sees what was written since; the generator that is suspended had run before.
    assert set(result["moved"]) | (set() if SEES_WHAT_RAN else {"generator"}) == set(ALL)
    codes, size, again = result["report"]
    assert codes == again > 20 and size > 200 * codes
    assert any(f"{codes:,} code objects were moved" in note for note in result["notes"])
    for name in ("rest", "coroutine", "answers", "after"):
        assert result[name] is True, name
    assert result["worker"] == [True, True]
    assert result["second"] < codes / 2, "what was moved stays where it is"


@needs_relocation
def test_moved_code_can_be_looked_at_and_traced() -> None:
    result = run_in_child("freeze.cases_relocate", "looked_at")
    assert result.pop("moved") == ALL
    assert result.pop("signature") == "(amount: 'int', rate: 'float' = 0.5) -> 'None'"
    assert result == dict.fromkeys(result, True)


@needs_relocation
def test_who_watches_code_is_named() -> None:
    result = run_in_child("freeze.cases_relocate", "watched")
    for case, words in {
        "trace": "sys.settrace",
        "profile": "sys.setprofile",
        "monitoring": "'cov of the test'",
        "in the warm-up": "sys.settrace",
    }.items():
        (note,) = (note for note in result[case] if "not relocated" in note)
        assert words in note
    assert result["moved"] == []


@needs_relocation
def test_code_that_somebody_knows_by_address_stays() -> None:
    result = run_in_child("freeze.cases_relocate", "kept_by_address")
    assert result["moved"] == sorted(set(ALL) - {"recursive", "generator"})
    assert result["same"]
    assert any("were not moved" in note for note in result["notes"])


@needs_relocation
def test_without_a_warm_up() -> None:
    result = run_in_child("freeze.cases_relocate", "without_warmup")
    assert result["after"]
    if SEES_WHAT_RAN:
        assert result["moved"] == ALL and result["codes"] > 100
    else:
        assert result["moved"] == [] and result["codes"] == 0
        assert any("warmup=" in note for note in result["notes"])


@needs_relocation
def test_running_copies_only_pages_of_code() -> None:
    moved = run_in_child("freeze.cases_relocate", "scattered", True)
    scattered = run_in_child("freeze.cases_relocate", "scattered", False)
    assert moved["code pages"] < scattered["code pages"] * 0.8
    assert scattered["copied"] > moved["copied"] + 50
    assert moved["data"] < 20 < scattered["data"]


@pytest.mark.skipif(RELOCATES, reason="for versions without immortal objects")
def test_versions_without_immortal_objects_say_so() -> None:
    result = run_in_child("freeze.cases_relocate", "without_warmup")
    assert result["moved"] == [] and result["after"]
    assert any("not relocated" in note and "3.12" in note for note in result["notes"])
