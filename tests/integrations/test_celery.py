"""Celery's prefork pool with both kinds of broker: what its workers copy, with and without cowfreeze.

Needs celery and redis (`make test-integrations` installs them); a redis-server on the PATH is used if there is one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import redis_server
import pytest
from helpers.servers import FILES, MIB, Host, running, wait_for, worst

from cowfreeze import _core

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12"),
]

# Of this about 3 MiB are Celery's own work on 40 tasks; the data are more than 12 MiB of pages.
MOST = 10 * MIB
ASK = """
import sys, tasks
if sys.argv[1] == "0":
    tasks.die.delay()
results = [tasks.read.delay(number) for number in range(int(sys.argv[1]))]
print(*{result.get(timeout=60)[0] for result in results})
"""


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    with redis_server.redis() as url:
        yield {"TASKS_REDIS": url}


def ask(environment: dict[str, str], count: int) -> set[int]:
    """Let COUNT tasks read; returns the workers that did."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(count)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(FILES), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {int(pid) for pid in done.stdout.split()}


def load(host: Host, environment: dict[str, str]) -> None:
    readers: set[int] = set()

    def all_have_read() -> bool:
        readers.update(ask(environment, 12))
        return set(host.workers()) <= readers

    wait_for("all workers have read", all_have_read)


def measure(
    environment: dict[str, str], respawn: bool, prefix: tuple[str, ...] = ()
) -> tuple[dict[str, Any], str]:
    command = (*prefix, sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-l", "info")
    with running(*command, "--without-gossip", "--without-mingle", environment=environment) as host:
        old = host.wait_for_workers(2)
        load(host, environment)
        before = host.copied(old)
        print(before)
        if not respawn:
            return {"before": before}, host.text()
        # From inside of a task: an idle worker may hold the lock of the pool's queue.
        ask(environment, 0)
        wait_for("a new worker", lambda: len(host.workers()) == 2 and host.workers() != old)
        load(host, environment)
        figures = {"before": before, "after": host.copied()}
        print(figures)
        return figures, host.text()


@pytest.mark.parametrize("broker", ["redis", "filesystem"])
def test_workers_share_what_was_frozen(broker: str, tmp_path: Path) -> None:
    # With the filesystem broker plain Celery 5.7.0 was seen to answer no more once a worker was killed.
    respawn = broker == "redis"
    folders = contextlib.nullcontext({"TASKS_FOLDER": str(tmp_path)})
    with redis() if broker == "redis" else folders as environment:
        plain, _ = measure(environment, respawn)
        ours, text = measure({**environment, "SETUP": "1"}, respawn)
        assert "cowfreeze froze" in text
        all_of_ours = [ours]
        if broker == "redis":
            zero_code, text = measure(environment, respawn, (sys.executable, "-m", "cowfreeze", "run", "--"))
            assert text.count("cowfreeze run: froze") == 1
            all_of_ours.append(zero_code)
    for figures in all_of_ours:
        assert worst(figures) <= MOST, figures
        assert worst(figures) * 2 <= worst(plain), (figures, plain)


def autoscaled(environment: dict[str, str]) -> tuple[dict[str, dict[int, int]], str]:
    """The worker that stood at the start, and those that the load made the pool fork."""
    command = (sys.executable, "-m", "celery", "-A", "tasks", "worker", "--autoscale=3,1", "-l", "info")
    with running(*command, "--without-gossip", "--without-mingle", environment=environment) as host:
        host.wait_for_workers(1)
        load(host, environment)
        before = host.copied()

        def grown() -> bool:
            ask(environment, 12)
            return len(host.workers()) > 1

        wait_for("more workers", grown)
        load(host, environment)
        figures = {"before": before, "after": host.copied()}
        assert len(figures["after"]) > 1
        print(figures)
        return figures, host.text()


def test_workers_that_autoscale_adds_share_too() -> None:
    with redis() as environment:
        plain, _ = autoscaled(environment)
        ours, text = autoscaled({**environment, "SETUP": "1"})
    assert "cowfreeze froze" in text
    assert worst(ours) <= MOST, ours
    assert worst(ours) * 2 <= worst(plain), (ours, plain)


def test_wrong_side_names_the_right_signal(tmp_path: Path) -> None:
    environment = {"TASKS_FOLDER": str(tmp_path), "WRONG_SIDE": "1"}
    command = (sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-l", "info")
    with running(*command, "--without-gossip", "--without-mingle", environment=environment) as host:
        host.wait_for_workers(1)
        wait_for("the warning", lambda: "celeryd_after_setup" in host.text())
        assert "worker_process_init" in host.text()
