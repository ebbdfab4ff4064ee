"""The lanes of `make test`: they lose no test, and whatever goes wrong in one is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from helpers import lanes

def pytest_addoption(parser):
    lanes.add_options(parser)

def pytest_configure(config):
    lanes.register(config)
"""
FILES = {
    "test_a": "import time\ndef test_one():\n    time.sleep(0.3)\ndef test_two():\n    assert 'planted' == 1\n",
    "test_b": "import pytest\n@pytest.fixture(scope='module')\ndef made():\n    yield 1\n    print('torn down')\n"
    "def test_one(made): pass\ndef test_two(made): pytest.skip('why')\n@pytest.mark.xfail\ndef test_three(): assert 0\n",
    "test_c": "import warnings\ndef test_one():\n    warnings.warn('told')\ndef test_two(request):\n    request.node.add_report_section\n",
    "test_d": "import pytest\n@pytest.fixture\ndef broken():\n    yield\n    raise ValueError('in the end')\ndef test_one(broken): pass\n",
    "test_e": "import pytest\n@pytest.mark.parametrize('number', range(40))\ndef test_many(number):\n    print('x' * 5000)\n",
}  # fmt: skip
# A lane claims two at most before the first has ended: lane 1 dies in one, and lane 0 waits in another until it has.
DEADLY = """
import os, pathlib, time

def test_it(request):
    folder, lane, count = request.config.option.lane.rsplit(":", 2)
    if lane == "1":
        os._exit(3)
    while not pathlib.Path(folder, "1.ended").exists():
        time.sleep(0.02)
"""


def run(folder: Path, files: dict[str, str], *options: str, lanes: int = 2) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, str(TESTS / "helpers" / "lanes.py"), str(lanes), "-p", "no:cowfreeze", *options]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_each_test_is_run_once_and_counted(tmp_path: Path, lanes: int) -> None:
    status, printed = run(tmp_path, FILES, "-rA", lanes=lanes)
    assert status == 1, printed
    last = printed.splitlines()[-1].strip("= ")
    assert last.startswith("1 failed, 45 passed, 1 skipped, 1 xfailed, 1 warning, 1 error in "), printed
    assert "'planted' == 1" in printed and "ValueError: in the end" in printed and "UserWarning: told" in printed
    assert "SKIPPED [1] test_b.py:7: why" in printed
    for name in FILES:  # those of one file stand together
        assert printed.count(f"\n{name}.py ") == 1, printed
    assert "[100%]" in printed
    status, printed = run(tmp_path, {}, "--last-failed", lanes=lanes)
    assert printed.splitlines()[-1].strip("= ").startswith("1 failed, 1 passed, 1 error in "), printed


def test_the_first_failure_stops_all(tmp_path: Path) -> None:
    slow = {f"test_{name}": "import time\ndef test_it():\n    time.sleep(1)\n" for name in "bcdefghijk"}
    status, printed = run(tmp_path, {"test_a": "def test_it():\n    assert 0\n", **slow}, "-x")
    assert status == 1 and "stopping after 1 failures" in printed, printed
    assert "1 failed" in printed.splitlines()[-1]
    assert printed.count("test_k.py") == 0


def test_a_lane_that_dies_is_a_failure(tmp_path: Path) -> None:
    status, printed = run(tmp_path, {"test_a": DEADLY, "test_b": DEADLY, "test_c": DEADLY})
    assert status == 1, printed
    assert "lane 1 did not come to its end: status 3" in printed


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    status, printed = run(tmp_path, {"test_a": "import nothing_of_that_name\n", "test_b": "def test_it(): pass\n"})
    assert status == 2 and "1 error in " in printed.splitlines()[-1], printed
