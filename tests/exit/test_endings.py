"""A program ends the same way with and without a freeze: status, output, files, and the order of handlers.

Each ending of cases_endings.py runs without a freeze and with each kind of it, in the process that froze
and in a worker. What differs on purpose is in LATE. A kind takes a minute of the processor: the heap's is tested always,
the others (`data`, `code`) by `make test-slow`.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.compiled import build

HERE = Path(__file__).parent
SLOW = pytest.mark.slow
# Debug builds show these, with names that are drawn; and a worker does not complain of what is its parent's.
QUIET = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {
    "PYTHONWARNINGS": "ignore::ResourceWarning"
}
LIBRARY = Path(tempfile.gettempdir()) / f"cowfreeze-at-exit-{os.getpid()}.so"

# docs/explanation/exit.md, "What differs". What sys, a context variable or a hook of forks keeps dies after the
# modules, which CPython has wiped by then: its finalizer fails without a word. With a freeze it may succeed.
LATE = {
    "object in sys / worker",
    "object in context variable / worker",
    "hooks of forks / worker",
    "hooks of forks / parent",
    "own unraisablehook / worker",
    "own unraisablehook / parent",
    "a younger class, function and module / worker",
    "a younger class, function and module / parent",
    "caches / worker",
    "caches / parent",
}
CRASHES = (-signal.SIGSEGV, -signal.SIGABRT)  # CPython's own caches, used that late
FINALIZED = re.compile(r"is finalised|^unraisable: |^younger: |^late: ")


@pytest.fixture(scope="session", autouse=True)
def library() -> Any:
    """A function in C for Py_AtExit; without a compiler that ending is left out."""
    try:
        build(LIBRARY, HERE / "at_exit.c", [], ["-shared", "-fPIC"])
    except pytest.skip.Exception:
        pass
    yield
    LIBRARY.unlink(missing_ok=True)


def without_chance(value: Any, folder: str) -> Any:
    """Without addresses, numbers of descriptors and processes, and names of folders."""
    if isinstance(value, list):
        return [without_chance(one, folder) for one in value]
    if not isinstance(value, str):
        return value
    text = re.sub(rf"{re.escape(folder)}/\d+", "FOLDER", value).replace(folder, "FOLDER")
    text = re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"(fd|pid|process )=?\d+", r"\1", text))
    lines, told = [], []
    for line in text.splitlines(keepends=True):  # of one collection: no order is promised
        if FINALIZED.search(line):
            told.append(line)
        else:
            lines += [*sorted(told), line]
            told = []
    return "".join([*lines, *sorted(told)])


@functools.cache
def endings(mode: str) -> dict[str, list[Any]]:
    arguments = [str(LIBRARY)] if LIBRARY.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(HERE / "cases_endings.py"), mode, folder, "", *arguments], capture_output=True, text=True,
            timeout=900, env=QUIET,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return {name: without_chance(ends, folder) for name, ends in found.items()}


def test_the_endings_are_many_and_no_constants() -> None:
    plain = endings("plain")
    assert len({name.split(" / ")[0] for name in plain}) >= 100
    assert plain["sys.exit(3) / worker"][0] == 3 and plain["interrupt / parent"][0] == -2
    assert "finally of a generator" in plain["generator in frozen dict / worker"][1]
    assert plain["text file in slot / worker"][3] == {"text": b"flushed\n".hex()}
    assert not any(ends[0] == "hangs" for ends in plain.values())


@pytest.mark.parametrize("mode", [pytest.param("data", marks=SLOW), "heap", pytest.param("code", marks=SLOW)])
def test_endings_are_those_of_an_unfrozen_program(mode: str) -> None:
    plain, frozen = endings("plain"), endings(mode)
    assert frozen.keys() == plain.keys()
    names = ("status", "stdout", "stderr", "files")
    differences = [
        f"{name}, {what}:\n  plain  {a!r}\n  frozen {b!r}"
        for name in plain
        for what, a, b in zip(names, plain[name], frozen[name])
        if a != b
        and not (name in LATE and what == "stdout" and only_more_is_finalised(a, b))
        and not (name in LATE and plain[name][0] in CRASHES and what in ("status", "stderr"))
    ]
    assert not differences, "\n".join([f"{len(differences)} differences", *differences])


def only_more_is_finalised(plain: str, frozen: str) -> bool:
    more = frozen.splitlines()
    for line in plain.splitlines():
        if line not in more:
            return False
        more.remove(line)
    return all(FINALIZED.search(line) for line in more)


@pytest.mark.parametrize("mode", ["data", "heap"])
def test_what_a_worker_inherits_is_its_parents_to_finish(mode: str, tmp_path: Path) -> None:
    """Finalised once, by the parent. Of a file, what stood in its buffer at the freeze is written once."""
    done = subprocess.run(
        [sys.executable, str(HERE / "cases_inherited.py"), mode, str(tmp_path)], capture_output=True, text=True, timeout=60, env=QUIET
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["temporary file: True", "worker 3", "temporary file: True", "worker 3",
                                        "temporary file: True", "parent finalises"]  # fmt: skip
    assert (tmp_path / "log").read_text() == "boot\nworker 0\nworker 1\nparent\n"
    assert not list(tmp_path.glob("temporary*"))


def whose(mode: str, case: str, folder: Path) -> list[str]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "cases_whose.py"), mode, case, str(folder)], capture_output=True, text=True, timeout=60, env=QUIET
    )
    assert done.returncode == 0 and (mode == "plain" or done.stderr == ""), done.stderr  # plain misses its file
    return sorted(done.stdout.splitlines())


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes namespaces of process numbers")


@pytest.mark.parametrize(
    "case",
    ["as ever", "gc.freeze", "gc.unfreeze", "no gc_freeze", "replaced", "refused", "pack", pytest.param("same pid", marks=AS_ROOT)],
)
def test_a_worker_finishes_its_own_and_nothing_else(case: str, tmp_path: Path) -> None:
    """Whatever becomes of the collector's permanent generation, and whoever freezes or fails to meanwhile."""
    plain, frozen = whose("plain", case, tmp_path / "plain"), whose("frozen", case, tmp_path / "frozen")
    own = [line for line in plain if line.startswith("its own")]
    assert own and "worker: 3" in plain
    if case == "replaced":  # what it drops dies, as ever
        assert frozen == plain
        return
    assert "temporary file: False" in plain  # without a freeze the first worker takes it away
    inherited = ["a bare object is finalised in the parent", "an object is finalised in the parent"]
    assert [line for line in frozen if line.startswith("a")] == inherited
    assert [line for line in frozen if line.startswith("its own")] == own
    assert ("inherited: True" in frozen) == (case == "same pid")
    assert "temporary file: True" in frozen and "worker: 3" in frozen


def test_without_memory_a_worker_rather_leaves_its_own(tmp_path: Path) -> None:
    """Than to finish what is its parent's. Eight workers, whose book-keeping fails later and later."""
    lines = whose("frozen", "no memory", tmp_path / "frozen")
    counts = {line: lines.count(line) for line in lines}
    assert counts.pop("its own object is finalised in a worker") in range(1, 8), "not even the last, or also the first"
    assert {line: n for line, n in counts.items() if not line.startswith("its own")} == {
        "worker: 3": 8, "temporary file: True": 8, "an object is finalised in the parent": 1,
        "a bare object is finalised in the parent": 1,
    }  # fmt: skip
