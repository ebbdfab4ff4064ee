"""What can go wrong with a zygote: one clear error each, nothing hangs, no process and no file is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from zygote.zygote_case import Ended, run_case

from cowfreeze import _core


def run(name: str, folder: Path, *arguments: Any, **options: Any) -> Ended:
    return run_case("cases_trouble", name, *arguments, folder=folder, **options)


def test_wrong_arguments(tmp_path: Path) -> None:
    assert run("bad_pickle", tmp_path).result == [
        ["TypeError", "load, its arguments and warmup are pickled for a fresh inter"],
        ["TypeError", "load is a function that a fresh interpreter calls, not <unlo"],
        ["TypeError", "load is a function that a fresh interpreter calls, not 5"],
        ["ValueError", 'how= takes "auto", "heap" or "pack", not \'heep\''],
        ["TypeError", "warmup= takes a function of the loaded data, not 3"],
    ]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("thread", "bad: cowfreeze._errors.CowfreezeError: load has left threads running (refresher). A fork copies"),
        ("zygote", "bad: cowfreeze._errors.CowfreezeError: Zygote() was called while a zygote loads"),
        ("import", "bad: ModuleNotFoundError: No module named 'no_such_module'"),
        ("closes", "bad: "),
    ],
)
def test_a_bad_load(how: str, message: str, tmp_path: Path) -> None:
    kind, text = run("attempt", tmp_path, how).result
    assert kind == "ZygoteFailed"
    assert text.startswith(message), text


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    kind, text = run("cannot_pack", tmp_path).result
    assert (kind, text.partition("\n")[0]) == (
        "ZygoteFailed", "bad: TypeError: data[1]['lock']: _thread.lock cannot be packed"
    )  # fmt: skip


@pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="packed before 3.12, which refuses it")
def test_what_cannot_be_frozen_is_said(tmp_path: Path) -> None:
    statuses, notes = run("attempt", tmp_path, "generator").result
    assert statuses == [7, 7]
    assert any("load returned a generator, which is not frozen" in note for note in notes), notes


def test_a_load_that_forks(tmp_path: Path) -> None:
    ended = run("attempt", tmp_path, "fork")
    assert ended.result[0] == [7, 7]
    assert "load of bad forked, and the child returned from it: the child ends here" in ended.errors


@pytest.mark.parametrize("how", ["process", "chdir", "signals"])
def test_what_a_load_may_do(how: str, tmp_path: Path) -> None:
    assert run("attempt", tmp_path, how).result[0] == [7, 7]


def test_a_load_that_prints_prints_once(tmp_path: Path) -> None:
    ended = run("attempt", tmp_path, "print")
    assert ended.result is None  # it printed in front of the answer
    assert ended.printed.startswith("printed by load [[7, 7]")
    assert ended.printed.count("printed by load") == 1
    assert ended.errors.count("and to stderr") == 1


def test_a_warmup_that_raises(tmp_path: Path) -> None:
    kind, text = run("warmup_fails", tmp_path).result
    assert kind == "ZygoteFailed" and text.startswith("bad: RuntimeError: not warm\n")
    assert "in bad_warmup" in text


def test_a_program_without_guard(tmp_path: Path) -> None:
    """The fresh interpreter imports the main module, which makes a Zygote, which..."""
    program = tmp_path / "program.py"
    program.write_text("import cowfreeze\ndef load(): return 1\ncowfreeze.Zygote(load)\n")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].strip() or "__main__" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    assert "ZygoteFailed" in done.stderr


def test_a_load_that_a_fresh_interpreter_cannot_find(tmp_path: Path) -> None:
    code = "import cowfreeze\ndef load(): return 1\ncowfreeze.Zygote(load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZygoteFailed: zygote of load: AttributeError: " in done.stderr, done.stderr


# -- signals and deaths -----------------------------------------------------


def interrupted_at(word: str, number: int, group: bool) -> Any:
    """Sends the signal when the process has printed a line that starts with WORD."""

    def during(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(word)
        time.sleep(0.1)
        (os.killpg if group else os.kill)(process.pid, number)

    return during


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_the_program_dies(kind: str, number: signal.Signals, tmp_path: Path) -> None:
    """SIGINT as a terminal sends it, to the whole group; the others to the program alone."""
    ended = run(
        "wait_for_pool", tmp_path, kind, status=-number,
        during=interrupted_at("working", number, number == signal.SIGINT),
    )  # fmt: skip
    assert "not interrupted" not in ended.printed
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in ended.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_the_program_dies_while_it_loads(number: signal.Signals, tmp_path: Path) -> None:
    ended = run(
        "wait_in_load", tmp_path, status=-number, during=interrupted_at("loading", number, number == signal.SIGINT)
    )
    assert ended.errors.count("Traceback") == (number == signal.SIGINT), ended.errors


def test_the_zygote_dies(tmp_path: Path) -> None:
    """Its workers go on, and are known to be alive; how they ended is not known (255, as in the stdlib)."""
    ended = run("zygote_dies", tmp_path)
    alive, finished, status, message, second, last = ended.result
    assert (alive, finished, status) == (True, 1, 255)
    assert message == (
        "frail: its process was killed by SIGKILL and forks no more (out of memory?). zygote.reload() starts another 9"
    )
    assert second == "ZygoteFailed"
    assert last == 7


def test_after_close(tmp_path: Path) -> None:
    assert run("closed", tmp_path).result == [True, 4, "<Zygote 'shop', closed>", 0]


def test_a_program_that_ignores_sigchld(tmp_path: Path) -> None:
    assert run("nobody_waits", tmp_path).result == [
        7, "zygote of load: its process ended while it loaded; how is not known", [False, False]
    ]  # fmt: skip


def test_never_closed(tmp_path: Path) -> None:
    assert run("forgotten", tmp_path).result is True


def test_a_daemon_without_streams(tmp_path: Path) -> None:
    ended = run("without_streams", tmp_path)
    assert (ended.printed, ended.result) == ("[7, 7]", [7, 7])


def test_strangers_at_the_socket(tmp_path: Path) -> None:
    assert run("bad_clients", tmp_path).result == ["0o600", 7, 7]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without processes")
def test_a_fork_that_fails(tmp_path: Path) -> None:
    message, _ = run("no_processes_left", tmp_path).result
    assert message.startswith("BlockingIOError: [Errno 11] the zygote cannot fork: ")


def test_handlers_and_mask_of_workers(tmp_path: Path) -> None:
    assert run("handlers", tmp_path).result == [0, 7]
