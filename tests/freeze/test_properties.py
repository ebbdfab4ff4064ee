"""Random graphs: the walk in C against a walker in Python, marks, and what must not change."""

from __future__ import annotations

import os
from typing import Any

import pytest
from helpers.child import run_in_child


def check(result: dict[str, Any], graphs: int) -> None:
    tried = result["tried"]
    assert tried["graphs"] >= graphs
    assert tried["objects"] >= graphs
    made = set(tried) - {"graphs", "objects"}
    assert len(made) > result["kinds"] * 3 // 4, f"hardly any kinds were made: {sorted(made)}"


def test_random_graphs() -> None:
    # Every interpreter of the matrix draws other graphs; together they are more than a thousand.
    start = int.from_bytes(os.urandom(4), "big")
    check(run_in_child("freeze.cases_properties", "try_graphs", 150, start, timeout=300), 150)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(50))
def test_a_hundred_thousand_random_graphs(part: int) -> None:
    check(run_in_child("freeze.cases_properties", "try_graphs", 2000, part, timeout=1800), 2000)


def test_a_worker_reads_random_graphs() -> None:
    result = run_in_child("freeze.cases_properties", "read_in_a_worker", 300, 7)
    assert result["objects"] > 3000
    assert result["plain"] > result["pages"] * 0.9, result
    # What is left are pages at the border of the graph, which hold mortal neighbours as well.
    assert result["frozen"] < result["pages"] * 0.1, result
