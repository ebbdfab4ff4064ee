"""fork_workers: whatever a target does, the result says so and nothing is left behind.

Targets here are reversible, so they run in the test process; what needs a process of its
own (a parent that dies, closed stdio, limits) is a script in tests/workers/.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import cowfreeze
from cowfreeze import _core
from cowfreeze._errors import CowfreezeError, PagesCopied, WorkerFailed
from cowfreeze._report import WorkersResult
from cowfreeze._workers import assert_shared, fork_workers, run

SCRIPTS = Path(__file__).parent / "workers"
PAGE = os.sysconf("SC_PAGE_SIZE")


def state_of_process() -> dict[str, Any]:
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int),
        "children": psutil.Process().children(recursive=True),  # zombies too
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "SIGCHLD": signal.getsignal(signal.SIGCHLD),
    }


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """W5, after every test of this file."""
    before = state_of_process()
    yield
    assert state_of_process() == before


def run_script(name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, str(SCRIPTS / name)],
        capture_output=True,
        text=True,
        timeout=60,
        # Unbuffered output has nothing that could be lost or doubled.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    assert done.returncode == 0, f"{name}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def only(target: Callable[[int], Any], index: int) -> Callable[[int], Any]:
    """A target that misbehaves in one worker only."""
    return lambda number: target(number) if number == index else "fine"


def one(target: Callable[[int], Any], **options: Any) -> Any:
    """The report of the misbehaving one of two workers; the other must be unharmed."""
    result = fork_workers(only(target, 0), 2, **options)
    assert (result.workers[1].outcome, result.workers[1].result) == ("returned", "fine")
    assert result.workers[1].copied_pages is not None
    return result.workers[0]


# --- results ------------------------------------------------------------------------


def test_workers_get_their_index_and_return_in_order() -> None:
    pids: list[int] = []
    result = fork_workers(lambda index: (index, os.getpid(), os.getppid()), 4)
    assert [index for index, _, _ in result.results] == [0, 1, 2, 3]
    assert {parent for _, _, parent in result.results} == {os.getpid()}
    pids = [pid for _, pid, _ in result.results]
    assert pids == [worker.pid for worker in result.workers]
    assert [worker.exitcode for worker in result.workers] == [0] * 4


def test_two_workers_unless_told() -> None:
    assert fork_workers(lambda index: index).results == (0, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"args": [(1, 2), (3, 4), (5, 6)]},
        {"workers": [[1, 2], (3, 4), (5, 6)]},
        {"workers": 3, "args": iter([(1, 2), (3, 4), (5, 6)])},
    ],
)
def test_argument_tuples(options: dict[str, Any]) -> None:
    assert fork_workers(lambda a, b: a + b, **options).results == (3, 7, 11)


def test_results_larger_than_any_pipe() -> None:
    blob = os.urandom(1 << 20) * 24
    result = fork_workers(lambda index: (index, blob), 3)
    assert all(value == (index, blob) for index, value in enumerate(result.results))


@pytest.mark.parametrize(
    ("options", "error", "form"),
    [
        ({"workers": 0}, ValueError, "at least 1"),
        ({"workers": -1}, ValueError, "at least 1"),
        ({"workers": True}, TypeError, "at least 1"),
        ({"workers": "2"}, TypeError, "workers=4"),
        ({"workers": 2.0}, TypeError, "workers=4"),
        ({"workers": [1, 2]}, TypeError, r"args=\[\(1,\), \(2,\)\]"),
        ({"args": []}, ValueError, "empty"),
        ({"args": "ab"}, TypeError, "argument tuples"),
        ({"workers": 3, "args": [(1,)]}, ValueError, "leave workers out"),
        ({"workers": [(1,)], "args": [(1,)]}, TypeError, "both"),
        ({"timeout": 0}, ValueError, "above 0"),
        ({"timeout": -1.5}, ValueError, "above 0"),
        ({"timeout": float("nan")}, ValueError, "above 0"),
        ({"timeout": float("inf")}, ValueError, "None for no limit"),
        ({"timeout": "1"}, TypeError, "seconds"),
        ({"timeout": True}, TypeError, "seconds"),
        ({"grace": -1}, ValueError, "at least 0"),
    ],
)
def test_bad_input_names_the_right_form(
    options: dict[str, Any], error: type[Exception], form: str
) -> None:
    with pytest.raises(error, match=form):
        fork_workers(int, **options)


def test_a_target_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="target=3 cannot be called"):
        fork_workers(3)  # type: ignore[arg-type]


# --- how targets end ----------------------------------------------------------------


class Picky(Exception):
    """Pickles, but cannot be unpickled: __init__ wants what args does not hold."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} {b}")


class Local(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


def raise_it(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "shipped"),
    [(ValueError("bad [red]"), True), (KeyboardInterrupt(), True), (Picky(1, 2), False),
     (Local("x"), False), (GeneratorExit(), True), (RecursionError("deep"), True)],
)  # fmt: skip
def test_an_exception(error: BaseException, shipped: bool) -> None:
    worker = one(lambda index: raise_it(error))
    assert worker.outcome == "raised" and worker.failed and worker.exitcode == 1
    assert f"raised {type(error).__name__}" in worker.status.replace("test_workers.", "")
    assert "in raise_it" in worker.traceback and "/cowfreeze/_workers" not in worker.traceback
    assert type(worker.error) is (type(error) if shipped else type(None))
    assert worker.copied_pages is not None


@pytest.mark.parametrize(
    ("code", "status"), [(None, 0), (0, 0), (3, 3), (-1, 255), (256, 0), ("why", 1)]
)
def test_sys_exit(code: Any, status: int) -> None:
    worker = one(lambda index: sys.exit(code))
    assert (worker.outcome, worker.exitcode) == ("exited", status)
    assert f"status {status}" in worker.status
    assert worker.failed == (status != 0)
    assert worker.copied_pages is not None


def test_os_exit_skips_the_measuring() -> None:
    worker = one(lambda index: os._exit(7))
    assert (worker.outcome, worker.exitcode, worker.failed) == ("exited", 7, True)
    assert worker.copied_pages is None and "before it could measure" in worker.reasons[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_named(number: signal.Signals) -> None:
    worker = one(lambda index: os.kill(os.getpid(), number))
    assert worker.outcome == "killed" and worker.exitcode == -number
    assert f"killed by {number.name}" in worker.status
    assert worker.copied_pages is worker.minor_faults is worker.uss is None
    assert "was killed" in worker.reasons[0]


def test_a_result_that_cannot_be_pickled_keeps_the_figures() -> None:
    worker = one(lambda index: lambda: 0)
    assert worker.outcome == "result lost" and worker.failed
    assert "cannot be pickled" in worker.status and "Return plain data" in worker.status
    assert worker.copied_pages is not None and worker.pss is not None


def test_a_result_that_cannot_be_unpickled() -> None:
    worker = one(lambda index: Picky(1, 2))
    assert worker.outcome == "result lost" and "unpickled in the parent" in worker.status


def test_results_of_failed_workers_are_no_none() -> None:
    result = fork_workers(only(lambda index: raise_it(ValueError("no")), 1), 3)
    with pytest.raises(WorkerFailed, match="1 of 3 .*: worker 1 raised ValueError: no") as info:
        _ = result.results
    assert "in raise_it" in str(info.value) and isinstance(info.value.__cause__, ValueError)
    assert info.value.result is result


# --- forks, descriptors, output -----------------------------------------------------


def test_a_child_of_the_target_that_returns_too_reports_nothing() -> None:
    def target(index: int) -> str:
        child = os.fork()
        if child == 0:
            return "from the child"
        _, status = os.waitpid(child, 0)
        return f"child ended with {status}"

    assert fork_workers(target, 3, timeout=30).results == ("child ended with 0",) * 3


def test_a_child_of_the_target_that_raises() -> None:
    def target(index: int) -> int:
        child = os.fork()
        if child == 0:
            sys.stderr = open(os.devnull, "w")
            raise ValueError("in the child")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert fork_workers(target, 2).results == (1, 1)


def test_what_the_target_left_running_is_ended_and_named() -> None:
    def target(index: int) -> int:
        if index == 1:
            return 0
        child = os.fork()
        if child == 0:
            if os.fork() == 0:  # a double fork: its parent is gone when we look
                time.sleep(60)
            os._exit(0)
        os.waitpid(child, 0)
        return psutil.Process().children()[0].pid

    result = fork_workers(target, 2, grace=0.1)
    assert [note for note in result.notes if "worker 0 left 1 process" in note]
    left = result.results[0]
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_closed_descriptors_lose_the_result_but_no_figure() -> None:
    worker = one(lambda index: os.closerange(3, 5000))
    assert worker.outcome == "result lost" and "closed the descriptors" in worker.status
    assert worker.copied_pages is not None and worker.seconds is not None


def test_closed_descriptors_keep_an_exception() -> None:
    def target(index: int) -> None:
        os.closerange(3, 5000)
        raise ValueError("still told")

    worker = one(target)
    assert worker.outcome == "raised" and "ValueError: still told" in worker.status


def test_nothing_is_written_to_what_took_the_number() -> None:
    own, other = socket.socketpair()

    def target(index: int) -> None:
        for number in range(3, 300):
            if number != other.fileno():
                os.dup2(other.fileno(), number)

    with own, other:
        worker = one(target, timeout=30)
        own.setblocking(False)
        with pytest.raises(BlockingIOError):
            own.recv(1)
    assert worker.outcome == "result lost" and worker.copied_pages is not None


def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    def target(index: int) -> str:
        sys.stdout = open(tmp_path / "out", "w")
        print("buffered")
        os.close(sys.stdout.fileno())
        return "result"

    result = fork_workers(only(target, 0), 2)
    assert result.results == ("result", "fine")
    assert [note for note in result.notes if "worker 0 could not write" in note]
    assert result.workers[0].exitcode == 120


def test_a_closed_stdout_object() -> None:
    def target(index: int) -> str:
        sys.stdout = sys.__stdout__ = open(os.devnull, "w")
        sys.stdout.close()
        return "result"

    assert fork_workers(target).results == ("result", "result")


def test_output_is_flushed_once_and_atexit_stays_in_the_parent() -> None:
    lines = run_script("buffered_output.py").splitlines()
    assert sorted(lines[1:4]) == ["worker 0", "worker 1", "worker 2"]
    assert [lines[0], *lines[4:]] == ["before", "after 0 0 3", "atexit"]


def test_no_channel_becomes_stdout() -> None:
    lines = run_script("closed_stdio.py").splitlines()
    assert lines[0] == "channel above stdio: True"
    assert len(lines) == 3
    assert all("raised OSError: [Errno 9]" in line for line in lines[1:]), lines


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
    assert run_script("interrupted.py").splitlines() == ["interrupted", "no child"]


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
        [sys.executable, str(SCRIPTS / "parent_dies.py")], stdout=subprocess.PIPE, text=True
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
    lines = run_script("few_descriptors.py").splitlines()
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

        def measure_into(self, descriptor: int) -> None:
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
    lines = run_script("threads.py").splitlines()
    # No warning from os.fork, and the workers see the application's filters.
    assert lines[0] == "warnings: 0, filters: always always"
    assert "1 more threads" in lines[1]


# --- figures --------------------------------------------------------------------------


@contextlib.contextmanager
def private_memory(size: int) -> Iterator[mmap.mmap]:
    """Private pages that exist: each is written once, here."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        memory[offset] = 1
    with memory:
        yield memory


def dirty(memory: mmap.mmap, pages: int) -> None:
    for page in range(pages):
        memory[page * PAGE] = 2


def test_planted_pages_are_counted() -> None:
    with private_memory(400 * PAGE) as memory:
        result = fork_workers(lambda index: dirty(memory, 100 * index), 4)
    counts = [worker.copied_pages for worker in result.workers]
    base = counts[0]
    assert base is not None and base < 64, result
    for index, count in enumerate(counts):
        assert count is not None and 100 * index <= count <= 100 * index + base + 24, result
    assert result.copied == max(count or 0 for count in counts) * PAGE
    assert all((worker.startup_pages or 0) > 0 for worker in result.workers)
    faults = [worker.minor_faults or 0 for worker in result.workers]
    assert all(fault >= 100 * index for index, fault in enumerate(faults))


def test_new_memory_is_no_copied_memory() -> None:
    def target(index: int) -> None:
        with private_memory(300 * PAGE):
            measured.append(1)
            keep.append(mmap.mmap(-1, 300 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            dirty(keep[0], 300)

    measured: list[int] = []
    keep: list[mmap.mmap] = []
    worker = fork_workers(target, 1).workers[0]
    assert worker.new_pages is not None and 300 <= worker.new_pages < 400
    assert worker.copied_pages is not None and worker.copied_pages < 64


def test_assert_shared_passes_and_fails_at_its_limit() -> None:
    with private_memory(200 * PAGE) as memory:
        result = fork_workers(lambda index: dirty(memory, 200 if index == 1 else 0), 2)
    copied = result.copied
    assert copied is not None and copied >= 200 * PAGE
    assert result.assert_shared(max_copied=copied) is result
    with pytest.raises(PagesCopied) as info:
        result.assert_shared(max_copied=copied - 1)
    text = str(info.value)
    assert isinstance(info.value, AssertionError) and isinstance(info.value, CowfreezeError)
    assert info.value.result is result
    assert text.startswith("worker 1 copied ") and f"{copied // PAGE} pages" in text
    assert "1 of 2 workers is over" in text and "Where to look" in text and "1 returned" in text


def test_assert_shared_in_one_call() -> None:
    with private_memory(100 * PAGE) as memory:
        with pytest.raises(PagesCopied, match="limit 64 KiB"):
            assert_shared(lambda index: dirty(memory, 100), 2, max_copied="64 KiB")
        result = assert_shared(lambda index: "ok", 2, max_copied=64 * PAGE)
    assert result.results == ("ok", "ok")


def test_assert_shared_judges_no_failed_worker() -> None:
    with pytest.raises(WorkerFailed, match="raised ValueError"):
        assert_shared(lambda index: raise_it(ValueError("x")), 2, max_copied="1 GiB")


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"max_copied": "lots"}, ValueError), ({"max_copied": -1}, ValueError),
     ({"max_copied": None}, TypeError), ({"max_frozen": -1}, ValueError),
     ({"max_frozen": "16"}, TypeError), ({"max_frozen": True}, TypeError)],
)  # fmt: skip
def test_bad_limits_are_told_before_anything_is_forked(
    limits: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="max_"):
        assert_shared(lambda index: os.kill(os.getppid(), 9), 2, **limits)


def test_cluster_pss_counts_shared_pages_once_and_copies_each_time() -> None:
    size = 32 << 20
    with private_memory(size) as memory:
        clean = [fork_workers(lambda index: None, count).cluster_pss for count in (1, 3)]
        one_copy = fork_workers(lambda index: dirty(memory, size // PAGE), 1)
        copied = fork_workers(lambda index: dirty(memory, size // PAGE), 3).cluster_pss
    assert clean[0] and clean[1] and copied and one_copy.cluster_pss
    # Three clean workers share it all; a few MB each are their own.
    assert clean[1] - clean[0] < size / 2
    assert 0.9 * size < one_copy.cluster_pss - clean[0] < 1.1 * size
    assert 2.9 * size < copied - clean[1] < 3.1 * size
    uss = one_copy.workers[0].uss
    assert uss is not None and size <= uss < 1.5 * size


def test_inherited_memory_and_shared_ratio() -> None:
    size = 64 << 20
    with private_memory(size) as memory:
        result = fork_workers(lambda index: dirty(memory, size // PAGE // 2), 1)
    assert result.inherited is not None and size <= result.inherited < 4 * size
    expected = 1 - (size / 2) / result.inherited
    assert result.shared_ratio == pytest.approx(expected, abs=0.02)


def test_as_dict_as_table_and_pickled() -> None:
    result = fork_workers(only(lambda index: raise_it(ValueError("[b]x[/b]")), 0), 2)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["copied"] == result.copied and values["page_size"] == PAGE
    assert values["workers"][0]["outcome"] == "raised"
    assert values["workers"][1]["result"] == "'fine'"
    text = str(result)
    assert "raised ValueError: [b]x[/b]" in " ".join(text.replace("\n", " ").split())
    again = pickle.loads(pickle.dumps(result))
    assert again.workers[1] == result.workers[1] and again.seconds == result.seconds
    error = pickle.loads(pickle.dumps(PagesCopied("text", result)))
    assert str(error) == "text" and error.result.notes == result.notes


def test_errors_are_public() -> None:
    assert cowfreeze.PagesCopied is PagesCopied and cowfreeze.WorkerFailed is WorkerFailed


def test_memory_that_only_the_witness_holds_is_no_part_of_the_cluster() -> None:
    size = 32 << 20
    with private_memory(size) as memory:
        before = fork_workers(lambda index: None, 1).cluster_pss

        real = run.Run.read_memory

        def read_memory(this: run.Run) -> None:
            memory.madvise(mmap.MADV_DONTNEED)
            real(this)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.Run, "read_memory", read_memory)
            after = fork_workers(lambda index: memory.madvise(mmap.MADV_DONTNEED), 1).cluster_pss
    assert before and after and 0.9 * size < before - after < 1.1 * size
