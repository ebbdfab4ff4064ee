"""`cowfreeze bench` end to end, with tiny data: every mode that is here, and every bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.ending import hang_up_ends

from cowfreeze.bench.modes import MODES
from cowfreeze.bench.report.results import BenchResult, Row, load
from cowfreeze.cli import main

IMMORTAL = sys.version_info >= (3, 12)
KIB, MIB = 1 << 10, 1 << 20


def bench(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cowfreeze", *arguments],
        check=False,
        **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 300, **options},
    )


def measured(tmp_path: Path, *arguments: str, **options: Any) -> tuple[BenchResult, str]:
    path = str(tmp_path / "out.json")
    done = bench("bench", *arguments, "--rounds", "1", "--seed", "1", "-o", path, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return load(path), done.stdout


def row(result: BenchResult, mode: str) -> Row:
    return next(row for row in result.rows() if row.mode == mode)


def check_modes(result: BenchResult, text: str) -> None:
    """What must hold for each mode that ran, and for each that could not."""
    assert not result.failed
    figures = {}
    for found in result.rows():
        if found.why_not is not None:
            assert found.mode in ("pack", "cinderx", "hugepages", "shared_memory"), found.why_not
            assert found.why_not in " ".join(text.split())
        else:
            figures[found.mode] = found.median("copied_max")
            assert (found.median("exit_bytes") or 0) > 0
            assert (found.median("forks_per_second") or 0) > 0
    assert len({cell.content for found in result.rows() for cell in found.measured}) == 1
    none, frozen = figures["none"], figures["freeze"]
    assert none is not None and frozen is not None
    assert none > 3 * MIB
    if IMMORTAL:
        assert frozen < none / 5


def test_modes_side_by_side(tmp_path: Path) -> None:
    modes = "none,freeze,pack,serialized"
    result, text = measured(tmp_path, "records", "--size", "8000", "--workers", "2", "--modes", modes)
    assert [row.mode for row in result.rows()] == ["none", "freeze", "pack", "serialized"]
    check_modes(result, text)
    assert f"cowfreeze bench records --modes {modes} --workers 2 --rounds 1 --size 8000" in text
    assert "copied, max" in text


@pytest.mark.slow
def test_every_mode_is_a_row(tmp_path: Path) -> None:
    result, text = measured(tmp_path, "records", "--size", "8000", "--workers", "2")
    assert {row.mode for row in result.rows()} == set(MODES)
    check_modes(result, text)
    if IMMORTAL:
        heap = row(result, "heap")
        assert (heap.median("copied_max") or 0) < (row(result, "none").median("copied_max") or 0) / 5
        assert (heap.median("frozen_copied_pages") or 0) < 400


def test_the_workers_really_copy_what_the_work_writes(tmp_path: Path) -> None:
    """Planted truth: the work writes one byte on each of 512 pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "planted_app.py").write_text(
        "import mmap\n"
        "def make():\n"
        "    memory = mmap.mmap(-1, 1024 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "    memory[:] = b'x' * len(memory)\n"
        "    return memory\n"
        "def work(memory):\n"
        "    for offset in range(0, 512 * mmap.PAGESIZE, mmap.PAGESIZE):\n"
        "        memory[offset] = 1\n"
    )
    arguments = ("--app", "planted_app:make", "--work", "planted_app:work", "--modes", "gc.freeze", "--workers", "2")
    result, text = measured(tmp_path, *arguments, cwd=tmp_path)
    copied = row(result, "gc.freeze").median("copied_max")
    assert copied is not None
    assert 512 * page <= copied < 512 * page + 3 * MIB
    assert "planted_app" in text


def test_what_an_exit_copies_and_its_status(tmp_path: Path) -> None:
    result, _ = measured(tmp_path, "bigdict", "--size", "150000", "--workers", "2", "--modes", "none,heap,serialized")
    for mode in ("none", "heap"):
        assert row(result, mode).cells[0].exit_statuses == (0, 0)
    assert "lists only" in (row(result, "serialized").why_not or "")
    if IMMORTAL:
        assert row(result, "none").values("exit_bytes")[0] > row(result, "heap").values("exit_bytes")[0] + 2 * MIB


def test_the_curve_has_a_point_per_size(tmp_path: Path) -> None:
    result, text = measured(tmp_path, "fork", "--size", "64", "--modes", "none,gc.freeze", "--markdown")
    points = row(result, "none").cells[0].points
    assert len(points) == 2
    assert points[1][0] - points[0][0] > 40 * MIB
    for _, fork, cycle in points:
        assert 0 < fork < cycle
    assert row(result, "gc.freeze").why_not
    assert "| none | " in text


def test_a_real_server_under_load(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    result, _ = measured(tmp_path, "web", "--size", "3000", "--workers", "2", "--modes", "freeze,cinderx")
    found = row(result, "freeze")
    assert (found.median("requests_per_second") or 0) > 0
    assert (found.median("copied_max") or 0) > 0
    assert (found.median("cluster_pss") or 0) > 5 * MIB
    assert found.cells[0].content[0] == 300
    assert "2 workers served the 300 requests" in found.cells[0].notes[-1]


def test_compare_reads_what_bench_wrote(tmp_path: Path) -> None:
    measured(tmp_path, "loop", "--size", "500", "--workers", "1", "--modes", "none")
    path = str(tmp_path / "out.json")
    done = bench("compare", path, path)
    assert done.returncode == 0, done.stderr
    assert "figures differ by no more than their spread" in done.stdout
    done = bench("bench", "--load", path, "--markdown")
    assert done.returncode == 0, done.stderr
    assert "| none | " in done.stdout
    done = bench("compare", path, str(tmp_path / "missing.json"))
    assert done.returncode == 2
    assert "cannot read" in done.stderr


def test_list_names_everything() -> None:
    done = bench("bench", "list")
    assert done.returncode == 0, done.stderr
    for name in (*MODES, "ucd", "bigdict", "dataloader", "copied, max"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("nonsense",), 2, "there is no case 'nonsense'; there are: ucd"),
        (("records", "--modes", "frieze"), 2, "there is no mode 'frieze'; there are: none"),
        (("records", "--modes", ","), 2, "--modes names none"),
        (("--app", "no_such_module_here:make"), 2, "no_such_module_here does not import: ModuleNotFoundError"),
        (("--app", "json:nothing"), 2, "the module json has no function nothing"),
        (("--app", "antigravity"), 2, 'give "package.module:function"'),
        (("--work", "json:dumps"), 2, "--work needs --app"),
        (("loop", "--app", "json:dumps"), 2, "give either cases or --app"),
        (("--load", "/no/such/file.json"), 2, "cannot read /no/such/file.json"),
        (("loop", "--load", "a.json"), 2, "--load shows what a file holds"),
        (("records", "--workers", "1000"), 2, "--workers 1000 is too many"),
        (("records", "--size", "900000000"), 1, "too little memory for records"),
        (("loop", "-o", "/no/such/folder/a.json"), 2, "there is no folder /no/such/folder"),
    ],
)
def test_bad_input_is_one_line_before_the_work(
    arguments: tuple[str, ...], status: int, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == status
    output, errors = capfd.readouterr()
    assert expected in errors
    assert len(errors.splitlines()) == 1
    assert output == ""


def test_a_case_that_fails_is_told_and_the_status_says_so(tmp_path: Path) -> None:
    (tmp_path / "failing_app.py").write_text("def make():\n    raise ValueError('no data today')\n")
    done = bench("bench", "--app", "failing_app:make", "--modes", "none", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "failed: ValueError: no data today" in done.stdout
    assert "Traceback" not in done.stderr


def session_of(pid: int) -> set[int]:
    """PID's descendants, whatever their session."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found |= {int(entry.name)} | session_of(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_keeps_what_was_measured_and_ends_every_worker(tmp_path: Path, number: signal.Signals) -> None:
    """The second measurement's work sleeps, so that the signal surely comes in its middle."""
    (tmp_path / "slow_app.py").write_text(
        "import pathlib, time\n"
        "def make():\n"
        "    return [1]\n"
        "def work(data):\n"
        "    calls = pathlib.Path('calls')\n"
        "    with calls.open('a') as file:\n"
        "        file.write('x')\n"
        "    if calls.stat().st_size > 3:\n"  # the worker, and the parent twice, in the first one
        "        pathlib.Path('sleeping').touch()\n"
        "        time.sleep(300)\n"
    )
    path = tmp_path / "out.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "cowfreeze", "bench", "--app", "slow_app:make", "--work", "slow_app:work"]
        + ["--modes", "none", "--workers", "1", "--rounds", "3", "-o", str(path)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hang_up_ends,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "sleeping").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    family = session_of(process.pid)
    assert family
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("cowfreeze: interrupted after 1 of 3 measurements")
    assert str(path) in last
    kept = load(str(path))
    assert kept.interrupted
    assert len(kept.cells) == 1
    assert "interrupted: 1 of 3" in output
    until = time.monotonic() + 10
    while any(is_running(pid) for pid in family):
        assert time.monotonic() < until, "a process was left behind"
        time.sleep(0.05)
