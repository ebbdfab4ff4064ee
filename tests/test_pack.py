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

CASES = Path(__file__).resolve().parent / "pack"


def run_cases(name: str, marker: str) -> str:
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", marker, str(CASES / f"{name}.py")],
        cwd=CASES.parent.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-4000:]}"
    return done.stdout


def test_pack() -> None:
    assert " passed" in run_cases("cases_pack", "not slow")


def test_pack_of_more_kinds() -> None:
    assert " passed" in run_cases("cases_kinds", "not slow")


@pytest.mark.skipif(importlib.util.find_spec("hypothesis") is None, reason="hypothesis is not installed")
def test_properties_of_copies() -> None:
    assert "3 passed" in run_cases("cases_properties", "not slow")


@pytest.mark.slow
def test_pack_for_long() -> None:
    assert "1 passed" in run_cases("cases_pack", "slow")
