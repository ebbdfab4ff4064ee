"""fork_workers: results, the ways in which a target ends, forks, descriptors, output."""

from __future__ import annotations

import builtins
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.workers import leaves_nothing_behind, one, only, raise_it, run_script  # noqa: F401

from cowfreeze._workers.fork import fork_workers
from cowfreeze._workers.processes import error_text
from cowfreeze._workers.report import WorkerFailed

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


@pytest.mark.parametrize(
    ("error", "shipped"),
    [(ValueError("bad [red]"), True), (KeyboardInterrupt(), True), (Picky(1, 2), False),
     (Local("x"), False), (GeneratorExit(), True), (RecursionError("deep"), True)],
)  # fmt: skip
def test_an_exception(error: BaseException, shipped: bool) -> None:
    worker = one(lambda index: raise_it(error))
    assert worker.outcome == "raised" and worker.failed and worker.exitcode == 1
    assert f"raised {type(error).__name__}" in worker.status.replace(f"{__name__}.", "")
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


class Exits:
    """Ends whoever unpickles it."""

    def __init__(self, error: str) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_named, (self.error,)


def _raise_named(error: str) -> None:
    raise getattr(builtins, error)("on the way back")


@pytest.mark.parametrize("error", ["SystemExit", "GeneratorExit", "BaseException", "MemoryError"])
def test_a_result_whose_unpickling_raises_ends_nobody(error: str) -> None:
    worker = one(lambda index: Exits(error))
    assert worker.outcome == "result lost" and error in worker.status
    worker = one(lambda index: raise_it(ExitsToo(error)))
    assert worker.outcome == "raised" and worker.error is None and "ExitsToo" in worker.status


class ExitsToo(Exits, Exception): ...


def test_a_result_that_cannot_be_unpickled() -> None:
    worker = one(lambda index: Picky(1, 2))
    assert worker.outcome == "result lost" and "unpickled in the parent" in worker.status


def test_results_of_failed_workers_are_no_none() -> None:
    result = fork_workers(only(lambda index: raise_it(ValueError("no")), 1), 3)
    with pytest.raises(WorkerFailed, match="1 of 3 .*: worker 1 raised ValueError: no") as info:
        _ = result.results
    assert "in raise_it" in str(info.value) and isinstance(info.value.__cause__, ValueError)
    assert info.value.result is result


def test_an_error_is_told_by_its_message_and_not_by_its_notes() -> None:
    error = ValueError("what happened")
    error.__notes__ = ["see ticket 17", "of\nthree lines"]  # type: ignore[attr-defined]
    assert error_text(error) == "ValueError: what happened"
    assert error_text(SyntaxError("wrong", ("a.py", 1, 1, "x y", 1, 2))) == "SyntaxError: wrong"
    assert one(lambda index: raise_it(error)).status.startswith("raised ValueError: what happened")


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
    lines = run_script("cases_buffered_output.py").splitlines()
    assert sorted(lines[1:4]) == ["worker 0", "worker 1", "worker 2"]
    assert [lines[0], *lines[4:]] == ["before", "after 0 0 3", "atexit"]


def test_no_channel_becomes_stdout() -> None:
    lines = run_script("cases_closed_stdio.py").splitlines()
    assert lines[0] == "channel above stdio: True"
    assert len(lines) == 3
    assert all("raised OSError: [Errno 9]" in line for line in lines[1:]), lines
