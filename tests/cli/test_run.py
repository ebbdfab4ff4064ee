"""`cowfreeze run`: what it refuses, and when it does not freeze. gunicorn and Celery under it have
tests of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cowfreeze import _core
from cowfreeze.integrations._before_fork import parse_when

FORK = "pid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\n"
NOTES = 0 if _core.HAS_IMMORTAL else 1  # what such a version cannot do is said once
RUN = (sys.executable, "-m", "cowfreeze", "run")


def run(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COWFREEZE_WHEN")}
    if path:
        environment["PYTHONPATH"] = path
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=60, env=environment)


def python(code: str, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return run(*options, "--", sys.executable, "-c", "import os, sys\n" + code, path=path)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 2, "which program"),
        (("--when", "never", "--", "true"), 2, "neither import:NAME nor objects:N"),
        (("--", "/does/not/exist"), 127, "cannot be started"),
    ],
)
def test_refuses(arguments: tuple[str, ...], status: int, text: str) -> None:
    done = run(*arguments)
    assert done.returncode == status and text in done.stderr, done


def test_when() -> None:
    assert parse_when("") == ("", 10_000)
    assert parse_when("import:a.b") == ("a.b", 0)
    assert parse_when("objects:5") == ("", 5)
    for wrong in ("import:", "import:a b", "objects:-1", "objects:x", "x"):
        with pytest.raises(ValueError, match="neither"):
            parse_when(wrong)


def test_one_line_and_the_programs_status() -> None:
    done = python(FORK + FORK + "print('out'); sys.exit(5)", "--when", "objects:100")
    assert (done.returncode, done.stdout) == (5, "out\n")
    assert done.stderr.count("\n") == 1 + NOTES and "froze" in done.stderr


def test_waits_for_the_module() -> None:
    done = python(FORK + "import colorsys\n" + FORK, "--when", "import:colorsys")
    first, second = done.stderr.splitlines()[:2]
    assert done.stderr.count("\n") == 2 + NOTES
    assert "colorsys is not imported" in first and "froze" in second


def test_only_in_the_process_that_was_armed() -> None:
    """Neither a child that forks in turn, nor a helper program."""
    code = "pid = os.fork()\nif pid == 0:\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    os._exit(0)\nos.waitpid(pid, 0)\n"
    assert python(code, "--when", "objects:1").stderr.count("froze") == 1
    helper = "import subprocess\nsubprocess.run(['true'], preexec_fn=lambda: None)\n"
    assert python(helper, "--when", "objects:1").stderr == ""


def test_the_sitecustomize_below_is_still_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    done = python("import sitecustomize; print(sitecustomize.__file__); print(any('_run_site' in p for p in sys.path))",
                  path=str(tmp_path))  # fmt: skip
    # The first line is of the interpreter that `cowfreeze run` itself runs in.
    assert done.stdout.splitlines() == ["theirs", "theirs", str(tmp_path / "sitecustomize.py"), "False"]


def test_data_that_the_collector_does_not_know_are_frozen_too() -> None:
    """A helper process is forked before the data are there; records of plain values are untracked before 3.14."""
    code = "data = [{'number': i, 'text': str(i)} for i in range(100_000)]\n"
    done = python(FORK + code + FORK + "import cowfreeze; print(cowfreeze.is_frozen(data))", "--when", "objects:5000")
    assert done.stderr.count("froze") == 2, done
    assert done.stdout == f"{sys.version_info >= (3, 12)}\n"


def test_batches_do_not_pile_up_for_ever() -> None:
    code = "for _ in range(14):\n    data = [[i] for i in range(20_000)]\n    pid = os.fork()\n"
    done = python(code + "    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)\n    del data\n")
    lines = done.stderr.splitlines()
    assert sum("froze " in line for line in lines) == 10, done
    assert len(lines) == 11 + NOTES and "stays as it is after 10 freezes" in lines[-1]


def test_signals_that_python_ignores_are_not_ignored_by_the_program() -> None:
    done = run("--", "grep", "SigIgn", "/proc/self/status")
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)), done
