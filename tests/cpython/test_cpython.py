"""A part of CPython's own test suite on a frozen heap; `make test-cpython` runs all of it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run.py")
QUICK = ["test_dict", "test_types", "test_descr"]
if sys.version_info >= (3, 11):  # before, these two find their tests in a test_main() of their own
    QUICK += ["test_code", "test_weakref"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("test.test_dict") is None,
    reason="this interpreter was installed without its test suite",
)


def run(tmp_path: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    result = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, str(RUN), "--json", str(result), *arguments], capture_output=True, text=True, timeout=900
    )
    assert result.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(result.read_text()), done.stdout


@pytest.mark.parametrize("mode", ["frozen", pytest.param("children", marks=pytest.mark.slow)])
def test_its_tests_pass(tmp_path: Path, mode: str) -> None:
    status, verdicts, printed = run(tmp_path, "--mode", mode, *QUICK)
    assert status == 0, printed
    assert sum(verdict["ran"] for verdict in verdicts) > 300, printed
    assert not [verdict["name"] for verdict in verdicts if verdict["useless"]], printed


def test_the_runner_sees_what_freezing_changes(tmp_path: Path) -> None:
    # CPython asserts that a module is tracked; after a freeze it is not.
    status, verdicts, printed = run(tmp_path, "--ignore-known", "test_gc")
    assert status == 1, printed
    assert "test.test_gc.GCTests.test_is_tracked" in verdicts[0]["new"], printed


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("test_bool leaked [3, 3, 3] references, sum=9", ["references"]),
        ("test_bool leaked [3, 3, 3] memory blocks, sum=9", ["memory blocks"]),
        ("test_bool leaked [0, 0, 1] memory blocks, sum=1 (this is fine)", []),
    ],
)
def test_what_regrtest_calls_a_leak(line: str, kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the runner puts its folder there
    from cpython import run as runner

    assert list(runner.Run({}, {}, 0, None, f"beginning ...\n{line}\n1 test OK.\n", 0.1).leaks) == kinds


@pytest.mark.skipif(not hasattr(sys, "gettotalrefcount"), reason="leaks are counted by debug builds only")
def test_leaks_are_seen_on_the_frozen_side_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, verdicts, printed = run(tmp_path, "--refleaks", "test_bool")
    assert status == 0 and not verdicts[0]["leaks"], printed
    # A package of the same name, whose freeze leaks with each test that runs.
    (tmp_path / "cowfreeze.py").write_text(
        "import unittest\n"
        "kept = []\n"
        "def freeze(**options):\n"
        "    unittest.TestCase.setUp = lambda test: kept.append([object()])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    status, verdicts, printed = run(tmp_path, "--refleaks", "test_bool")
    assert status == 1 and "references" in verdicts[0]["leaks"], printed
    assert "1 files leak on a frozen heap only" in printed
