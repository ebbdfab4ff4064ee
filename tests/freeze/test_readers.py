"""Readers that would write: what freeze fills on request, what it names, and who is left. Cases: cases_readers.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.child import run_in_child, run_once
from helpers.plugin import needs_immortal

pytestmark = needs_immortal

LIMITS = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "limits.md"

# Who writes late although all is filled that can be, and the words of limits.md that tell of it.
EXPLAINED = {
    "str subclass": "subclasses of built-in types",
    "dict subclass": "subclasses of built-in types",
    "Counter": "subclasses of built-in types",
    "OrderedDict": "subclasses of built-in types",
    "partial": "functions and `functools.partial`",
    "function": "functions and `functools.partial`",
    "bytearray": "a buffer that is asked for",
    "numpy array": "a buffer that is asked for",
    "numpy array of objects": "a buffer that is asked for",
    "cached_property": "`functools.cached_property`",
    "IPv4Network": "`functools.cached_property`",
    "Fraction": "`functools.cached_property`",
    "Path": "paths",
    "weakref.ref": "weak references",
}


def writers(figures: dict[str, list[int]]) -> set[str]:
    return {label for label, (pages, copied) in figures.items() if copied > max(3, pages / 5)}


@pytest.mark.parametrize("whole_heap", [False, True], ids=["roots", "everything"])
@pytest.mark.parametrize(
    "way", ["pickle", "copy", "deepcopy", "vars", "__dict__", "asdict", "replace", "json"]
)
def test_asking_an_instance_for_its_dict_copies_nothing(way: str, whole_heap: bool) -> None:
    pages, without, with_option = run_once("freeze.cases_readers", "asking", whole_heap)[way]
    if way not in ("asdict", "replace"):  # they read attributes
        assert without > pages / 2, "nothing was written without the option: nothing was tested"
    assert with_option <= max(5, 0.02 * pages)


def test_classes_of_attrs_and_pydantic() -> None:
    for label, (pages, copied) in run_in_child("freeze.cases_readers", "third_parties").items():
        assert copied <= max(5, 0.02 * pages), label


def test_a_dict_made_beforehand_changes_no_answer_and_runs_no_user_code() -> None:
    result = run_in_child("freeze.cases_readers", "behaves")
    assert result["ran"] == []
    assert result["same"], result["said"]


def test_the_note_names_the_option_that_was_not_given() -> None:
    without, with_option = run_in_child("freeze.cases_readers", "dict_notes")
    assert any("instance_dicts=True" in note for note in without)
    assert not any("instance_dicts" in note for note in with_option)


@needs_immortal
def test_dicts_are_made_also_of_what_gc_freeze_had_put_away() -> None:
    before, behind = run_in_child("freeze.cases_readers", "dicts_behind_gc_freeze")
    assert before >= 5000 and behind >= 5000


def test_no_memory_for_it_changes_nothing() -> None:
    assert run_in_child("freeze.cases_readers", "no_memory")


def test_utf8_forms() -> None:
    (pages, copied, made, notes), with_option = run_in_child("freeze.cases_readers", "utf8_forms")
    assert copied > pages / 2, "nothing was written without the option: nothing was tested"
    assert (made, notes) == (0, 1)
    pages, copied, made, notes = with_option
    assert copied <= max(5, 0.02 * pages)
    assert made >= 20_000 and notes == 0


def test_hashes_of_datetimes_with_a_zoneinfo() -> None:
    result = run_in_child("freeze.cases_readers", "zones")
    assert result["unwarmed"] == 0 and result["right"]
    assert result["copied"] <= max(5, 0.02 * result["pages"])
    assert result["subclass"] == [1, 0]
    assert result["python"] == 7


def test_who_writes_is_told() -> None:
    found = writers(run_in_child("freeze.cases_readers", "who_writes", True, True))
    assert found <= EXPLAINED.keys()
    text = LIMITS.read_text()
    assert [words for label, words in EXPLAINED.items() if words not in text] == []


def test_who_writes_without_the_options() -> None:
    found = writers(run_in_child("freeze.cases_readers", "who_writes", False, False))
    assert {"instance", "dataclass", "str not ASCII"} <= found


def test_a_second_reading_writes_nothing_more() -> None:
    pages, more = run_in_child("freeze.cases_readers", "reads_again")
    assert more <= max(5, 0.02 * pages)
