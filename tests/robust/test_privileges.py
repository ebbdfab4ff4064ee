"""Few rights: each thing works, or says exactly what is missing; and files are written safely.

The rights are taken away in a process of its own (tests/robust/cases_privileges.py), which then runs the
main operations and reports how each ended.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.child import describe_status

from cowfreeze._files import check_writable, write_whole

SCRIPT = Path(__file__).with_name("cases_privileges.py")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def with_rights(kind: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(SCRIPT), kind], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{describe_status(done.returncode)}\n{done.stderr[-4000:]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "skip" in result:
        pytest.skip(result["skip"])
    return result


def check_all(result: dict[str, Any]) -> None:
    """Everything but the figures needs no right at all."""
    assert result["frozen"] and result["packed"] and result["cloned"]
    assert result["results"] == [45, 45]
    assert result["left"] == []


@needs_root
def test_another_user_from_the_start() -> None:
    """As an ordinary user starts it: fork, measure, explain and trap work without root."""
    result = with_rights("user")
    check_all(result)
    assert result["copied"] is not None, result["reasons"]
    assert result["explained"], result["notes"]
    assert result["trap"] in ("perf", "mprotect")


@needs_root
def test_a_change_of_user_in_a_running_process() -> None:
    """The kernel then closes /proc/self to it: unknown, with the reason and what to do."""
    result = with_rights("changed")
    check_all(result)
    if result["copied"] is None:
        assert any("dumpable" in reason for reason in result["reasons"]), result["reasons"]


def test_a_process_that_is_not_dumpable() -> None:
    result = with_rights("undumpable")
    check_all(result)
    if result["copied"] is None:
        assert any("dumpable" in reason for reason in result["reasons"]), result["reasons"]


def test_a_user_namespace() -> None:
    result = with_rights("namespace")
    check_all(result)
    assert result["copied"] is not None or result["reasons"]


def test_a_filter_of_system_calls_like_that_of_containers() -> None:
    """userfaultfd, perf_event_open, ptrace and process_vm_readv fail with EPERM."""
    result = with_rights("filter")
    check_all(result)
    assert result["copied"] is not None, result["reasons"]
    assert result["trap"] == "mprotect" and "seccomp" in result["why"]


def test_a_filter_of_memfd_and_pidfd() -> None:
    """Older sandboxes: pack says what is forbidden, everything else works."""
    result = with_rights("old filter")
    assert result["frozen"] and result["results"] == [45, 45] and result["left"] == []
    assert result["packed"].startswith(("OSError", "PermissionError")), result["packed"]


@needs_root
def test_a_proc_that_hides_other_processes() -> None:
    """hidepid=2 in a mount namespace: what belongs to the same user is still seen."""
    result = with_rights("hidepid")
    check_all(result)
    assert result["copied"] is not None or result["reasons"]


def test_alarms_all_the_time() -> None:
    """No call of ours gives up with EINTR: freeze, pack, workers, explain and trap."""
    result = with_rights("alarms")
    check_all(result)
    assert result["copied"] is not None and result["explained"], result["reasons"]
    assert result["trap"] in ("perf", "mprotect")


# --- output files ---------------------------------------------------------------------


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    treasure, link = tmp_path / "treasure", tmp_path / "map.html"
    treasure.write_text("mine")
    link.symlink_to(treasure)
    check_writable(link)
    write_whole(link, "map")
    assert treasure.read_text() == "mine"
    assert not link.is_symlink() and link.read_text() == "map"


def test_a_dangling_link_makes_no_file_elsewhere(tmp_path: Path) -> None:
    link = tmp_path / "map.html"
    link.symlink_to(tmp_path / "elsewhere")
    check_writable(link)
    assert not (tmp_path / "elsewhere").exists()
    write_whole(link, "map")
    assert not (tmp_path / "elsewhere").exists() and link.read_text() == "map"


def test_permissions_stay_and_new_ones_follow_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        write_whole(old, "a")
        write_whole(new, "b")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (old, new)] == [0o640, 0o640]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    write_whole(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    write_whole("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_after_an_error_the_old_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.html"
    file.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError):
        write_whole(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["map.html"]


def test_only_children_are_unpickled() -> None:
    """pickle.loads runs what it is given: each use must stand on a channel that only our own
    child holds, or on bytes that this process made."""
    source = Path(__file__).resolve().parents[2] / "src"
    if not source.is_dir():
        pytest.skip("the tests stand alone, without sources")
    found = {
        str(path.relative_to(source / "cowfreeze"))
        for path in source.rglob("*.py")
        if "pickle.load" in path.read_text() or "Unpickler" in path.read_text()
    }
    assert found <= {
        "_workers/endings.py",  # a socket pair made for that worker
        "_plugin/zygote.py",  # a pipe made for that child
        "_plugin/outcome.py",  # what the line before has pickled; what the child of this test sent
        "_plugin/measure.py",  # what the child of this test sent
        "bench/modes/serialized.py",  # memory that this process filled
        "_zygote/server.py",  # what came with the parent's own start of it; what the line before has pickled
        "_zygote/generation.py",  # a pipe made for that child
        "_zygote/rehearsal.py",  # what the lines before have pickled
    }, found
