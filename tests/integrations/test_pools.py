"""multiprocessing and concurrent.futures: what the workers of real pools copy."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
from helpers.scripts import copied, ready, respawned, script
from helpers.servers import FILES, MIB

from cowfreeze import _core

MOST = 4 * MIB

immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")


@functools.cache
def worst(way: str) -> int:
    """Of a pool's workers, before and after one of them was replaced."""
    with script("pools.py", way) as process:
        pids = ready(process)
        result = copied(pids)
        if "executor" not in way:
            new = respawned(process)
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
