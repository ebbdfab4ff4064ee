"""CPython's own test suite on a frozen heap, against the same files on an unfrozen one.

    python tests/cpython/run.py [--mode frozen|children] [--refleaks] [--jobs N] [--json FILE] [TEST ...]

Every file runs in a process of its own, twice: plain, then frozen. A test counts as

    new failure   passed plain, failed or got lost frozen, and known.py has no reason for it
    known         the same, with a reason
    crash         the frozen process died by a signal or did not end in time, the plain one did not
    new leak      with --refleaks, on a debug build: regrtest's -R finds that each run of the file keeps
                  references, memory blocks or descriptors when frozen, and not when plain

What fails plain as well says nothing and is only counted. A new failure is run again, twice: one
that does not come back both times is "unsteady" and listed. Exit status 0: no new failure, no
crash, no new leak.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import known  # noqa: E402
from one_file import NEVER_FROZEN  # noqa: E402

ONE_FILE = Path(__file__).with_name("one_file.py")
# What regrtest itself calls fine is none: single blocks that come and go.
LEAKED = re.compile(r"^\S+ (leaked \[.*\] (references|memory blocks|file descriptors),(?!.*this is fine).*)$", re.MULTILINE)
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass
class Run:
    """One file, once: the outcome of every test, and how the process ended."""

    tests: dict[str, str]
    details: dict[str, str]
    status: int | None
    crash: str | None
    output: str
    seconds: float

    @property
    def leaks(self) -> dict[str, str]:
        """What each run of the file keeps: kind -> regrtest's words."""
        return {kind: words for words, kind in LEAKED.findall(self.output)}


@dataclasses.dataclass
class Verdict:
    """One file, plain and frozen."""

    name: str
    ran: int = 0
    failed_plain: int = 0
    new: dict[str, str] = dataclasses.field(default_factory=dict)
    known: dict[str, str] = dataclasses.field(default_factory=dict)
    unsteady: list[str] = dataclasses.field(default_factory=list)
    crash: str | None = None
    leaks: dict[str, str] = dataclasses.field(default_factory=dict)
    useless: str | None = None  # why the plain run gives no yardstick
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return bool(self.new or self.crash or self.leaks)


def all_files() -> list[str]:
    """The names of the interpreter's test files."""
    done = subprocess.run(
        [sys.executable, "-m", "test", "--list-tests"], capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        sys.exit(f"this interpreter has no test suite: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.split()


def end_of(status: int) -> str | None:
    """What killed a process with this exit status; None: nothing did."""
    if status >= 0:
        return None
    return f"killed by {signal.Signals(-status).name}"


def read_result(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Outcome and, if it failed, details of every test in regrtest's file."""
    outcomes: dict[str, str] = {}
    details: dict[str, str] = {}
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return {}, {}
    for case in cases:
        name = case.get("name", "?")
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            outcomes[name] = FAILED
            details[name] = "\n".join((child.text or "").strip() for child in bad)[-1500:]
        else:
            skipped = any(child.tag == "skipped" for child in case) or case.get("result") == "suppressed"
            outcomes.setdefault(name, SKIPPED if skipped else PASSED)
    return outcomes, details


def run_file(mode: str, name: str, timeout: float, options: Sequence[str] = ()) -> Run:
    """Run the file NAME once in a process, a session and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="cowfreeze-cpython-", ignore_cleanup_errors=True) as folder:
        result = Path(folder, "result.xml")
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(ONE_FILE), mode, name, str(result), *options],
            cwd=folder,
            env={**os.environ, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
            crash = end_of(process.returncode)
        except subprocess.TimeoutExpired:
            crash = f"did not end within {timeout:g} s"
            output = ""
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if crash is not None and process.poll() is None:
            output, _ = process.communicate()
        tests, details = read_result(result)
        return Run(tests, details, process.returncode, crash, output[-4000:], time.monotonic() - start)


def judge(mode: str, name: str, timeout: float, ignore_known: bool, options: Sequence[str] = ()) -> Verdict:
    """Run the file NAME plain and frozen, and compare."""
    verdict = Verdict(name)
    plain = run_file("plain", name, timeout, options)
    if plain.crash or not plain.tests:
        verdict.useless = plain.crash or "no test ran"
        return verdict
    frozen = run_file(mode, name, timeout, options)
    verdict.seconds = plain.seconds + frozen.seconds
    verdict.ran = sum(outcome == PASSED for outcome in frozen.tests.values())
    verdict.failed_plain = sum(outcome == FAILED for outcome in plain.tests.values())
    if frozen.status == NEVER_FROZEN:
        verdict.useless = "it finds its tests in a way of its own and was not frozen"
        return verdict
    if frozen.crash:
        verdict.crash = f"{frozen.crash}\n{frozen.output}"
        return verdict
    suspects = {
        test: frozen.details.get(test, "")
        for test, outcome in plain.tests.items()
        if outcome == PASSED and frozen.tests.get(test) == FAILED
    }
    # regrtest notes no outcome when a subtest failed, and none of what it did not get to.
    suspects.update(
        (test, "no outcome: a subtest failed, or the test did not run")
        for test, outcome in plain.tests.items()
        if outcome == PASSED and test not in frozen.tests
    )
    # The failure of a whole class or module has a name of its own.
    suspects.update(
        (test, detail) for test, detail in frozen.details.items() if test not in plain.tests
    )
    for test, detail in suspects.items():
        why = None if ignore_known else known.reason(test)
        if why is not None:
            verdict.known[test] = why
        else:
            verdict.new[test] = detail
    verdict.leaks = {kind: words for kind, words in frozen.leaks.items() if kind not in plain.leaks}
    for _ in range(2):
        if not verdict.new and not verdict.leaks:
            break
        again = run_file(mode, name, timeout, options)
        if again.crash:
            verdict.crash = f"{again.crash}\n{again.output}"
        for test in [test for test in verdict.new if again.tests.get(test) == PASSED]:
            verdict.unsteady.append(test)
            del verdict.new[test]
        for kind in [kind for kind in verdict.leaks if kind not in again.leaks]:
            verdict.unsteady.append(f"leaked {kind}")
            del verdict.leaks[kind]
    return verdict


def print_verdict(verdict: Verdict, number: int, of: int) -> None:
    words = f"{verdict.ran} passed"
    if verdict.useless:
        words = f"no yardstick: {verdict.useless}"
    if verdict.known:
        words += f", {len(verdict.known)} known"
    if verdict.unsteady:
        words += f", unsteady: {' '.join(verdict.unsteady)}"
    if verdict.bad:
        words += ", CRASH" if verdict.crash else ", NEW FAILURES" if verdict.new else ", NEW LEAKS"
    print(f"[{number}/{of}] {verdict.name}: {words} ({verdict.seconds:.1f} s)", flush=True)
    for test, detail in verdict.new.items():
        print(f"    FAILED {test}\n" + "\n".join("      " + line for line in detail.splitlines()[-25:]))
    for leak in verdict.leaks.values():
        print(f"    {leak}")
    if verdict.crash:
        print("\n".join("      " + line for line in verdict.crash.splitlines()[:40]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tests", nargs="*", metavar="TEST", help="files (all)")
    parser.add_argument("--mode", choices=["frozen", "children"], default="frozen")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one file, once (600)")
    parser.add_argument("--skip", action="append", default=[], metavar="TEST", help="leave this file out")
    parser.add_argument("--ignore-known", action="store_true", help="count what known.py excuses as new failures")
    parser.add_argument("--refleaks", action="store_true", help="each file six times, in search of leaks; a debug build")
    parser.add_argument("--json", metavar="FILE", help="also write all verdicts to FILE")
    arguments = parser.parse_args()
    if arguments.refleaks and not hasattr(sys, "gettotalrefcount"):
        parser.error("--refleaks counts references, which only a debug build of CPython does: configure --with-pydebug")
    options = ["-R", "3:3"] if arguments.refleaks else []
    names = arguments.tests or all_files()
    names = [name for name in names if name not in arguments.skip]
    print(f"CPython {platform.python_version()}, {len(names)} files, mode {arguments.mode}", flush=True)
    verdicts = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(judge, arguments.mode, name, arguments.timeout, arguments.ignore_known, options) for name in names]
        for future in concurrent.futures.as_completed(waiting):
            verdicts.append(future.result())
            print_verdict(verdicts[-1], len(verdicts), len(names))
    if arguments.json:
        made = [dataclasses.asdict(verdict) for verdict in sorted(verdicts, key=lambda v: v.name)]
        Path(arguments.json).write_text(json.dumps(made, indent=1) + "\n")
    bad = [verdict.name for verdict in verdicts if verdict.bad]
    print(
        f"\n{sum(v.ran for v in verdicts)} tests of {sum(not v.useless for v in verdicts)} files pass on a frozen "
        f"heap; {sum(len(v.new) for v in verdicts)} new failures, {sum(bool(v.crash) for v in verdicts)} crashes; "
        f"{sum(len(v.known) for v in verdicts)} known to differ, "
        f"{sum(len(v.unsteady) for v in verdicts)} unsteady, {sum(v.failed_plain for v in verdicts)} fail unfrozen, "
        f"{sum(bool(v.useless) for v in verdicts)} files without a yardstick"
    )
    if arguments.refleaks:
        print(f"{sum(bool(v.leaks) for v in verdicts)} files leak on a frozen heap only")
    if bad:
        print("look at: " + " ".join(sorted(bad)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
