"""A zygote's context is used as multiprocessing's fork server is, and its data arrive everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from zygote.zygote_case import run_case


def result(name: str, folder: Path, errors: bool = False) -> Any:
    ended = run_case("cases_context", name, folder=folder)
    assert errors or not ended.errors, ended.errors
    return ended.result


def test_data_arrive_wherever_they_are_put(tmp_path: Path) -> None:
    found = result("everywhere", tmp_path)
    assert found["argument"] is True
    assert found["container"] is True
    assert found["initializer"] == [3]
    ((value, frozen),) = found["attribute"]
    assert value == 7
    assert frozen or sys.version_info < (3, 12)


def test_a_handle_is_small_and_tells_of_the_data(tmp_path: Path) -> None:
    found = result("handle", tmp_path)
    assert found["bytes"] < 200
    kind = "dict" if sys.version_info >= (3, 12) else "cowfreeze.packed_dict"
    assert found["before"] == [1000, kind, f"<data of words, generation 1: {kind}, length 1,000>"]
    assert (found["after"], found["copied"], found["context"]) == (5, "DataHandle", True)


def test_what_has_no_length(tmp_path: Path) -> None:
    assert result("no_length", tmp_path) == ["object of type 'complex' has no len()", True, "complex"]


def test_exit_codes(tmp_path: Path) -> None:
    ended = run_case("cases_context", "exit_codes", folder=tmp_path)
    assert ended.result == [[0, 3, 1, 1, -9, 9], [True, None], -15]
    assert "KeyError: 'in a worker'" in ended.errors
    assert "text" in ended.errors.splitlines()


def test_executor(tmp_path: Path) -> None:
    values, error, remote, broken = result("executor", tmp_path)
    assert values == [*range(10)]
    assert (error, remote, broken) == ("ValueError('three')", True, "BrokenProcessPool")


def test_queues_locks_values_managers_pipes(tmp_path: Path) -> None:
    assert result("primitives", tmp_path) == [3, 3, {"key": "value"}, "through a pipe"]


def test_a_worker_is_a_process_of_multiprocessing(tmp_path: Path) -> None:
    assert result("identity", tmp_path) == ["reader", True, True, True, 0]


def test_workers_start_workers(tmp_path: Path) -> None:
    assert result("nesting", tmp_path) == [[[2, 4, 6], [8], 10, 1000], 0]


def test_a_handle_elsewhere_is_an_error(tmp_path: Path) -> None:
    ended = run_case("cases_context", "elsewhere", folder=tmp_path)
    found, here = ended.result
    assert found == [[0, 3], [1, None], [1, None]]
    assert here is True
    assert ended.errors.count("ZygoteFailed: the data of zygote of load were asked for in a process") == 2


def test_threads_start_processes_at_once(tmp_path: Path) -> None:
    assert result("threads_start", tmp_path) is True


def test_forks_of_the_program(tmp_path: Path) -> None:
    assert result("forked_parent", tmp_path) == [5, 6, True]


def test_importing_cowfreeze_imports_no_multiprocessing() -> None:
    code = "import sys, cowfreeze\nprint([m for m in sys.modules if 'zygote' in m or m == 'multiprocessing'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done
