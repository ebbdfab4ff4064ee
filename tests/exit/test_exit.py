"""How a worker ends: with the status of CPython, after everything that CPython does, and cheaply."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.compiled import build

import cowfreeze
from cowfreeze import _core

SCRIPTS = Path(__file__).parent
KIB, MIB = 1 << 10, 1 << 20

immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="no object is immortal before 3.12")


def run(script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {mode: tmp_path_factory.mktemp(mode) for mode in ("plain", "freeze", "guard", "fast")}


@functools.cache
def ends(mode: str, folder: Path) -> Any:
    return run("cases_ends.py", mode, str(folder))


@pytest.mark.parametrize("mode", ["freeze", "guard", "fast"])
def test_status_is_that_of_cpython(mode: str, folders: dict[str, Path]) -> None:
    plain = {name: status for name, (status, _) in ends("plain", folders["plain"]).items()}
    assert plain["three"] == 3 and plain["fails"] == 1 and plain["interrupt"] == -2  # the truth is no constant
    found = {name: status for name, (status, _) in ends(mode, folders[mode]).items()}
    if mode == "fast":  # the caller handles exceptions there
        for name in ("fails", "interrupt"):
            plain.pop(name), found.pop(name)
    assert found == plain


@pytest.mark.parametrize("mode", ["freeze", "guard", "fast"])
def test_handlers_threads_and_streams(mode: str, folders: dict[str, Path]) -> None:
    """All that an ordinary exit prints is printed: buffers, threads' output, handlers', messages."""

    def lines(text: str) -> list[str]:
        # Debug builds warn of the file that is left open, with its name, which differs. 3.13.0 itself
        # stumbles over a status that does not fit, and says so.
        noise = (
            " ", "Traceback", "Exception ignored", "<sys>:0: ResourceWarning", "sys:1: ResourceWarning",
            "SystemError: <method 'is_done'",
        )  # fmt: skip
        return sorted(line for line in text.splitlines() if not line.startswith(noise))

    plain = ends("plain", folders["plain"])
    assert "handler of the parent" in plain["zero"][1] and "thread done" in plain["slow thread"][1]
    assert "planted text" in plain["text"][1] and "buffered" in plain["three"][1]
    for name, (_, text) in ends(mode, folders[mode]).items():
        if mode == "fast" and name in ("fails", "interrupt"):
            continue
        if name != "bad stdout":
            assert lines(text) == lines(plain[name][1]), name
        assert "handler of the parent" in text, name


def test_ordinary_exit_drops_what_the_worker_made(folders: dict[str, Path]) -> None:
    """A file left open in a global is flushed, and a finalizer runs, as without freezing."""
    for mode in ("plain", "freeze"):
        ends(mode, folders[mode])
        assert (folders[mode] / "log").read_text() == "flushed"
        assert (folders[mode] / "told").read_text() == "told"


@pytest.mark.parametrize("mode", ["plain", "freeze"])  # fast_exit says that it does not
def test_files_that_frozen_objects_hold_are_flushed(mode: str, folders: dict[str, Path]) -> None:
    ends(mode, folders[mode])
    assert (folders[mode] / "before").read_text() == "before"
    assert (folders[mode] / "after").read_text() == "after"


def test_a_freeze_when_the_main_thread_has_ended() -> None:
    code = (
        "import threading, time, cowfreeze\n"
        "def late():\n"
        "    time.sleep(0.3)\n"
        "    for _ in range(2): print(cowfreeze.freeze([[1]], threads='allow').objects > 0)\n"
        "threading.Thread(target=late).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr


@immortal
def test_ordinary_exit_copies_little_at_any_size() -> None:
    small, large = run("cases_copies.py", "exit", "1000"), run("cases_copies.py", "exit", "60000")
    assert small["status"] == large["status"] == 7
    for figures in (small, large):
        assert figures["bytes"] <= 3 * MIB, figures
    assert abs(large["bytes"] - small["bytes"]) <= 256 * KIB


@immortal
@pytest.mark.slow
def test_an_exit_with_a_traceback_does_not_grow_with_the_heap() -> None:
    """CPython goes on to the end then, but the strings and the modules are spared."""
    small, large = run("cases_copies.py", "traceback", "1000"), run("cases_copies.py", "traceback", "60000")
    assert small["status"] == large["status"] == 1
    assert abs(large["bytes"] - small["bytes"]) <= MIB
    assert large["bytes"] <= 6 * MIB, large


def test_fast_exit_copies_next_to_nothing() -> None:
    figures = run("cases_copies.py", "fast", "20000")
    assert figures["status"] == 7
    assert figures["bytes"] <= 300_000 if _core.HAS_IMMORTAL else 2 * MIB, figures


C_FUNCTIONS = """
import atexit, ctypes, os, sys
import cowfreeze
library = ctypes.CDLL(sys.argv[2])
for function in (library.last, library.before_last):
    assert ctypes.pythonapi.Py_AtExit(ctypes.cast(function, ctypes.c_void_p)) == 0
assert library.prepare_c_library() == 0
atexit.register(os.write, 1, b"atexit of Python\\n")
cowfreeze.freeze()
pid = os.fork()
if pid == 0:
    library.print_with_c()
    if sys.argv[1] == "fast":
        cowfreeze.fast_exit(5)
    if sys.argv[1] == "guard":
        with cowfreeze.fast_exit_guard():
            sys.exit(5)
    if sys.argv[1] == "interrupt":
        with cowfreeze.fast_exit_guard():
            raise KeyboardInterrupt
    if sys.argv[1] == "plain interrupt":
        raise KeyboardInterrupt
    sys.exit(5)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
os.write(1, f"{status}\\n".encode())
os._exit(0)
"""


def test_functions_of_c_code_are_called_in_their_order(tmp_path: Path) -> None:
    library = tmp_path / "at_exit.so"
    build(library, SCRIPTS / "at_exit.c", [], ["-shared", "-fPIC"])

    def said(way: str) -> str:
        command = [sys.executable, "-E", "-c", C_FUNCTIONS, way, str(library)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    plain = said("plain")
    assert plain.splitlines() == [
        "left in C's buffer", "atexit of Python", "Py_AtExit, registered later", "Py_AtExit", "atexit of C", "5"
    ]  # fmt: skip
    assert said("fast") == said("guard") == plain
    assert said("interrupt") == said("plain interrupt")


def test_fast_exit_in_a_thread_is_refused() -> None:
    code = (
        "import cowfreeze, os, threading\n"
        "def target():\n"
        "    try: cowfreeze.fast_exit(0)\n"
        "    except cowfreeze.CowfreezeError as error: print(error)\n"
        "thread = threading.Thread(target=target); thread.start(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "main thread" in done.stdout, done


def test_guard_does_nothing_in_the_process_that_imported_cowfreeze() -> None:
    with pytest.raises(ZeroDivisionError), cowfreeze.fast_exit_guard():
        raise ZeroDivisionError
    with cowfreeze.fast_exit_guard():
        pass


def test_guard_as_decorator() -> None:
    pid = os.fork()
    if pid == 0:
        try:

            @cowfreeze.fast_exit_guard()
            def target() -> None:
                sys.exit(23)

            # Handlers of the test run's own process must not run in this child.
            import atexit

            atexit._clear()
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
            target()
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 23


@pytest.mark.parametrize("status", ["0", "3", "'why it ended'"])
@pytest.mark.parametrize("output", [">&-", ">/dev/full", "2>/dev/full", "2>&-", ""])
def test_a_stream_that_cannot_be_written(output: str, status: str) -> None:
    """The same status as without us, and the same is told, but for the place of what is ignored."""
    place = ("Exception ignored", "Traceback", " ")

    def ended(call: str) -> tuple[int, str, list[str]]:
        code = f"import cowfreeze, sys; print(end='x'); print('y', file=sys.stderr); {call}({status})"
        done = subprocess.run(
            f"exec '{sys.executable}' -c \"{code}\" {output}", shell=True, capture_output=True, text=True, timeout=60,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip
        return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if not line.startswith(place)]

    assert ended("cowfreeze.fast_exit") == ended("sys.exit")


HOLDERS = (
    "dict", "list", "set", "deque", "OrderedDict", "defaultdict", "Counter", "dict subclass", "list subclass", "Queue", "LifoQueue",
    "slots", "instance", "class", "function", "lru", "unbounded", "cell", "callable", "bounded deque",
)  # fmt: skip


@pytest.mark.parametrize("role", ["worker", "parent"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_ends_by_its_death_alone_ends_in_every_holder(holder: str, role: str, tmp_path: Path) -> None:
    """A database in WAL mode: closed by the death of its connection, as in a program without a freeze."""
    pytest.importorskip("sqlite3")
    found = []
    for mode in ("plain", "freeze"):
        folder = tmp_path / mode
        folder.mkdir()
        command = [sys.executable, "-W", "ignore::ResourceWarning", str(SCRIPTS / "cases_holders.py"), mode, role, holder, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done
        found.append(sorted(path.name for path in folder.iterdir()))
    assert found[0] == found[1]


LATE_WRITES = """
import contextvars, os, sys
import cowfreeze
log = open(sys.argv[2], "w")
log.write("first\\n")
log.flush()

class Keeper:
    def __init__(self):
        self.log = log

    def __del__(self):
        self.log.write("last words\\n")

if sys.argv[1] == "frozen":
    cowfreeze.freeze()
if os.fork() == 0:
    sys.kept = Keeper()
    sys.exit(0)
os.wait()
os._exit(0)
"""


def test_last_words_in_a_file_of_the_parents_are_written(tmp_path: Path) -> None:
    for mode in ("plain", "frozen"):
        subprocess.run([sys.executable, "-c", LATE_WRITES, mode, str(tmp_path / mode)], timeout=60, check=True)
    assert (tmp_path / "plain").read_text() == "first\nlast words\n"
    assert (tmp_path / "frozen").read_text() == (tmp_path / "plain").read_text()


def test_without_memory_what_sys_keeps_is_still_the_parents() -> None:
    code = (
        "import os, sys\nimport cowfreeze\nfrom cowfreeze import _core\n"
        "parent = os.getpid()\nclass Kept:\n    def __del__(self, write=os.write, getpid=os.getpid, parent=parent):\n"
        "        write(1, f'ended by {getpid() == parent}\\n'.encode())\n"
        "sys.kept = Kept()\ncowfreeze.freeze()\n"
        "if os.fork() == 0:\n    _core.fail_allocation(int(sys.argv[1]))\n    sys.exit(0)\nos.wait()\n"
    )
    for n in ("0", "1", "1000000"):
        done = subprocess.run([sys.executable, "-c", code, n], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "ended by True\n"), (n, done)
