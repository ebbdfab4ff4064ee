"""What the tests of the pytest plugin share: small projects whose figures are known.

Each test writes a project, runs pytest in it and reads the outcome. A planted truth stands on
both sides: reading frozen data copies next to nothing, changing it copies all of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

# All modules of the plugin, now: pytester forgets what an inner run has imported, but not that
# it is an attribute of its package, and the next inner run would mix old and new modules.
import cowfreeze._plugin.fixtures
import cowfreeze._plugin.isolated
import cowfreeze._plugin.session
import cowfreeze._plugin.verdict  # noqa: F401

# Before 3.12 nothing is immortal, so reading alone copies the data.
needs_immortal = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.10 and 3.11 have no immortal objects"
)

# About 3 MB of dicts and lists: far above the default limit when they are copied.
DATA = """
import pytest

def build():
    return {f"key {number}": [number, str(number), {"a": number}] for number in range(8000)}

def read(data):
    return sum(hash(key) & len(values) for key, values in data.items())

def change(data):
    for values in data.values():
        values.append(None)

@pytest.fixture(scope="module")
def data():
    return build()
"""

READS = "@pytest.mark.cow\ndef test_reads(data):\n    read(data)\n"
CHANGES = "@pytest.mark.cow\ndef test_changes(data):\n    change(data)\n"
LIGHT = "@pytest.mark.cow\ndef test_light(data):\n    pass\n"


def project(pytester: pytest.Pytester, *tests: str, ini: str = "") -> None:
    """Write test_it.py with the data above and TESTS, and an ini file."""
    pytester.makepyfile(test_it="\n".join((DATA, *tests)))
    pytester.makeini(f"[pytest]\n{ini}\n")


# Plugins that these tests are not about, whatever is installed. hypothesis alone is seventy modules, which each
# inner run would import and rewrite anew.
WITHOUT = [word for name in ("cacheprovider", "randomly", "hypothesispytest") for word in ("-p", f"no:{name}")]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """pytest in this process."""
    return pytester.runpytest_inprocess(*WITHOUT, *options)


def run_apart(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """pytest in a process of its own, whose heap has no holes that earlier tests left."""
    return pytester.runpytest_subprocess(*WITHOUT, *options)


def figures(pytester: pytest.Pytester, *options: str) -> list[dict[str, Any]]:
    """Run with a JSON report and return its measurements."""
    file = Path(pytester.path) / "report.json"
    run(pytester, f"--cow-report=json:{file}", *options)
    tests = json.loads(file.read_text())["tests"]
    assert isinstance(tests, list)
    return tests
