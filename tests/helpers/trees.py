"""Process trees for the tests of `top` and `doctor`: real ones, and planted files of /proc.

Every process is started here and ended here, by its id.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.ending import end_with_all_below

FILES = Path(__file__).parents[1] / "cli" / "processes"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that prints one line when it is ready and ends when its stdin closes; killed with all below."""
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        end_with_all_below(process, process.stdin.close, 10)
        process.stdout.close()


@contextmanager
def foreign_process() -> Iterator[int]:
    """A process of user 65534 that is not dumpable, because it changed its user."""
    code = (
        "import os, sys, time\npid = os.fork()\n"
        "if pid == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534); time.sleep(100)\n"
        "time.sleep(0.2)\nprint(pid, flush=True)\nsys.stdin.read()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def command_line(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cowfreeze", *arguments],
        check=False,
        **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 60, **options},
    )


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as user 65534; only root can start it."""
    command = [sys.executable, str(FILES / "as_nobody.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def pool(method: str) -> Iterator[int]:
    with running(str(FILES / "pool.py"), method) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid


@contextmanager
def gunicorn(*arguments: str) -> Iterator[tuple[int, int]]:
    """A real gunicorn with two workers on a loopback port: pid of the parent and port."""
    pytest.importorskip("gunicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--chdir", str(FILES), *arguments,
         "application:application"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while len(psutil.Process(process.pid).children()) < 2:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "gunicorn did not start"
            time.sleep(0.05)
        for _ in range(4):
            assert get(port) == b"120000"
        yield process.pid, port
    finally:
        end_with_all_below(process, process.terminate, 10)
        assert process.stderr is not None
        process.stderr.close()


def get(port: int) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(100):
        try:
            with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no answer")


def plant(root: Path, pid: int, **files: str | bytes) -> None:
    folder = root / str(pid)
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def stat_line(pid: int, name: str = "python", parent: int = 1, minflt: int = 0, majflt: int = 0,
              rss: int = 100, code: int = 4096, stack: int = 8192, state: str = "S") -> str:  # fmt: skip
    fields = ["0"] * 50
    for field, value in {
        3: state,
        4: parent,
        10: minflt,
        12: majflt,
        20: 7,
        22: 555,
        24: rss,
        26: code,
        28: stack,
    }.items():
        fields[field - 3] = str(value)
    return f"{pid} ({name}) {' '.join(fields)}\n"
