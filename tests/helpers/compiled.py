"""Builds C programs and libraries out of csrc/ for a test, or skips it with the reason; runs programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover"]


def build(output: Path, source: Path, parts: Sequence[str], flags: Sequence[str] = ()) -> Path:
    """Compile SOURCE and the files PARTS of csrc/ to OUTPUT, warnings as errors. Needs no Python.h."""
    configured = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = shutil.which(configured) or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    if not CSRC.is_dir():
        pytest.skip("no C sources beside the tests")
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-UNDEBUG", "-O1", "-g", "-pthread", *flags]
    command += ["-I", str(CSRC), str(source), *(str(CSRC / f"{part}.c") for part in parts), "-o", str(output)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if any("-fsanitize" in flag for flag in flags) and "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    return output


def run_built(program: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run it without the libraries that are preloaded here: those of sanitizers have to come first in it."""
    return subprocess.run(
        [str(program), *arguments],
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
