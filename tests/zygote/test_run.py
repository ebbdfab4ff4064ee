"""`cowfreeze zygote run`: in place of `python`, on a command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from zygote.zygote_case import run_case


def test_programs_do_the_same(tmp_path: Path) -> None:
    number, different, forked, files = run_case("cases_run", "compare", folder=tmp_path, timeout=400).result
    assert number > 50
    assert not different, "\n".join(f"{name}\n  python: {plain}\n  run: {forked}" for name, plain, forked in different)
    assert forked is True, "the programs were started the ordinary way"
    assert files == ["work"]


def test_without_a_server_the_ordinary_way(tmp_path: Path) -> None:
    assert run_case("cases_run", "without_a_server", folder=tmp_path).result == [
        [4, True, ""], [0, "1\n", ""], [0, "2\n", ""]
    ]  # fmt: skip


def test_wrong_command_lines(tmp_path: Path) -> None:
    found = run_case("cases_run", "usage", folder=tmp_path).result
    assert [status for status, _ in found[:6]] == [2, 2, 2, 0, 2, 1]
    assert found[0][1].startswith("cowfreeze: zygote run: which zygote?")
    assert found[3][1].startswith("usage: cowfreeze zygote run")
    assert found[5][1] == "cowfreeze: no socket can be made at /tmp/x/y/z: No such file or directory"
    assert found[6] == [1, "cowfreeze: zygote of programs: ModuleNotFoundError: No module named 'no_such_module'"]
    assert found[7] == []


def test_the_socket_is_the_owners(tmp_path: Path) -> None:
    mode, status, message, greeted = run_case("cases_run", "owner_only", folder=tmp_path).result
    assert (mode, status, message) == ("0o600", 1, "cowfreeze: somebody serves at PATH already")
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    assert greeted == "0"


def test_reload_and_ends(tmp_path: Path) -> None:
    assert run_case("cases_run", "life", folder=tmp_path).result == {
        "first": "1\n", "reloaded": True, "second": "newer\n", "failed": True, "third": "newer\n",
        "terminated": -15, "left": 1, "alive": None, "first ends": -15,
        "died": [1, "cowfreeze: zygote of programs: its process was killed by SIGKILL and forks no more"],
        "files": ["plugin.py"],
    }  # fmt: skip
