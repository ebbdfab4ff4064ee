"""Two workers of gunicorn answer requests, first plain, then frozen: python run.py"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from looking import copied_by_workers, free_port, say  # noqa: E402


def measure(way: str, *options: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"127.0.0.1:{port}"]
    server = subprocess.Popen([*command, *options, "app:application"], cwd=HERE, stderr=subprocess.DEVNULL)
    try:
        answered: set[bytes] = set()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + 60
        while len(answered) < 2:
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("gunicorn does not answer; without stderr=DEVNULL it says why")
            try:
                with opener.open(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                    answered.add(answer.read().split()[0])
            except OSError:
                time.sleep(0.1)
        say(way, copied_by_workers(server.pid))
    finally:
        server.terminate()
        server.wait()


measure("plain")
measure("frozen", "-c", "python:cowfreeze.integrations.gunicorn")
