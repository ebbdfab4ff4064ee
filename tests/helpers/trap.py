"""Runs the scripts in tests/trap, each in a process of its own, and says where perf is allowed."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "trap"
BACKENDS = ("perf", "mprotect")


def start(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@functools.cache
def why_no_perf() -> str | None:
    """Why perf cannot be used on this machine, or None: a container may forbid it."""
    done = start("cases_probe.py")
    assert done.returncode == 0, done.stderr
    text = done.stdout.strip()
    return text or None


def need(backend: str) -> None:
    if backend == "perf" and why_no_perf() is not None:
        pytest.skip(f"perf is not allowed on this machine: {why_no_perf()}")


@functools.cache
def result_of(script: str, *arguments: str) -> Any:
    """What SCRIPT printed, as JSON. It must end well."""
    done = start(script, *arguments)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


# Those that end well; in one run, because each start of an interpreter takes its time.
_SCENES = (
    "writes twice read_all threads fork_inside overflow stops_at_exception deep everything "
    "system_call blocked already signal_stack"
)
_PROTECTED_SCENES = " no_mappings mappings_run_out forbidden"


def scene(name: str, backend: str) -> Any:
    """What scene NAME saw. It must end well."""
    need(backend)
    names = _SCENES + (_PROTECTED_SCENES if backend == "mprotect" else "")
    assert name in names.split()
    made = _scenes(names, backend)[name]
    assert "status" not in made, f"{name} ended with {made}\n{_scenes(names, backend)['stderr']}"
    return made


@functools.cache
def _scenes(names: str, backend: str) -> Any:
    done = start("cases_scenes.py", names.replace(" ", ","), backend)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return {**json.loads(done.stdout), "stderr": done.stderr}


def status_of(name: str, backend: str) -> tuple[int, str]:
    """Exit status of the process that scene NAME ends, and what it wrote to stderr."""
    need(backend)
    done = start("cases_scenes.py", name, backend)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)[name]["status"], done.stderr


def line_with(script: str, text: str) -> int:
    """The number of the one line of SCRIPT that ends with TEXT."""
    lines = (FOLDER / script).read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if line.endswith(text)]
    assert len(found) == 1, (text, found)
    return found[0]
