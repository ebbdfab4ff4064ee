"""fork_workers: time-outs, interruptions, the application's own handling of children, refusals."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.workers import leaves_nothing_behind, one, only, run_script  # noqa: F401

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError
from cowfreeze._workers import run
from cowfreeze._workers.channel import HEADER, MEASURED, RELEASE
from cowfreeze._workers.fork import fork_workers
from cowfreeze._workers.report import PagesCopied, WorkersResult
from cowfreeze._workers.worker import Worker

SCRIPTS = Path(__file__).parent


# --- time and interruptions ---------------------------------------------------------


def test_timeout_ends_with_sigterm() -> None:
    start = time.monotonic()
    worker = one(lambda index: time.sleep(60), timeout=0.3)
    assert time.monotonic() - start < 20
    assert worker.outcome == "timed out" and worker.exitcode == -signal.SIGTERM
    assert "0.3 s" in worker.status and "SIGTERM" in worker.status
    assert worker.copied_pages is None


def test_timeout_of_a_target_that_ignores_sigterm() -> None:
    def target(index: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    worker = one(target, timeout=0.3, grace=0.2)
    assert worker.outcome == "timed out" and worker.exitcode == -signal.SIGKILL
    assert "ignored SIGTERM" in worker.status


def test_timeout_of_a_stopped_worker() -> None:
    worker = one(lambda index: os.kill(os.getpid(), signal.SIGSTOP), timeout=0.3, grace=0.1)
    assert worker.outcome == "timed out" and worker.exitcode == -signal.SIGKILL


def test_timeout_ends_the_children_of_the_target() -> None:
    read, write = os.pipe()

    def target(index: int) -> None:
        child = subprocess.Popen(["sleep", "60"])
        os.write(write, b"%d\n" % child.pid)
        child.wait()

    try:
        fork_workers(target, 1, timeout=0.5)
        left = int(os.read(read, 100))
    finally:
        os.close(read)
        os.close(write)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


class SlowToPickle:
    def __reduce__(self) -> Any:
        time.sleep(60)


def test_timeout_while_the_result_is_pickled() -> None:
    worker = one(lambda index: SlowToPickle(), timeout=0.3, grace=0.1)
    assert worker.outcome == "timed out" and "sent its result" in worker.status
    assert worker.copied_pages is not None


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupt])
def test_an_exception_in_the_parent_ends_all(error: type[BaseException]) -> None:
    def interrupt(*_: object) -> None:
        raise error

    start = time.monotonic()
    with handler(signal.SIGALRM, interrupt), pytest.raises(error):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        fork_workers(lambda index: time.sleep(60), 3)
    assert time.monotonic() - start < 20
    # the fixture looks for children


def test_control_c_reaches_the_workers_too() -> None:
    assert run_script("cases_interrupted.py").splitlines() == ["interrupted", "no child"]


def test_a_handler_that_raises_around_a_fork_loses_no_child() -> None:
    assert run_script("cases_around_fork.py") == "ok\n"


@contextlib.contextmanager
def handler(number: signal.Signals, function: Any) -> Iterator[None]:
    before = signal.signal(number, function)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)


def test_signals_that_interrupt_system_calls() -> None:
    ticks: list[int] = []
    with handler(signal.SIGALRM, lambda *_: ticks.append(1)):
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        blob = bytes(4 << 20)
        result = fork_workers(lambda index: (time.sleep(0.1), blob)[1], 3)
    assert result.results == (blob,) * 3 and len(ticks) > 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_witness_die_with_the_parent(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "cases_parent_dies.py")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        lines = [parent.stdout.readline().split() for _ in range(2)]
        assert {int(ppid) for _, ppid in lines} == {parent.pid}
        children = psutil.Process(parent.pid).children()
        assert {int(pid) for pid, _ in lines} < {child.pid for child in children}
        assert len(children) == 3
        parent.send_signal(number)
        assert parent.wait(20) == -number
    deadline = time.monotonic() + 20
    while any(is_alive(child) for child in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.01)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- the application's own handling of children ---------------------------------------


def test_sigchld_ignored() -> None:
    with handler(signal.SIGCHLD, signal.SIG_IGN):
        stranger = subprocess.Popen(["true"])  # noqa: S607
        result = fork_workers(only(lambda index: os.kill(os.getpid(), 9), 0), 2)
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
        stranger.wait()
    assert "killed by SIGKILL" in result.workers[0].status
    assert result.workers[1].exitcode == 0


def test_the_target_sees_the_signals_of_the_application() -> None:
    with handler(signal.SIGCHLD, signal.SIG_IGN):
        ignored, mask = fork_workers(
            lambda index: (
                signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN,
                signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            ),
            1,
        ).results[0]
    assert ignored and mask == signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_sigchld_handler_that_reaps_everything() -> None:
    reaped: list[int] = []

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                reaped.append(pid)

    with handler(signal.SIGCHLD, reap):
        result = fork_workers(only(lambda index: os.kill(os.getpid(), 9), 0), 3)
    assert reaped == []
    assert [worker.exitcode for worker in result.workers] == [-9, 0, 0]


def test_somebody_else_takes_the_exit_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be prevented in a thread that is not the main one."""
    results: list[WorkersResult] = []
    target = only(lambda index: os._exit(7), 0)
    with handler(signal.SIGCHLD, signal.SIG_IGN):
        thread = threading.Thread(target=lambda: results.append(fork_workers(target, 2)))
        thread.start()
        thread.join(30)
    lost, fine = results[0].workers
    assert lost.outcome == "vanished" and lost.failed and lost.exitcode is None
    assert fine.outcome == "returned" and fine.result == "fine"
    assert [note for note in results[0].notes if "main thread" in note]


# --- what the machine refuses ---------------------------------------------------------


def test_a_fork_that_fails_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = os.fork, []

    def fork() -> int:
        if len(started) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid = real()
        started.append(pid)
        return pid

    read, write = os.pipe()
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(CowfreezeError, match="worker 2 of 4 could not be forked.*ulimit -u"):
        fork_workers(lambda index: os.write(write, b"ran"), 4)
    os.close(write)
    assert os.read(read, 10) == b""  # no target had started
    os.close(read)
    assert not any(psutil.pid_exists(pid) for pid in started)


def test_too_few_descriptors() -> None:
    lines = run_script("cases_few_descriptors.py").splitlines()
    assert "ulimit -n" in lines[0] and lines[1:] == ["no child"]


def refuse(*_: object) -> Any:
    raise OSError(errno.EAGAIN, "planted")


def test_without_a_witness_figures_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "Witness", refuse)
    result = fork_workers(lambda index: index, 2)
    assert result.results == (0, 1)
    assert result.copied is result.frozen_copied is result.shared_ratio is None
    assert result.method is None and result.minor_faults is not None
    assert "planted" in result.workers[0].reasons[0]
    with pytest.raises(PagesCopied, match="unknown how many pages worker 0.*planted"):
        result.assert_shared(max_copied="1 TiB", max_frozen=10**9)


def test_a_record_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, witness: object) -> None: ...

        def measure_into(self, descriptor: int, pages: object, since: bool) -> None:
            raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(_core, "WorkerAudit", Broken)
    worker = one_unmeasured(fork_workers(lambda index: index, 1))
    assert "planted" in worker.reasons[0]


def one_unmeasured(result: WorkersResult) -> Any:
    worker = result.workers[0]
    assert worker.outcome == "returned" and worker.copied_pages is None
    assert str(result).count("unknown") >= 3
    return worker


def test_memory_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "read_memory", lambda pid: (None, "planted"))
    result = fork_workers(lambda index: index, 1)
    assert result.cluster_pss is None and result.workers[0].pss is None
    assert [note for note in result.notes if "cluster PSS is unknown" in note and "planted" in note]


def test_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_pidfd", lambda pid: None)
    assert "SIGKILL" in one(lambda index: os.kill(os.getpid(), 9)).status
    assert one(lambda index: time.sleep(60), timeout=0.2).outcome == "timed out"


def test_threads_are_told_and_warnings_stay_away() -> None:
    lines = run_script("cases_threads.py").splitlines()
    # No warning from os.fork, and the workers see the application's filters.
    assert lines[0] == "warnings: 0, filters: always always"
    assert "1 more threads" in lines[1]


def test_a_worker_killed_before_it_reads_its_release() -> None:
    """The kernel then says "connection reset"; one in twenty killed workers was called vanished."""
    worker = Worker(0, ())
    worker.there.send(HEADER.pack(MEASURED, 0))
    worker.send(RELEASE)
    worker.there.close()
    assert worker.receive() is False
    assert worker.is_measured
    assert worker.channel_error == ""
    worker.here.close()
