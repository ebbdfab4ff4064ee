"""No size and no life is believed because of a flag. Cases: cases_lives.py."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from helpers.child import run_in_child

LIFE = Path(__file__).resolve().parents[2] / "csrc" / "objects" / "life.c"
POINTER = struct.calcsize("P")


@pytest.mark.parametrize("whole", [False, True])
def test_a_length_ends_in_its_block(whole: bool) -> None:
    result = run_in_child("freeze.cases_lives", "sizes", whole)
    fixed = 3 * POINTER + 24
    length = 2 * 3 * POINTER + (50 + 5000) * 8
    assert result["bytes"] == {"Raw": fixed, "Short": fixed, "Long": length}
    assert result["unbelieved"] == 2 and all(result["marked"])


@pytest.mark.parametrize("whole", [False, True])
def test_what_can_be_closed_dies_as_ever(whole: bool) -> None:
    result = run_in_child("freeze.cases_lives", "lives", whole)
    assert result["marked"] == ["record", "closing", "capsule"]
    assert result["ended"] == 3
    assert result["skipped"]["C object with a life of its own"] >= 3


def test_all_mappings_of_the_interpreter_are_its_code() -> None:
    assert run_in_child("freeze.cases_lives", "several_mappings") is False


def test_interpreter_ids() -> None:
    assert run_in_child("freeze.cases_lives", "interpreter_ids") is False


def test_executors_of_the_jit() -> None:
    assert run_in_child("freeze.cases_lives", "executors", environment={"PYTHON_JIT": "1"}) == "fine"


@pytest.mark.skipif(not LIFE.is_file(), reason="no C sources beside the tests")
def test_every_type_of_the_library_was_looked_at() -> None:
    assert run_in_child("freeze.cases_lives", "unread", str(LIFE)) == []
