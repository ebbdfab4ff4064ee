"""Real servers for the tests of the integrations: started on loopback, loaded, looked at from outside.

What a foreign worker copied is told by the page maps of its family (cowfreeze/_system/copied.py): an
upper bound, which is exact where sharing works. Every process is started here and ended here.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from helpers.ending import end_with_all_below

from cowfreeze._system.copied import measure_family

FILES = Path(__file__).parents[1] / "integrations" / "servers"
MIB = 1 << 20
DEADLINE = 60.0  # seconds; nothing here takes more than a few on an idle machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, condition: Callable[[], object], pause: float = 0.05) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s for: {what}"
        time.sleep(pause)


@dataclass
class Host:
    """A running server: its parent process and what it printed."""

    process: subprocess.Popen[bytes]
    output: Path
    port: int = 0
    known: list[int] = field(default_factory=list)

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Forked children of the parent that still run."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ended since it was listed
                if child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
        return sorted(found)

    def wait_for_workers(self, count: int) -> list[int]:
        def there() -> bool:
            assert self.process.poll() is None, self.text()
            return len(self.workers()) == count

        wait_for(f"{count} workers", there)
        return self.workers()

    def get(self) -> tuple[int, int]:
        """One request: the worker that answered, and its answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}/", timeout=20) as answer:
                    pid, total = answer.read().split()
                    return int(pid), int(total)
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.text()
                time.sleep(0.05)

    def load(self, count: int, times: int = 3) -> None:
        """Send requests until COUNT workers have answered TIMES each, at least."""
        seen: dict[int, int] = {}

        def enough() -> bool:
            pid, total = self.get()
            assert total > 0
            seen[pid] = seen.get(pid, 0) + 1
            return len(seen) >= count and min(seen.values()) >= times

        wait_for(f"answers of {count} workers", enough, pause=0)

    def copied(self, workers: list[int] | None = None) -> dict[int, int]:
        """Bytes that each worker copied since its fork, at most."""
        pids = self.workers() if workers is None else workers
        figures = measure_family(self.process.pid, pids)
        assert all(one.at_most is not None for one in figures.values()), figures
        return {pid: one.at_most or 0 for pid, one in figures.items()}


@contextmanager
def running(*command: str, environment: dict[str, str] | None = None) -> Iterator[Host]:
    """A server that is terminated, and killed with all below it if that does not help."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        variables = {**os.environ, "PYTHONPATH": str(FILES), "PYTHONUNBUFFERED": "1", **(environment or {})}
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=variables
            )
        try:
            yield Host(process, output)
        finally:
            end_with_all_below(process, process.terminate, 15)


@contextmanager
def gunicorn(*options: str, prefix: tuple[str, ...] = (), workers: int = 2) -> Iterator[Host]:
    port = free_port()
    command = (*prefix, sys.executable, "-m", "gunicorn", "-w", str(workers), "-b", f"127.0.0.1:{port}")
    with running(*command, *options, "shop:application") as host:
        host.port = port
        yield host


def measure(host: Host, workers: int = 2) -> dict[str, dict[int, int]]:
    """Load the server, kill one worker, load the one that replaces it: what all copied, twice."""
    old = host.wait_for_workers(workers)
    host.load(workers)
    before = host.copied(old)
    os.kill(old[0], signal.SIGKILL)
    wait_for("a new worker", lambda: len(set(host.workers()) - set(old)) == 1 and len(host.workers()) == workers)
    host.load(workers)
    after = host.copied()
    assert old[0] not in after
    print({name: [f'{size / MIB:.2f} MiB' for size in group.values()] for name, group in
           {"before": before, "after the respawn": after}.items()})  # fmt: skip
    return {"before": before, "after": after}


def worst(figures: dict[str, dict[int, int]]) -> int:
    return max(size for group in figures.values() for size in group.values())
