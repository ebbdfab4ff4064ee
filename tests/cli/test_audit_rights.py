"""An audit that may not read its workers: figures as far as they go, a reason, nobody harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

import cowfreeze
from cowfreeze._workers import explaining

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# A process that changed its user is not dumpable: its /proc files belong to root, and so do
# those of its children. Everything is imported before, since the user may not read Python's files.
AS_NOBODY = """\
import os, pwd, sys, types, json
import cowfreeze.cli
from cowfreeze.cli import main
program = types.ModuleType("program")
exec("def load(): return list(range(1000))\\ndef work(data): return len(data)", program.__dict__)
sys.modules["program"] = program
main(["audit", "program:load", "program:work", "--html", os.devnull, "--freeze", "none"])
print("from here on", flush=True)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(["audit", "program:load", "program:work", "--freeze", "none", *sys.argv[1:]]))
"""


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@needs_root
def test_a_parent_that_may_not_read_its_workers_says_why() -> None:
    done = as_nobody("--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.partition("from here on\n")[2])
    assert [worker["outcome"] for worker in made["result"]["workers"]] == ["returned", "returned"]
    for explanation in made["result"]["explanations"]:
        assert explanation["pages"] == 0 and explanation["named_ratio"] is None
        assert "may not be read" in explanation["notes"][0] and "dumpable" in explanation["notes"][0]


@needs_root
def test_a_limit_on_an_unknown_figure_is_not_kept() -> None:
    done = as_nobody("--max-copied", "1 TiB")
    made = done.stdout.partition("from here on\n")[2]
    assert "unknown" in made, done.stderr
    assert done.returncode == 10 and "copied an unknown amount" in made


@needs_root
def test_a_picture_of_what_is_unknown_fails_after_the_figures() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed for others
        os.chmod(folder, 0o777)
        done = as_nobody("--html", os.path.join(folder, "map.html"))
        assert os.listdir(folder) == []
    assert done.returncode == 1
    assert "0 returned" in done.stdout.partition("from here on\n")[2]
    assert "there is nothing to draw for worker 0: the memory of" in done.stderr


@needs_root
def test_a_file_of_somebody_else_is_refused_before_the_work() -> None:
    with tempfile.NamedTemporaryFile() as file:
        done = as_nobody("--html", file.name)
    assert done.returncode == 2
    assert "cannot be written (Permission denied)" in done.stderr


def test_one_worker_that_may_not_be_read_leaves_the_others_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = explaining.attribution.open_memory

    def third_is_forbidden(pid: int) -> int:
        opened.append(pid)
        if len(opened) == 3:  # the witness, worker 0, worker 1
            raise PermissionError(13, "Permission denied")
        return real(pid)

    monkeypatch.setattr(explaining.attribution, "open_memory", third_is_forbidden)
    data = [[number] for number in range(1000)]
    result = cowfreeze.fork_workers(lambda index: data[7].append(index), 2, explain=True)
    assert result.results == (None, None)
    assert result.explain(worker=0).pages > 0 and not result.explain(worker=0).notes
    assert result.explain(worker=1).pages == 0
    assert "the memory of the worker may not be read" in result.explain(worker=1).notes[0]
