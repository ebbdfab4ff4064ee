"""How a case of these tests runs: in a process of its own, which must leave nothing behind.

    cases_X.py NAME ARGUMENTS...    calls NAME(*arguments) and prints what it returns as the last line of
                                    stdout, as JSON; what it prints before is in `Ended.printed`

`run_case` gives it a TMPDIR of its own and a mark in its environment, which all processes below it
inherit. Afterwards no process may carry the mark, and the folder must be empty.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARK = "COWFREEZE_ZYGOTE_TEST"
SECONDS_TO_GO = 10.0  # what may still run when a case's process has ended: a zygote that learns of it


@dataclass
class Ended:
    """How a case's process ended."""

    status: int
    result: Any
    printed: str
    errors: str


def marked(mark: str) -> list[int]:
    """Processes that inherited MARK, except zombies."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{MARK}={mark}".encode() in environment and state != "Z":
                found.append(int(name))
    return found


def run_case(
    module: str, name: str, *arguments: Any, folder: Path, status: int | None = 0, timeout: float = 60,
    during: Callable[[subprocess.Popen[str]], None] | None = None, environment: dict[str, str] | None = None,
) -> Ended:  # fmt: skip
    """Run a case, with FOLDER (empty) as its TMPDIR.

    Args:
        status: what it must end with; None for anything.
        timeout: seconds.
        during: called with the running process, for example to send it a signal.
        environment: variables on top of ours.

    Raises:
        AssertionError: another status, or something is left: a process, a file.
    """
    mark = uuid.uuid4().hex
    variables = {**os.environ, "TMPDIR": str(folder), MARK: mark, "PYTHONDONTWRITEBYTECODE": "1"}
    variables.update(environment or {})
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(HERE / f"{module}.py"), name, json.dumps(arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables,
        start_new_session=True,
    )  # fmt: skip
    try:
        if during is not None:
            during(process)
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler says where each process stood
        time.sleep(0.5)
        left = marked(mark)
        end(left)
        printed, errors = process.communicate()
        raise AssertionError(f"{module}.{name}: no end after {timeout} s; {len(left)} processes\n{errors}") from None
    deadline = time.monotonic() + SECONDS_TO_GO
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    names = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]
    end(left)
    assert not left, f"processes are left: {names}\n{errors}"
    assert not list(folder.iterdir()), f"files are left: {list(folder.iterdir())}\n{errors}"
    assert status is None or process.returncode == status, f"status {process.returncode}\n{printed}\n{errors}"
    *lines, last = printed.splitlines() or [""]
    try:
        result = json.loads(last)
    except ValueError:
        lines, result = [*lines, last], None
    return Ended(process.returncode, result, "\n".join(lines), errors)


def end(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main(names: dict[str, Any]) -> None:
    """For the end of a file of cases."""
    result = names[sys.argv[1]](*json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)
