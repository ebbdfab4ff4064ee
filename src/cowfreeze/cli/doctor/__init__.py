"""`cowfreeze doctor`: what on this machine, or in this process, would spoil sharing or a fork.

    machine and Python   (machine.py)         always
    process PID          (process.py)         with -p: it, and the tree below it

A check returns one finding; its name silences it. Exit statuses are far from those of Python
and of the other verbs, so that a script can tell "bad news" from "could not run".
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from cowfreeze.cli.command import USAGE, Command, CommandError, positive_int, print_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from cowfreeze.cli.doctor.finding import Finding

STATUS_WARNING = 10
STATUS_PROBLEM = 20
_NO_PROCESS = (
    "Checks of the machine and of this Python only; `cowfreeze doctor -p PID` looks at a process and its tree."
)

# Written out, so that building the parser imports no check.
NAMES = (
    "cgroup", "fork-charge", "free-threaded", "frozen", "host", "huge-pages", "kernel", "khugepaged", "ksm", "max-map-count",
    "overcommit", "pagemap", "perf", "permission", "python", "start-method", "swap", "thp", "threads", "userfaultfd",
)  # fmt: skip


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p", "--pid", type=positive_int, metavar="PID",
        help="look at this process and those below it too: the one that forks the workers",
    )  # fmt: skip
    parser.add_argument(
        "--ignore", action="append", choices=NAMES, default=[], metavar="NAME",
        help=f"leave a check out, once per name: {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(arguments: argparse.Namespace) -> int:
    findings = examine(arguments.pid, frozenset(arguments.ignore))
    status = exit_status(findings)
    if arguments.json:
        result = {
            "pid": arguments.pid,
            "exit_status": status,
            "ignored": sorted(set(arguments.ignore)),
            "findings": [finding.to_dict() for finding in findings],
        }
        print(json.dumps(result, indent=2))
    else:
        print_text(report(findings, arguments.pid))
    return status


def examine(pid: int | None = None, ignore: Collection[str] = ()) -> list[Finding]:
    """Run the checks, those of the process last.

    Args:
        pid: a process to look at; None for the machine and this Python alone.
        ignore: names of checks to leave out.

    Raises:
        CommandError: there is no such process (exit status 2).
    """
    from functools import partial

    from cowfreeze.cli.doctor import fork, machine, process
    from cowfreeze.cli.doctor.patient import Patient

    places = machine.Places()
    checks: list[tuple[str, int | None, Callable[[], Finding]]] = [
        (name, None, partial(check, places))
        for name, check in machine.CHECKS.items()
        # This Python and this shell say nothing about a process that was named.
        if pid is None or name not in process.CHECKS or name in ("ksm", "swap", "max-map-count")
    ]
    if pid is None:
        checks.append(("cgroup", None, partial(fork.own_cgroup, places)))
    else:
        patient = Patient(pid, _descendants(pid), places)
        checks += [(name, pid, partial(check, patient)) for name, check in process.CHECKS.items()]
    return [_examine(name, subject, check) for name, subject, check in checks if name not in ignore]


def _examine(name: str, pid: int | None, check: Callable[[], Finding]) -> Finding:
    """One check; what may not be read is a finding, not an error."""
    from cowfreeze._system.proc import Unreadable
    from cowfreeze.cli.doctor.finding import UNKNOWN, Finding

    try:
        return check()
    except Unreadable as error:
        if error.gone and pid is not None:
            raise CommandError(f"process {pid} ended meanwhile, or has no memory: {error}") from error
        remedy = (f"sudo {sys.executable} -m cowfreeze doctor -p {pid}",) if pid is not None else ()
        return Finding(name, UNKNOWN, str(error), remedy if name == "permission" else (), pid)
    except OSError as error:
        return Finding(name, UNKNOWN, f"cannot look: {error}", pid=pid)


def _descendants(pid: int) -> list[int]:
    import os

    import psutil

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        raise CommandError(f"there is no process {pid}", USAGE) from None
    return [child.pid for child in children if child.pid != os.getpid()]


def exit_status(findings: Sequence[Finding]) -> int:
    """0 nothing to do, 10 a warning or something that could not be looked at, 20 a problem."""
    from cowfreeze.cli.doctor.finding import PROBLEM, UNKNOWN, WARNING

    levels = {finding.level for finding in findings}
    if PROBLEM in levels:
        return STATUS_PROBLEM
    return STATUS_WARNING if levels & {WARNING, UNKNOWN} else 0


def report(findings: Sequence[Finding], pid: int | None, width: int | None = None) -> str:
    """The findings for people: the worst first within machine and process, remedies in lines of their
    own that are never folded, so that they can be pasted."""
    from cowfreeze.cli.doctor.finding import LEVELS

    width = width or max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
    lines: list[str] = []
    for subject, title in ((None, "Machine and Python" if pid is None else "Machine"), (pid, f"Process {pid}")):
        part = [finding for finding in findings if finding.pid == subject]
        if subject is None and title.startswith("Process"):
            break
        lines += [title] if not lines else ["", title]
        for finding in sorted(part, key=lambda finding: -LEVELS.index(finding.level)):
            head = f"  {finding.level:<8} {finding.name:<14} "
            lines += textwrap.wrap(
                finding.text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
            )
            lines += [f"{' ' * 11}> {line}" for line in finding.remedy]
    lines += ["", _summary(findings)]
    if pid is None:
        lines.append(_NO_PROCESS)
    return "\n".join(lines)


def _summary(findings: Sequence[Finding]) -> str:
    from cowfreeze.cli.doctor.finding import LEVELS, PROBLEM, WARNING

    count = {level: sum(finding.level == level for finding in findings) for level in reversed(LEVELS)}
    words = [f"{number} {level}{'s' if number != 1 and level in (PROBLEM, WARNING) else ''}"
             for level, number in count.items() if number]  # fmt: skip
    return f"{len(findings)} checks: {', '.join(words) or 'none run'}. A check is silenced with --ignore NAME."


COMMAND = Command(
    name="doctor",
    summary="check machine, Python and a process for what spoils sharing or a fork",
    description=(
        "Checks what turns shared pages into copies, hides copies, makes a fork fail, or makes freezing\n"
        "pointless: huge pages and khugepaged, KSM, swap, overcommit, memory control groups, kernel features,\n"
        "the Python build and its start method; with -p also the process: its host, threads, the charge of a\n"
        "fork (will it get ENOMEM?), its control group (will it be killed?). Lines that start with > are\n"
        "remedies to paste. It only reads, and tries what it asks about in its own process.\n"
        "\n"
        "Exit status: 0 nothing to do, 10 a warning or a check that was not possible, 20 a problem;\n"
        "1 the doctor failed, 2 wrong command line or no such process."
    ),
    epilog=(
        "example:\n"
        "  cowfreeze doctor\n"
        "  cowfreeze doctor -p $(pgrep -o gunicorn) --ignore swap --ignore perf\n"
        "  cowfreeze doctor --json -p 4242 || test $? -lt 20    # in a script: fail on problems only\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)
