"""trap in trouble: threads, forks, faults, no perf, no mappings. The worker must not be harmed.

Each scene runs in a process of its own (tests/trap/cases_scenes.py), whose end is looked at.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from helpers.compiled import build, run_built
from helpers.trap import BACKENDS, FOLDER, need, result_of, scene, status_of

import cowfreeze

backends = pytest.mark.parametrize("backend", BACKENDS)


@backends
def test_threads(backend: str) -> None:
    made = scene("threads", backend)
    by_thread = {w["thread"]: w for w in made["writes"] if (w["owner"] or "").startswith("b'cowf")}
    assert {made["early"], made["late"]} <= set(by_thread)
    for name in ("early", "late"):
        stack = [frame["function"] for frame in by_thread[made[name]]["stack"]]
        assert stack[0] == "write_block" and stack[1].endswith(name)


@backends
def test_forked_child_is_not_watched_and_the_parent_still_is(backend: str) -> None:
    made = scene("fork_inside", backend)
    assert {w["thread"] for w in made["writes"]} == {made["ids"]["thread"]}
    size = os.sysconf("SC_PAGE_SIZE")
    written = [
        (w["address"] - made["ids"]["block"]) // size
        for w in made["writes"]
        if (w["owner"] or "").startswith("b'cowf") and w["field"] == "contents"
    ]
    assert written == [3]  # and not 1 and 2, which the children have written


@backends
def test_overflow_is_counted(backend: str) -> None:
    made = scene("overflow", backend)
    assert len(made["writes"]) == 3 and made["lost"] > 20
    assert any("room for 3" in note for note in made["notes"])


@backends
def test_exception_leaves_nothing_behind(backend: str) -> None:
    assert scene("stops_at_exception", backend)["writes"]


@backends
@pytest.mark.parametrize("name", ["fault_in_block", "sent_signal"])
def test_real_fault_still_kills(backend: str, name: str) -> None:
    status, errors = status_of(name, backend)
    assert status == -signal.SIGSEGV, errors


@backends
@pytest.mark.parametrize("name", ["fault_with_faulthandler", "fault_after"])
def test_faulthandler_still_dumps(backend: str, name: str) -> None:
    status, errors = status_of(name, backend)
    assert status == -signal.SIGSEGV, errors
    assert "Fatal Python error: Segmentation fault" in errors
    assert "in fault_" in errors


@backends
def test_a_signal_stack_among_frozen_objects(backend: str) -> None:
    # Where the kernel cannot store the frame of a handler it kills the process, past every handler.
    made = scene("signal_stack", backend)
    assert any(frame["function"] == "change" for w in made["writes"] for frame in w["stack"]), made


def test_kernel_stores_into_a_protected_page() -> None:
    made = scene("system_call", "mprotect")
    assert (made["got"], made["error"], made["again"]) == (-1, errno.EFAULT, 8)


def test_kernel_stores_with_perf() -> None:
    assert scene("system_call", "perf")["got"] == 8


def test_blocked_signal_is_counted() -> None:
    made = scene("blocked", "perf")
    assert made["unseen"] > 50
    assert any("blocked SIGTRAP" in note for note in made["notes"])


def test_no_mappings_left() -> None:
    made = scene("no_mappings", "mprotect")
    assert "max_map_count" in made["text"] and "Nothing is protected" in made["text"]
    assert made["same"] is True


def test_mappings_run_out_meanwhile() -> None:
    made = scene("mappings_run_out", "mprotect")
    assert made["given_up"] > 0
    assert any("max_map_count" in note for note in made["notes"])


def test_one_trap_at_a_time() -> None:
    assert "one at a time" in scene("already", "mprotect")[0]


def test_nothing_is_frozen() -> None:
    assert "call cowfreeze.freeze() first" in result_of("cases_scenes.py", "nothing_frozen", "mprotect")


def test_perf_forbidden() -> None:
    made = scene("forbidden", "mprotect")
    assert made["backend"] == "mprotect" and made["writes"]
    assert "Operation not permitted" in made["why"] and "seccomp" in made["why"]
    assert "backend='perf' is not possible" in made["error"]


def test_worker_that_is_killed_under_a_trap() -> None:
    def die(index: int) -> None:
        signal.raise_signal(signal.SIGKILL)

    result = cowfreeze.fork_workers(die, 1, trap=True)
    assert result.workers[0].outcome == "killed"
    assert "ended before" in result.explain().notes[0]


def test_worker_that_raises_under_a_trap() -> None:
    def fail(index: int) -> None:
        raise KeyError("planted")

    result = cowfreeze.fork_workers(fail, 1, trap=True)
    assert result.workers[0].outcome == "raised"
    assert result.explain().pages > 0


# ---- many threads, in C ---------------------------------------------------------------------

PARTS = (
    *("trap/trap", "trap/handlers", "trap/pages", "trap/perf", "trap/protect", "trap/record", "trap/signals"),
    *("base/mem", "base/pageset"),
    *("proc/maps", "proc/pagemap", "proc/procfile"),
)


def run_threads(program: Path, *arguments: str) -> None:
    done = run_built(program, *arguments, timeout=300)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this ThreadSanitizer does not know the address space of this kernel (vm.mmap_rnd_bits)")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr[-6000:]


@backends
@pytest.mark.parametrize("rounds", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_threads_that_write_while_a_trap_begins_and_ends(tmp_path: Path, backend: str, rounds: int) -> None:
    """A thread whose SIGTRAP came after the handler was gone took the process with it."""
    need(backend)
    program = build(tmp_path / "threads", FOLDER / "threads.c", PARTS)
    run_threads(program, backend, "both", str(rounds))


@pytest.mark.parametrize("rounds", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_thread_sanitizer(tmp_path: Path, rounds: int) -> None:
    """Not with perf: its signals come inside the sanitizer's own locks, too. And only whole rounds: the sanitizer
    looks for the handler of a signal some time after it took the signal."""
    program = build(tmp_path / "threads", FOLDER / "threads.c", PARTS, ["-fsanitize=thread"])
    run_threads(program, "mprotect", "whole", str(rounds))
