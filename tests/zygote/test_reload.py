"""Frozen data that are replaced: who sees what, what a failed load changes (nothing), what is left (nothing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zygote.zygote_case import run_case

MIB = 1 << 20


def result(name: str, folder: Path, *arguments: Any, timeout: float = 60) -> Any:
    return run_case("cases_reload", name, *arguments, folder=folder, timeout=timeout).result


def test_running_workers_keep_the_old_and_new_ones_see_the_new(tmp_path: Path) -> None:
    found = result("generations", tmp_path)
    assert found["before"] == [[1], [1]]
    assert found["after"] == [[1], [1]]
    assert found["fresh"] == [[2], [2]]
    assert found["lives"] is True
    assert found["gone"] is True
    assert found["generation"] == [2, 3]
    assert found["same arguments"] == 2


def test_the_last_worker_of_a_generation_is_waited_for(tmp_path: Path) -> None:
    assert result("last_worker", tmp_path) == [3, False, 4, False, 5, False]


def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    found = result("failures", tmp_path)
    last = found.pop("last")
    for how, (*_, same, generation, status) in found.items():
        assert (same, generation, status) == (True, 1, 0), how
    told = {how: rest[:5] for how, rest in found.items()}
    line = "table: FileNotFoundError: [Errno 2] no such table: 'table.csv'"
    assert told["raise"] == [line, None, None, "FileNotFoundError", True]
    line = "table: its process was killed by SIGKILL while it loaded (out of memory?)"
    assert told["kill"] == [line, 9, None, "NoneType", False]
    line = "table: its process ended with exit status 3 while it loaded; what it printed tells more"
    assert told["os._exit"] == [line, None, 3, "NoneType", False]
    line = "table: load ended the process by SystemExit('no data today')"
    assert told["exit"] == [line, None, None, "SystemExit", True]
    assert told["hang"] == ["table: load took longer than 2 s and was ended", None, None, "NoneType", False]
    assert told["memory"] == ["table: MemoryError", None, None, "MemoryError", True]
    assert told["unpicklable"][0].startswith("table: __mp_main__.Unpicklable: ('told all the same', ")
    assert told["unpicklable"][3:] == ["NoneType", True]
    assert last == [False, 9, 0]


@pytest.mark.parametrize("number", [6, pytest.param(500, marks=pytest.mark.slow)])
def test_reloads_leave_nothing(number: int, tmp_path: Path) -> None:
    before, after, generation = result("many", tmp_path, number, timeout=900)
    assert before == after
    assert generation == number + 2


@pytest.mark.parametrize(
    ("tasks", "reloads"), [(300, 3), pytest.param(10_000, 30, marks=pytest.mark.slow)], ids=["300", "10000"]
)
def test_no_task_is_lost(tasks: int, reloads: int, tmp_path: Path) -> None:
    found = result("under_load", tmp_path, tasks, reloads, 2, timeout=600)
    print(found)
    assert found.pop("generations") >= 3, "nothing was reloaded while tasks ran"
    assert found.pop("issued") >= tasks
    assert found == {"errors": [], "lost": [], "twice": 0, "mixed": 0}


@pytest.mark.parametrize(
    ("number", "reloads"), [(20_000, 4), pytest.param(250_000, 50, marks=pytest.mark.slow)], ids=["8 MiB", "100 MiB"]
)
def test_memory_of_the_tree_stays(number: int, reloads: int, tmp_path: Path) -> None:
    figures = result("memory", tmp_path, number, reloads, timeout=1200)
    print([round(figure / MIB, 2) for figure in figures])
    assert figures[-1] - figures[0] <= MIB
    # Other programs that start and end change the share of each in the pages of the interpreter's files.
    assert max(figures) - min(figures) <= 3 * MIB


def test_a_report_prints(tmp_path: Path) -> None:
    from cowfreeze._zygote.report import ZygoteReport

    report = ZygoteReport("words", 2, 77, "heap", "dict", 5, 1.5, 0.25, 1000, 2 * MIB, 512, 0, ("a note",))
    assert str(report).splitlines() == [
        "words, generation 2 (process 77): loaded dict of length 5 in 1.50 s, froze 1,000 objects, 2 MiB on 512 "
        "pages, in 0.25 s",
        "  note: a note",
    ]
    assert report.to_dict()["notes"] == ["a note"]
