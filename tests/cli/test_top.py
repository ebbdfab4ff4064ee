"""`cowfreeze top`: planted copies, real process trees, the live table, bad input."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psutil
import pytest
from helpers.ending import hang_up_ends
from helpers.trees import FILES, as_nobody, command_line, foreign_process, gunicorn, needs_root, pool, running

from cowfreeze._system import proc
from cowfreeze.cli import top as top_command
from cowfreeze.cli.top.result import EXEC, FORK, ROOT, ProcessSample, TopSample, TreeSample
from cowfreeze.cli.top.sample import Sampler
from cowfreeze.cli.top.table import copied_cell, tables

PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1024
MIB = 1 << 20


def top(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return command_line("top", *arguments, **options)


def once(pid: int, interval: str = "0.2") -> dict[str, Any]:
    done = top("--once", "--json", "--interval", interval, "-p", str(pid))
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert len(result["trees"]) == 1
    tree: dict[str, Any] = result["trees"][0]
    return tree


# --- planted copies in real processes


@pytest.fixture(scope="module")
def planted() -> Iterator[dict[str, Any]]:
    with running(str(FILES / "planted.py")) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


NOISE = 3 * MIB  # what an interpreter itself writes after a fork; far below each planted region


@pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no pagemap here")
def test_planted_copies_are_found_and_nothing_else(planted: dict[str, Any]) -> None:
    tree = once(planted["parent"])
    row = {process["pid"]: process for process in tree["processes"]}
    size = planted["sizes"]
    a, b, c = (row[planted["pids"][name]] for name in "ABC")
    assert a["start"] == b["start"] == c["start"] == FORK
    assert size["one"] <= a["copied_at_least"] <= size["one"] + NOISE
    assert size["one"] + size["same"] <= a["copied_at_most"] <= size["one"] + size["same"] + NOISE
    # What the parent copied (32 MiB) must appear nowhere, and what all three wrote only in the upper bound.
    assert c["copied_at_least"] <= NOISE
    assert size["same"] <= c["copied_at_most"] <= size["same"] + NOISE
    assert a["copied"] is None
    assert "original" in a["unknown"]["copied"]
    # B shares what it copied with its own child.
    assert b["copied_at_most"] >= size["same"]  # bounded by its page faults alone
    assert "forked too" in b["unknown"]["copied"]
    root = row[planted["parent"]]
    assert root["start"] == ROOT
    assert root["copied_at_most"] is None


def test_sizes_are_those_of_psutil(planted: dict[str, Any]) -> None:
    tree = once(planted["parent"])
    for process in tree["processes"]:
        full = psutil.Process(process["pid"]).memory_full_info()
        for name, mine, theirs in (("rss", process["rss"], full.rss), ("pss", process["pss"], full.pss),
                                   ("uss", process["uss"], full.uss)):  # fmt: skip
            assert abs(mine - theirs) <= 1 * MIB, name
        assert process["swap"] == full.swap
        assert process["shared_ratio"] == pytest.approx(1 - process["uss"] / process["rss"], abs=0.02)
    assert tree["cluster_pss"] == sum(process["pss"] for process in tree["processes"])
    assert tree["cluster_pss"] < tree["rss_sum"] / 1.5


def test_faults_per_second_are_those_that_happen() -> None:
    code = (
        "import mmap, os, select, sys\nstep, offset = os.sysconf('SC_PAGE_SIZE'), 0\n"
        "m = mmap.mmap(-1, step * 20000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "print('ready', flush=True)\n"
        "while not select.select([sys.stdin], [], [], 0.002)[0]:\n    m[offset % len(m)] = 1\n    offset += step\n"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before, clock = faults(process.pid), time.monotonic()
        tree = once(process.pid, "1")
        expected = (faults(process.pid) - before) / (time.monotonic() - clock)
    rate = tree["processes"][0]["faults_per_second"]
    assert 20 < rate
    assert expected / 3 < rate < expected * 3


def faults(pid: int) -> int:
    return proc.read_stat(pid).minor_faults


# --- real hosts


def test_a_real_gunicorn() -> None:
    with gunicorn("--preload") as (pid, _):
        tree = once(pid)
        done = top("--once", "--interval", "0.1", "-p", str(pid))
    assert tree["host"] == "gunicorn"
    parent, *workers = tree["processes"]
    assert parent["start"] == ROOT
    assert len(workers) >= 2
    for worker in workers[:2]:
        assert worker["start"] == FORK
        assert worker["parent"] == pid
        assert worker["copied_at_most"] is not None
        assert worker["copied_at_least"] <= worker["copied_at_most"] <= worker["rss"]
    # Two workers served four requests between them, each of which touches every reference count.
    assert max(worker["copied_at_most"] for worker in workers) > 2 * MIB
    assert tree["cluster_pss"] > parent["pss"]
    assert f"gunicorn {pid}: " in done.stdout
    assert "cluster PSS" in done.stdout


def test_a_real_pool_of_forked_workers() -> None:
    with pool("fork") as pid:
        tree = once(pid)
    parent, *workers = tree["processes"]
    assert [worker["start"] for worker in workers] == [FORK, FORK]
    assert all(worker["title"] == "worker" for worker in workers)
    assert parent["threads"] > 1
    assert all(worker["shared_ratio"] > 0.3 for worker in workers)


def test_a_real_pool_of_spawned_workers() -> None:
    with pool("spawn") as pid:
        tree = once(pid)
        done = top("--once", "--interval", "0.1", "-p", str(pid))
    workers = [process for process in tree["processes"] if process["host"] == "multiprocessing spawn"]
    assert len(workers) == 2
    for worker in workers:
        assert worker["start"] == EXEC
        assert worker["copied_at_most"] is None
    assert tree["host"] == "multiprocessing spawn"
    assert "exec: " in done.stdout


def test_forked_trees_are_found_without_a_pid() -> None:
    with pool("fork") as forked, pool("spawn") as spawned:
        done = top("--once", "--json", "--interval", "0.1")
    assert done.returncode == 0
    members = {process["pid"] for tree in json.loads(done.stdout)["trees"] for process in tree["processes"]}
    assert forked in members
    roots = {tree["root"] for tree in json.loads(done.stdout)["trees"]}
    assert spawned not in roots  # nothing there can share


# --- live


def test_live_json_is_one_object_per_line() -> None:
    with pool("fork") as pid:
        process = subprocess.Popen(
            [sys.executable, "-m", "cowfreeze", "top", "--json", "--interval", "0.1", "-p", str(pid)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        samples = [json.loads(process.stdout.readline()) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""
    assert samples[0]["cost"] is None
    for earlier, later in pairwise(samples):
        assert later["time"] - earlier["time"] >= 0.1
    assert all(worker["faults_per_second"] is not None for worker in samples[1]["trees"][0]["processes"])


def test_watching_takes_one_percent_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred looks that cost what they cost, and a clock that moves by the pauses alone."""
    now, spent, readings = [100.0], [], []

    def sleep(seconds: float) -> None:
        now.append(now[-1] + seconds)
        spent.append(time.process_time())
        readings.append(sampler.reading_seconds)
        if len(spent) == 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(top_command, "time", types.SimpleNamespace(sleep=sleep, process_time=time.process_time))
    with pool("fork") as pid:
        sampler = Sampler(pid, clock=lambda: now[-1])
        with pytest.raises(KeyboardInterrupt):
            top_command._print_forever(sampler, 0.1, lambda sample: json.dumps(sample.to_dict()))
    assert sum(seconds > 0 for seconds in readings[1:]) > 5  # memory and pages were read again, too
    # The first look is paid for later; a reading may be dearer than what is left, and is owed then.
    assert spent[-1] - spent[0] <= 0.0105 * (now[-1] - now[0]) + max(readings)


def test_figures_that_were_not_read_again_grow_older() -> None:
    class Clock:
        now = 100.0

    clock = Clock()
    price = {"spent": 0.0}

    def cost() -> float:
        price["spent"] += 0.05  # each reading costs this much, so one look is owed for a long time
        return price["spent"]

    sampler = Sampler(os.getpid(), clock=lambda: clock.now, cost=cost)
    first = sampler.sample().trees[0].processes[0]
    clock.now += 3
    second = sampler.sample().trees[0].processes[0]
    assert (first.memory_age, second.memory_age) == (0, 3)
    assert (first.faults_per_second is None, second.faults_per_second is None) == (True, False)
    for _ in range(200):  # until it is earned
        clock.now += 3
        third = sampler.sample().trees[0].processes[0]
        if third.memory_age == 0:
            break
    assert third.memory_age == 0
    assert clock.now > 100 + 0.05 / 0.005


@pytest.mark.parametrize(
    ("number", "encoding"),
    [(signal.SIGINT, "utf-8"), (signal.SIGTERM, "utf-8"), (signal.SIGHUP, "utf-8"), (signal.SIGINT, "ascii")],
)
def test_live_in_a_terminal_ends_with_the_last_table(number: signal.Signals, encoding: str) -> None:
    with pool("fork") as pid:
        terminal, inner = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "cowfreeze", "top", "--interval", "0.1", "-p", str(pid)],
            stdin=inner, stdout=inner, stderr=inner,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PYTHONIOENCODING": encoding},
            preexec_fn=hang_up_ends,
        )  # fmt: skip
        os.close(inner)
        text, deadline, told = b"", time.monotonic() + 30, False
        while time.monotonic() < deadline:
            if b"Ctrl-C" in text and not told:
                process.send_signal(number)
                told = True
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    text += os.read(terminal, 65536)
                except OSError:  # the other side is closed: it has ended
                    break
        process.kill()
        status = process.wait()
        os.close(terminal)
    on_screen, _, left_behind = text.decode().partition("\x1b[?1049l")  # the end of the alternate screen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", left_behind)
    assert status == 0
    assert "Traceback" not in plain
    assert "Ctrl-C ends" in on_screen
    assert plain.count(f"{pid}: 3 processes") == 1
    assert "Ctrl-C" not in plain


def test_live_ends_when_the_process_ends() -> None:
    with running("-c", "print('ready', flush=True); input()") as watched:
        process = subprocess.Popen(
            [sys.executable, "-m", "cowfreeze", "top", "--json", "--interval", "0.1", "-p", str(watched.pid)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert watched.stdin is not None
        watched.kill()
        watched.wait()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == f"cowfreeze: process {watched.pid} has ended\n"


# --- bad input


def test_a_process_that_does_not_exist() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for pid in (str(process.pid), "99999999999999999999"):
        done = top("--once", "-p", pid)
        assert done.returncode == 2
        assert done.stderr == f"cowfreeze: there is no process {pid}\n"
        assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["-p", "0"], ["-p", "x"], ["--interval", "0"], ["--interval", "nan"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    done = top("--once", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_zombie_holds_nothing() -> None:
    code = "import os, sys\nif os.fork() == 0: os._exit(0)\nprint('ready', flush=True)\nsys.stdin.read()"
    with running("-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        tree = once(process.pid)
        text = top("--once", "--interval", "0.1", "-p", str(process.pid)).stdout
    zombie = tree["processes"][1]
    assert zombie["state"] == "Z"
    assert zombie["rss"] is None
    assert tree["cluster_pss"] is not None  # that of the living
    assert "(ended)" in text


@needs_root
def test_somebody_elses_processes() -> None:
    with pool("fork") as pid:
        arguments = ("top", "--once", "--interval", "0.1", "-p", str(pid))
        done = as_nobody(*arguments, "--json")
        shown = as_nobody(*arguments)
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)["trees"][0]
    assert tree["cluster_pss"] is None
    for process in tree["processes"]:
        assert process["rss"] > 0  # anyone may know this
        assert process["pss"] is None
        assert process["copied_at_least"] is None
        assert "belongs to user" in process["unknown"]["pss"]
    assert "run as that user or as root" in shown.stdout
    assert "unknown" in shown.stdout
    assert " 0 B" not in shown.stdout  # what is not known is never 0


@needs_root
def test_a_process_that_is_not_dumpable() -> None:
    with foreign_process() as pid:
        done = as_nobody("top", "--once", "--json", "--interval", "0.1", "-p", str(pid))
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["trees"][0]["processes"][0]
    assert row["pss"] is None
    assert "is not dumpable" in row["unknown"]["pss"]
    assert "PR_SET_DUMPABLE" in row["unknown"]["pss"]


# --- the table


def row(**changes: Any) -> ProcessSample:
    fields: dict[str, Any] = {
        "pid": 4243, "parent": 4242, "depth": 1, "title": "worker", "host": None, "start": FORK, "state": "S",
        "threads": 1, "rss": 80 * MIB, "pss": 30 * MIB, "uss": 20 * MIB, "swap": 0, "shared_ratio": 0.75,
        "copied": None, "copied_at_least": None, "copied_at_most": None, "frozen_bytes": 0,
        "faults_per_second": 12.0,
        "memory_age": 0.1, "copied_age": 61.0, "unknown": {},
    }  # fmt: skip
    return ProcessSample(**{**fields, **changes})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (None, None, "unknown"),
        (0, 0, "0 B"),
        (0, MIB, "up to 1 MiB"),
        (MIB, MIB, "1 MiB"),
        (MIB, MIB + 100, "1 MiB"),
        (MIB, 3 * MIB, "1–3 MiB"),
        (512 * KIB, 3 * MIB, "512 KiB–3 MiB"),
        (MIB, None, "1 MiB or more"),
        (0, None, "unknown"),
        (None, MIB, "up to 1 MiB"),
    ],
)
def test_the_cell_of_copied_memory(low: int | None, high: int | None, expected: str) -> None:
    assert copied_cell(row(copied_at_least=low, copied_at_most=high)) == expected
    for start in (ROOT, EXEC):
        assert copied_cell(row(start=start, copied_at_least=low, copied_at_most=high)) == "–"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_row_is_one_line_at_any_width(width: int) -> None:
    from cowfreeze._tables import render

    first = row(pid=4242, depth=0, start=ROOT, title="gunicorn --preload -w 4 something:long")
    rows = (first, *(row(pid=pid, copied_at_least=512 * KIB, copied_at_most=123 * MIB) for pid in range(4243, 4247)))
    sample = TopSample(0.0, PAGE, 0.01, 0.002, (TreeSample(4242, "gunicorn", rows, 150 * MIB, 150 * MIB, 400 * MIB),))
    lines = render(tables(sample, width)[0], width=width).splitlines()
    body = lines[lines.index(next(line for line in lines if "──" in line)) + 1 :]
    assert len([line for line in body if line.strip()]) == len(rows)
    assert all(str(process.pid) in line for process, line in zip(rows, body, strict=False))
    assert max(len(line) for line in lines) <= width
