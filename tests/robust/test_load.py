"""The same thing many times: nothing is kept. Scaled down; `make load` has the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.child import describe_status

SCRIPT = Path(__file__).with_name("cases_load.py")
PER_ROUND = 16 << 10  # of small counts: one page that the allocator keeps is much per round


def load(what: str, count: int, seconds: float = 3600) -> dict[str, Any]:
    limits = ["--count", str(count), "--seconds", str(seconds)]
    command = [sys.executable, "-X", "faulthandler", str(SCRIPT), what, *limits]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, f"{describe_status(done.returncode)}\n{done.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["after"] == result["before"], "a descriptor or a child is left"
    return result


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.slow)])
def test_forks_from_a_frozen_parent(count: int) -> None:
    result = load("forks", count)
    assert result["rounds"] == count and result["bytes_per_round"] < (PER_ROUND if count < 1000 else 16)


@pytest.mark.parametrize("count", [4, pytest.param(2000, marks=pytest.mark.slow)])
def test_workers_killed_at_random_points(count: int) -> None:
    result = load("kills", count)
    assert result["rounds"] == count and sum(result["outcomes"].values()) == count + 3
    assert "vanished" not in result["outcomes"], result["outcomes"]
    if count > 100:
        assert result["bytes_per_round"] < PER_ROUND
        assert result["outcomes"].get("killed", 0) > count // 10


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_incremental_freezes_of_a_growing_heap(count: int) -> None:
    """50 dicts take some 12 to 20 KiB; sealing takes free memory beside them out of use as well."""
    result = load("freezes", count)
    assert result["rounds"] == count
    if count > 100:
        assert result["unsealed"] < 64 << 10 and result["sealed"] < 1 << 20


@pytest.mark.slow
def test_no_operation_keeps_memory_or_references() -> None:
    """On a debug build of CPython references are counted too."""
    result = load("rounds", 60)
    for name, kept in result["operations"].items():
        assert kept["bytes"] < PER_ROUND, (name, kept)
        assert kept["references"] is None or kept["references"] < 3, (name, kept)
