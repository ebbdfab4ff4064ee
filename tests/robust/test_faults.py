"""The n-th malloc, mmap, fork, pipe, open or read fails: a clean error, and nothing is left.

tests/robust/shim.c stands between the process and the C library, tests/robust/cases_faults.py forks a
process for each n. A plant in each direction shows that the driver sees what is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.child import describe_status

FOLDER = Path(__file__).parent
SYSTEM = "mmap,fork,pipe,open,read,memfd,fcntl,syscall,mprotect"
EVERY = 100_000


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the fault shim with")
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer brings a malloc of its own")
    library = tmp_path_factory.mktemp("faults") / "shim.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", str(library), str(FOLDER / "shim.c"), "-ldl"],
        capture_output=True,
        text=True,
    )
    if built.returncode != 0:
        pytest.skip(f"the fault shim cannot be built here: {built.stderr[-300:]}")
    return library


def run(
    shim: Path, operation: str, kinds: str, whose: str = "all", first: int = 1, last: int = EVERY, step: int = 1
) -> dict[str, Any]:
    command = [sys.executable, str(FOLDER / "cases_faults.py"), operation, kinds, whose]
    done = subprocess.run(
        [*command, str(first), str(last), str(step)],
        capture_output=True,
        text=True,
        timeout=3600,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    assert done.returncode == 0, f"{describe_status(done.returncode)}\n{done.stderr[-4000:]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check(result: dict[str, Any]) -> None:
    assert not result["problems"], "\n".join(result["problems"])
    assert result["tried"] > 0, "no call of these kinds was made: nothing was tested"


@pytest.mark.parametrize(
    ("operation", "kinds", "first", "last", "step"),
    [
        ("freeze", SYSTEM, 1, 40, 4),
        ("freeze_heap", SYSTEM, 1, 40, 8),
        ("pack", SYSTEM, 1, 17, 3),
        ("clone", "malloc", 1, 5, 1),
        ("trap_any", SYSTEM, 1, 40, 5),
        ("trap_mprotect", SYSTEM, 1, 40, 5),
        ("fork_workers", SYSTEM, 2, 44, 7),
        ("explain", SYSTEM, 40, 200, 60),
    ],
)
def test_some_calls_fail(shim: Path, operation: str, kinds: str, first: int, last: int, step: int) -> None:
    check(run(shim, operation, kinds, "all", first, last, step))


def test_a_channel_that_cannot_be_read_ends_the_worker(shim: Path) -> None:
    """The parent used to wait for ever for a worker that waited for the parent."""
    result = run(shim, "broken_channel", "read", "all", 1, 1)
    check(result)
    assert result["outcomes"] == {"returned": 1}


@pytest.mark.parametrize("operation", ["planted_descriptor", "planted_change", "planted_child", "planted_crash"])
def test_the_driver_sees_what_is_planted(shim: Path, operation: str) -> None:
    result = run(shim, operation, "memfd", "all", 1, 1)
    assert result["problems"], f"{operation} was not seen"


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [SYSTEM, "malloc"])
@pytest.mark.parametrize("whose", ["all", "core", "forever"])
@pytest.mark.parametrize(
    "operation",
    "freeze freeze_heap pack clone trap_mprotect trap_any fork_workers explain trapped_workers".split(),
)
def test_every_call_fails_once(shim: Path, operation: str, whose: str, kinds: str) -> None:
    """`forever`: from the n-th on all calls fail.

    Two things cannot be asked for then. Where mprotect fails for ever, protected pages stay protected,
    and the next store ends the process; a kernel that is short of mappings does join them. And
    os.fork() forks first and makes the number of the child afterwards: without any memory it
    raises MemoryError, and nobody knows which child to wait for (cases_faults.py waits for it).
    """
    if whose == "forever":
        kinds = kinds.removesuffix(",mprotect")
    result = run(shim, operation, kinds, whose)
    assert not result["problems"], "\n".join(result["problems"])
    assert result["untouched"], "no n was reached at which the operation succeeds untouched"
