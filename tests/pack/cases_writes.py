"""What writes a list, dict or set, on packed ones: from 3.12 on nothing that Python code or a C call does ends a process.

writes.py runs the matrix. Before 3.12 headers are shared by all processes: there what Python code does raises
TypeError, but for the idioms that docs/pack.md names, and C calls may end their own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PRIVATE = sys.version_info >= (3, 12)
# Before 3.12: they reach a C function that asks nobody, and die in the read-only table.
UNCAUGHT = {"Element.attrib", "json markers"}


# Tables with room and without, of all forms; the rest is slow.
SOME = ("no list", "three", "long", "no dict", "full", "numbers", "few")


def run(kind: str, *containers: str, **environment: str) -> dict[str, dict[str, list[Any]]]:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("writes.py")), kind, *containers],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["python", "c"])
def test_every_write(kind: str) -> None:
    look_at(kind, run(kind, *SOME))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["python", "c"])
def test_every_write_on_every_container(kind: str) -> None:
    look_at(kind, run(kind))


def look_at(kind: str, result: dict[str, dict[str, list[Any]]]) -> None:
    assert len(result) > (100 if kind == "python" else 40)
    outcomes = {outcome for cells in result.values() for _, outcome, _, _ in cells.values()}
    for name, cells in result.items():
        for container, (status, outcome, same, repaired) in cells.items():
            case = (name, container, status, outcome)
            assert same, f"the parent's data changed: {case}"
            if PRIVATE:
                assert status == 0 and repaired == 0, case
            elif kind == "python" and name not in UNCAUGHT:
                assert status == 0 and outcome != "changed" and repaired == 0, case
    assert {"TypeError", "SystemError"} <= outcomes | ({"SystemError"} if kind == "python" else set())
    assert PRIVATE is ("changed" in outcomes), "where memory is private, some of these succeed"


@pytest.mark.skipif(not PRIVATE, reason="there tables are read-only")
@pytest.mark.parametrize(
    "name", ["debug", *(pytest.param(n, marks=pytest.mark.slow) for n in ("malloc", "malloc_debug", "tracemalloc"))]
)
def test_every_write_under_other_allocators(name: str) -> None:
    """Tables come to whatever frees and enlarges, and must not come through."""
    chosen = {"PYTHONTRACEMALLOC": "1"} if name == "tracemalloc" else {"PYTHONMALLOC": name}
    result = run("c", "no list", "three", "full", "few", **chosen)
    assert all(status == 0 and same for cells in result.values() for status, _, same, _ in cells.values())


SEALING = """
import sys, cowfreeze
data = [[i, str(i), {"k": [i]}] for i in range(20_000)]
holes = [[i] for i in range(20_000)]
del holes[::2]
if sys.argv[1] == "pack":
    cowfreeze.pack(data)
report = cowfreeze.freeze(data)
print(report.sealed_bytes > 0, len(report.notes))
"""


def test_a_freeze_after_a_pack_knows_the_allocator() -> None:
    """What guards tables is CPython's raw allocator for that time, which is how pymalloc is known."""
    outputs = {
        before: subprocess.run(
            [sys.executable, "-c", SEALING, before], capture_output=True, text=True, check=True
        ).stdout
        for before in ("pack", "nothing")
    }
    assert outputs["pack"] == outputs["nothing"] and (not PRIVATE or outputs["pack"].startswith("True")), outputs
