"""The examples of the documentation: one command each, and frozen workers copy much less than plain ones."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cowfreeze import _core

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
NEEDS = {"gunicorn": "gunicorn", "celery": "celery", "dataloader": "torch", "forkserver": "", "zygote": ""}
LINE = re.compile(r"^(plain|frozen) +([\d.]+) MiB copied by each of (\d+) workers, at most$", re.M)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the tests stand alone, without the documentation"),
    pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12"),
]


@pytest.mark.parametrize("example", NEEDS)
def test_frozen_workers_copy_less_than_half(example: str) -> None:
    module = NEEDS[example]
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=EXAMPLES / example, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    figures = {way: (float(size), int(workers)) for way, size, workers in LINE.findall(done.stdout)}
    assert set(figures) == {"plain", "frozen"}, done.stdout
    assert {workers for _, workers in figures.values()} == {2}
    assert figures["frozen"][0] * 2 <= figures["plain"][0], figures


def test_each_example_is_run() -> None:
    assert {folder.name for folder in EXAMPLES.iterdir() if (folder / "run.py").exists()} == set(NEEDS)
