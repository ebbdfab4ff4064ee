"""Arguments, warnings, skipping and the report. Cases: tests/freeze/cases_options.py."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from helpers.child import run_in_child, run_once

IMMORTAL = sys.version_info >= (3, 12)

# -- skipped ----------------------------------------------------------------

REASONS = {
    "frame": "frame",
    "suspended generator": "generator or coroutine",
    "new generator": "generator or coroutine",
    "coroutine": "generator or coroutine",
    "async generator": "generator or coroutine",
    "lock": "lock",
    "rlock": "lock",
    "simple queue": "lock",
    "thread local": "thread state",
    "file": "file",
    "raw file": "file",
    "BytesIO": "file",
    "socket": "socket",
    "database": "open handle",
    "cursor": "open handle",
    "mapping": "open handle",
    "epoll": "open handle",
    "future": "task or future",
    "context": "context",
    "exception": "exception with a traceback",
    "traceback": "traceback",
}


@pytest.mark.parametrize("kind", REASONS)
def test_is_left_and_counted(kind: str) -> None:
    skipped, marked = run_once("freeze.cases_options", "skipped")[kind]
    assert not marked
    assert skipped == {REASONS[kind]: 1}


def test_a_memoryview_is_left_with_its_buffer() -> None:
    skipped, marked = run_once("freeze.cases_options", "skipped")["memoryview"]
    assert not marked
    assert skipped == {"memoryview": 2}


def test_what_is_skipped_is_not_looked_into_but_for_buffers() -> None:
    assert run_in_child("freeze.cases_options", "behind_what_is_skipped") == {
        "generator": False,
        "exporter": True,
    }


def test_skip_by_type() -> None:
    assert run_in_child("freeze.cases_options", "skip_types") == {
        "cache": False,
        "subclass": False,
        "inside": False,
        "plain": True,
        "skipped": {"skip=": 2},
        "generator": {"skip=": 1},
        "whole": [False, 2],
    }


# -- arguments --------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("skip of an instance", "TypeError", ("skip=", "types", "MyCache")),
        ("skip of a name", "TypeError", ("skip=", "types")),
        ("skip no iterable", "TypeError", ()),
        ("threads", "ValueError", ("threads=", "warn", "refuse", "allow", "ignore")),
        ("threads None", "ValueError", ("threads=", "None")),
        ("unknown option", "TypeError", ("deep",)),
        ("is_frozen nothing", "TypeError", ()),
    ],
)
def test_a_bad_argument_is_named_and_changes_nothing(
    call: str, error: str, words: tuple[str, ...]
) -> None:
    kind, text, marked = run_once("freeze.cases_options", "bad_arguments")[call]
    assert kind == error
    for word in words:
        assert word in text
    assert not marked


def one_warning(warned: list[list[str]], *words: str) -> None:
    ((category, text, file),) = warned
    assert category == "CowfreezeWarning"
    assert file == "cases_options.py", "the warning must point at the caller"
    for word in words:
        assert word in text


def test_threads() -> None:
    result = run_in_child("freeze.cases_options", "threads")
    assert result["alone"] == {"warn": [], "refuse": [], "allow": []}
    kind, text = result["refused"]
    assert kind == "CowfreezeError"
    assert "other thread of the test" in text and "Start threads after forking" in text
    assert not result["after refusal"]
    assert result["allow"] == []
    one_warning(result["warn"], "other thread of the test", 'threads="allow"')
    assert result["after warning"]
    assert result["afterwards"] == []


def test_in_a_forked_process() -> None:
    result = run_in_child("freeze.cases_options", "forked")
    assert result["parent"] == []
    one_warning(result["worker"]["warned"], "forked process", "allow_forked=True")
    assert result["worker"]["marked"], "it is a warning: the freeze goes on"
    assert result["worker"]["allowed"] == []


# -- the report -------------------------------------------------------------


def test_the_report_counts_what_was_made() -> None:
    report = run_once("freeze.cases_options", "report")
    # 5,000 rows of a list, a float and a str; and the list of the rows, types, bases.
    assert 15_001 <= report["objects"] < 15_200
    assert [report["by_type"][name][0] for name in ("list", "float", "str")] == pytest.approx(
        [5001, 5000, 5000], abs=150
    )
    assert report["bytes"] == pytest.approx(report["expected_bytes"], rel=0.1)
    page_size = 4096
    assert report["bytes"] / (16 * page_size) < report["pages"] < report["bytes"] / page_size * 3


def test_the_report_as_text_and_data() -> None:
    report = run_once("freeze.cases_options", "report")
    data: dict[str, Any] = report["dict"]
    assert data["objects"] == report["objects"] and data["bytes"] == report["bytes"]
    assert data["seconds"] == pytest.approx(sum(data["phases"].values()))
    assert 0 < data["seconds"] < 30
    assert data["dry_run"] is False and data["whole_heap"] is False and report["whole"] is True
    assert data["by_type"]["float"]["objects"] == report["by_type"]["float"][0]
    assert set(data) >= {"objects", "bytes", "pages", "seconds", "by_type", "skipped", "notes"}
    for word in ("type", "objects", "size", "list", "float", f"{report['objects']:,}"):
        assert word in report["text"]
    assert "froze" in report["repr"] and f"{report['objects']:,}" in report["repr"]
    assert report["changed"] == "refused"


def test_notes_say_what_this_version_cannot_do() -> None:
    notes = run_once("freeze.cases_options", "report")["notes"]
    if IMMORTAL:
        assert notes == []
    else:
        (note,) = notes
        assert "3.12" in note and "copy" in note


def test_odd_roots() -> None:
    result = run_in_child("freeze.cases_options", "odd_roots")
    assert any("root 1 is None" in note for note in result["None"])
    assert any("root 2 is 5" in note for note in result["number"])
    assert result["twice"] and all(result["builtins"])
    assert result["is_frozen"] == [IMMORTAL] * 4 + [False, False]
    assert result["mortal list"] is False
