"""pack and the properties of copies, in a test process of their own.

Packed memory is never given back, and so much made and dropped leaves malloc's heap full of holes:
tests that count the pages which a worker of this process copies would see it. The cases stand in
tests/pack/; `pytest tests/pack/cases_pack.py` runs them alone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.child import run_in_child

CASES = Path(__file__).resolve().parent


def run_cases(name: str, marker: str) -> str:
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", marker, str(CASES / f"{name}.py")],
        cwd=CASES.parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-4000:]}"
    return done.stdout


def test_pack() -> None:
    assert " passed" in run_cases("cases_pack", "not slow")


def test_pack_alone() -> None:
    """Nothing of clone's is loaded."""
    code = "import decimal, datetime, cowfreeze; v = [decimal.Decimal(1), datetime.date(1, 2, 3), type('C', (), {})()]; cowfreeze.pack(v)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_pack_of_more_kinds() -> None:
    assert " passed" in run_cases("cases_kinds", "not slow")


def test_what_must_stay_one_or_two() -> None:
    assert " passed" in run_cases("cases_identity", "not slow")


def test_everything_that_writes() -> None:
    assert " passed" in run_cases("cases_writes", "not slow")


@pytest.mark.skipif(importlib.util.find_spec("hypothesis") is None, reason="hypothesis is not installed")
def test_properties_of_copies() -> None:
    assert "3 passed" in run_cases("cases_properties", "not slow")


def test_threads_that_run_while_numpy_copies() -> None:
    result = run_in_child("pack.cases_packing", "arrays_and_threads")
    assert result == {"dropped": 1, "same": True}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="packed instances lie in packed memory from 3.12 on")
def test_what_packed_slots_refer_to_lives_without_memory_to_freeze_it() -> None:
    result = run_in_child("pack.cases_packing", "keeper_without_memory")
    assert result == {"told": True, "alive": True, "marked": True, "tracked": False}


@pytest.mark.parametrize("malloc", [True, False])
def test_a_freeze_after_a_pack_knows_the_allocator(malloc: bool) -> None:
    environment = {"PYTHONMALLOC": "malloc"} if malloc else {}
    result = run_in_child("pack.cases_packing", "freeze_behind_pack", environment=environment)
    assert result == [malloc, malloc]


@pytest.mark.slow
def test_pack_for_long() -> None:
    assert "1 passed" in run_cases("cases_pack", "slow")
