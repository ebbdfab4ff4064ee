"""`cowfreeze doctor`: predictions against the kernel, the command, real trees, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.trees import as_nobody, command_line, foreign_process, gunicorn, needs_root, pool, running

from cowfreeze.cli import doctor
from cowfreeze.cli.doctor import machine as machine_checks
from cowfreeze.cli.doctor import process as process_checks
from cowfreeze.cli.doctor.finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli.doctor.machine import Places
from cowfreeze.cli.doctor.patient import Patient

KIB = 1024
MIB = 1 << 20
GIB = 1 << 30


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return command_line("doctor", *arguments, **options)


def examine(pid: int) -> dict[str, dict[str, Any]]:
    """The findings about a process, by name."""
    done = run("--json", "-p", str(pid))
    result = json.loads(done.stdout)
    assert done.returncode == result["exit_status"]
    return {finding["name"]: finding for finding in result["findings"] if finding["pid"] == pid}


# --- the charge of a fork, against the kernel


def charge_of(pid: int) -> int:
    patient = Patient(pid, (), Places())
    return sum(mapping.bytes for mapping in patient.maps if "ac" in mapping.flags and "dc" not in mapping.flags)


def test_untouched_memory_is_charged_and_unshared_memory_is_not() -> None:
    code = (
        "import mmap, sys\nprivate = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS\nprint('a', flush=True); input()\n"
        "m = mmap.mmap(-1, 256 << 20, flags=private); print('b', flush=True); input()\n"
        "m.madvise(mmap.MADV_DONTFORK); print('c', flush=True); sys.stdin.read()"
    )
    charges = []
    with running("-c", code) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for letter in "abc":
            assert process.stdout.readline() == f"{letter}\n"
            charges.append(charge_of(process.pid))
            if letter != "c":
                process.stdin.write("\n")
                process.stdin.flush()
    assert 256 * MIB <= charges[1] - charges[0] <= 258 * MIB
    assert 256 * MIB <= charges[1] - charges[2] <= 258 * MIB


@pytest.mark.skipif(Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "0", reason="needs overcommit mode 0")
@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_the_prediction_of_enomem_comes_true(fraction: float) -> None:
    """Two adjacent mappings merge into one: together above memory + swap, and the fork is refused."""
    code = (
        "import mmap, os, sys\n"
        "info = dict(line.split(':') for line in open('/proc/meminfo'))\n"
        "most = sum(int(info[key].split()[0]) for key in ('MemTotal', 'SwapTotal')) * 1024\n"
        f"size = int(most * {fraction}) // (2 << 20) * (2 << 20)\n"
        "kept = [mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)]\n"
        "try:\n    pid = os.fork()\nexcept OSError as error:\n    print('refused', error.errno, flush=True)\n"
        "else:\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)\n    print('forked', flush=True)\n"
        "sys.stdin.read()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        truth = process.stdout.readline().split()
        finding = examine(process.pid)["fork-charge"]
    assert truth == (["refused", "12"] if fraction > 0.5 else ["forked"])
    assert finding["level"] == (PROBLEM if fraction > 0.5 else OK)


# --- the command


def test_the_machine_is_examined_and_the_status_is_documented() -> None:
    done = run("--json")
    result = json.loads(done.stdout)
    assert done.returncode == result["exit_status"]
    assert done.returncode in (0, 10, 20)
    assert done.stderr == ""
    names = [finding["name"] for finding in result["findings"]]
    assert set(machine_checks.CHECKS) | {"cgroup"} == set(names)
    help_text = run("--help").stdout
    for status in ("0 nothing", "10 a warning", "20 a problem"):
        assert status in help_text


def test_every_name_can_be_ignored() -> None:
    assert set(doctor.NAMES) == set(machine_checks.CHECKS) | set(process_checks.CHECKS)
    done = run("--json", "-p", str(os.getpid()), *(word for name in doctor.NAMES for word in ("--ignore", name)))
    assert done.returncode == 0
    assert json.loads(done.stdout)["findings"] == []


def test_an_unknown_name_is_refused() -> None:
    done = run("--ignore", "weather")
    assert done.returncode == 2
    assert "weather" in done.stderr


@pytest.mark.parametrize(
    ("levels", "status"),
    [([], 0), ([OK, INFO], 0), ([OK, UNKNOWN], 10), ([WARNING, INFO], 10), ([WARNING, PROBLEM, OK], 20)],
)
def test_the_exit_status(levels: list[str], status: int) -> None:
    assert doctor.exit_status([Finding("x", level, "text") for level in levels]) == status


def test_remedies_are_lines_of_their_own_and_whole() -> None:
    remedy = "echo " + "long " * 60 + "| sudo tee /somewhere"
    text = doctor.report([Finding("a", OK, "fine"), Finding("b", WARNING, "bad " * 50, (remedy,))], None, width=80)
    lines = text.splitlines()
    assert sum(remedy in line for line in lines) == 1
    assert next(line for line in lines if remedy in line).strip() == f"> {remedy}"
    assert lines.index(next(line for line in lines if "warning" in line)) < lines.index(
        "  ok       a              fine"
    )
    assert all(
        len(line) <= 80 for line in lines if remedy not in line and "silenced" not in line and "Checks of" not in line
    )


# --- real trees


def test_a_real_gunicorn() -> None:
    with gunicorn("--preload") as (pid, _):
        found = examine(pid)
        text = run("-p", str(pid)).stdout
    assert found["host"]["level"] == OK
    assert found["start-method"]["level"] == OK
    assert "were forked" in found["start-method"]["text"]
    assert found["permission"]["level"] == OK
    assert found["fork-charge"]["level"] in (OK, WARNING, PROBLEM)
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in found["python"]["text"]
    assert f"Process {pid}" in text


def test_a_real_gunicorn_without_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    with gunicorn() as (pid, _):
        host = examine(pid)["host"]
    assert host["level"] == WARNING
    assert "--preload" in host["remedy"][0]


def test_a_real_pool_of_forked_workers() -> None:
    with pool("fork") as pid:
        found = examine(pid)
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        below = examine(worker)
    assert found["start-method"]["level"] == OK
    assert found["host"]["level"] == OK
    assert found["threads"]["level"] == WARNING  # the pool's own handlers
    assert "threads are alive" in found["threads"]["text"]
    assert below["threads"]["level"] in (OK, INFO)


def test_a_real_pool_of_spawned_workers() -> None:
    with pool("spawn") as pid:
        done = run("--json", "-p", str(pid))
    assert done.returncode == 20
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"] if finding["pid"] == pid}
    assert found["host"]["level"] == PROBLEM
    assert found["start-method"]["level"] == PROBLEM
    assert "set_start_method" in found["start-method"]["remedy"][0]


def test_threads_are_counted_and_named() -> None:
    code = (
        "import sys, threading\nstop = threading.Event()\n"
        "threads = [threading.Thread(target=stop.wait, name=f'keeper-{i}') for i in range(3)]\n"
        "[t.start() for t in threads]\nprint('ready', flush=True)\nsys.stdin.read()\nstop.set()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        finding = examine(process.pid)["threads"]
    assert finding["level"] == WARNING
    assert finding["text"].startswith("4 threads are alive (")


# --- bad input


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    done = run("-p", str(process.pid))
    assert done.returncode == 2
    assert done.stderr == f"cowfreeze: there is no process {process.pid}\n"
    assert done.stdout == ""


@pytest.fixture(scope="module")
def foreign() -> Iterator[int]:
    with foreign_process() as pid:
        yield pid


@needs_root
@pytest.mark.parametrize(("who", "reason"), [("ours", "belongs to user"), ("foreign", "is not dumpable")])
def test_what_may_not_be_read_is_unknown_with_its_reason(who: str, reason: str, request: pytest.FixtureRequest) -> None:
    pid = os.getpid() if who == "ours" else request.getfixturevalue("foreign")
    done = as_nobody("doctor", "-p", str(pid), "--json")
    assert done.stderr == ""
    assert done.returncode >= 10
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"] if finding["pid"] == pid}
    for name in ("permission", "fork-charge", "python", "huge-pages"):
        assert found[name]["level"] == UNKNOWN
        assert reason in found[name]["text"]
    assert "sudo" in found["permission"]["remedy"][0]
    shown = as_nobody("doctor", "-p", str(pid))
    assert "unknown" in shown.stdout
    assert "Traceback" not in shown.stderr
