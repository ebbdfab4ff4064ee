"""Run a test case in a process of its own and read how it ended.

Freezing cannot be undone, and its mistakes are crashes. So every case is a function in
tests/AREA/cases_X.py, called by tests/helpers/run_case.py in a fresh interpreter. A crash is named with its
signal and faulthandler's traceback; the interpreter is also left to shut down in the ordinary
way, because that is where a wrong mark is found last.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).resolve().with_name("run_case.py")


class CaseFailed(AssertionError):
    """The process of a case did not end with status 0."""


class CaseSkipped(Exception):
    """The case says that it cannot run here; the text is the reason."""


def describe_status(returncode: int) -> str:
    """A wait status as subprocess gives it, in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def run_in_child(
    module: str,
    case: str,
    *arguments: Any,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    stack_bytes: int | None = None,
    timeout: float = 120.0,
) -> Any:
    """Call ``CASE(*arguments)`` of MODULE in a fresh interpreter.

    Args:
        module: a file below tests/, dotted: ``freeze.cases_marks``.
        case: function in it.
        arguments: anything that JSON can carry.
        options: for the interpreter (``-X ...``).
        environment: variables on top of this process's.
        stack_bytes: limit of the C stack of the process, in bytes.
        timeout: seconds.

    Returns:
        what the function returned, through JSON.

    Raises:
        CaseFailed: another end than status 0, with its name and all that was printed.
        CaseSkipped: the case cannot run on this interpreter.
    """
    command = [sys.executable, "-X", "faulthandler", *options, str(RUNNER), module, case]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    variables.update(environment or {})

    def limit_stack() -> None:
        if stack_bytes is not None:
            resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, stack_bytes))

    try:
        done = subprocess.run(
            command,
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=variables,
            preexec_fn=limit_stack if stack_bytes is not None else None,
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stderr or b"")[-4000:]
        raise CaseFailed(f"{module}.{case}: no end after {timeout} s\n{printed!r}") from None
    if done.returncode != 0:
        raise CaseFailed(
            f"{module}.{case}{arguments}: {describe_status(done.returncode)}\n{done.stderr[-6000:]}"
        )
    answer = json.loads(done.stdout)
    if "skip" in answer:
        raise CaseSkipped(answer["skip"])
    return answer["result"]


@functools.cache
def run_once(module: str, case: str, *arguments: Any) -> Any:
    """The same, once for all the tests that look at different parts of one result."""
    return run_in_child(module, case, *arguments)
