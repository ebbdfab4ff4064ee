"""The sample project of the documentation: its suite runs, and one test fails for its cause."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers.plugin import needs_immortal

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "samples" / "wordindex"

pytest_plugins = ["pytester"]


@needs_immortal
def test_one_test_fails_on_purpose_and_for_the_right_cause(pytester: pytest.Pytester) -> None:
    shutil.copytree(SAMPLE, pytester.path, dirs_exist_ok=True)
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--cow-report=json:report.json", "--cow-explain"
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "workers copied * with frozen objects (limit 16); *",
            "COW test_wordindex.py::test_counting_copies_the_index - *",
        ]
    )
    tests = {test["nodeid"]: test for test in json.loads(Path("report.json").read_text())["tests"]}
    counting = tests["test_wordindex.py::test_counting_copies_the_index"]
    # Not the collector and not reference counts: the counters. Each is a list with one item,
    # whose table is a block of 16 bytes; 20,000 of them fill these pages and no others. Debug
    # builds put 24 bytes of guards around each.
    block = 32 if hasattr(sys, "gettotalrefcount") else 16
    counters = 20_000 * block // os.sysconf("SC_PAGE_SIZE")
    assert counters <= counting["frozen_copied"] <= counters + 16
    finding = tests["test_wordindex.py::test_finding_keeps_the_index_shared"]
    assert finding["frozen_copied"] <= 16 and finding["verdict"] == "shared"
