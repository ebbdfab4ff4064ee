"""multiprocessing and concurrent.futures: what the workers of real pools copy."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from _servers import FILES, MIB

from cowfreeze import _core
from cowfreeze.cli._copied import measure_family

MOST = 4 * MIB

immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")


@contextmanager
def script(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(FILES / arguments[0]), *arguments[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(FILES)},
    )  # fmt: skip
    below: list[psutil.Process] = []
    # A pool that hangs must not hang the tests: its end closes the pipe that is read.
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    try:
        yield process
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    finally:
        watchdog.cancel()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in below:
            if child.is_running():
                child.kill()
        process.stdout.close()


def ready(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    word, *pids = process.stdout.readline().split()
    assert word == "ready"
    return [int(pid) for pid in pids]


def copied(pids: list[int]) -> int:
    (parent,) = {psutil.Process(pid).ppid() for pid in pids}
    figures = measure_family(parent, pids)
    assert all(one.at_most is not None for one in figures.values()), figures
    return max(one.at_most or 0 for one in figures.values())


@functools.cache
def worst(way: str) -> int:
    """Of a pool's workers, before and after one of them was replaced."""
    with script("pools.py", way) as process:
        pids = ready(process)
        result = copied(pids)
        if "executor" not in way:
            assert process.stdin is not None
            process.stdin.write("respawn\n")
            process.stdin.flush()
            new = ready(process)
            assert len(set(new) - set(pids)) == 1
            result = max(result, copied(new))
        print(f"{way}: {result / MIB:.2f} MiB")
        return result


@immortal
@pytest.mark.parametrize("way", ["fork", "forkserver", pytest.param("executor", marks=pytest.mark.slow)])
def test_workers_share_what_was_frozen(way: str) -> None:
    assert worst("frozen-" + way) <= MOST
    assert worst("frozen-" + way) * 3 <= worst(way)


def test_a_preload_that_fails_is_found() -> None:
    done = subprocess.run(
        [sys.executable, str(FILES / "preloads.py"), "shop", "does_not_exist"], capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": str(FILES)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert "without does_not_exist" in lines["all"] and "shop" not in lines["all"]
    assert lines["first"] == "shared"
    assert "runs already" in lines["second"]
    assert "forkserver_context" in lines["late"] and "forked process" in lines["late"]


def test_importing_the_preload_elsewhere_does_nothing() -> None:
    code = (
        "import cowfreeze.integrations.forkserver as f, os\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "try: f.assert_inherited_freeze('os')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("CowfreezeError this worker was not forked from a fork server"), done


def test_mp_context_is_not_overridden() -> None:
    from cowfreeze.integrations.concurrent import process_pool_executor

    with pytest.raises(TypeError, match="mp_context"):
        process_pool_executor(1, mp_context=None)


def test_a_worker_cannot_ask_for_a_server() -> None:
    """The first process of a fork server's family is no place for a second server."""
    code = (
        "import multiprocessing as m\n"
        "def target():\n"
        "    from cowfreeze.integrations.multiprocessing import forkserver_context\n"
        "    try: forkserver_context('os')\n"
        "    except Exception as error: print(error, flush=True)\n"
        "p = m.get_context('fork').Process(target=target); p.start(); p.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "in a worker of multiprocessing" in done.stdout, done
