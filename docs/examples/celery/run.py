"""Two workers of Celery's prefork pool run tasks, first plain, then frozen: python run.py"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from looking import copied_by_workers, say  # noqa: E402

# In a process of its own, because the application's module holds the data too.
ASK = """
import tasks
workers = set()
while len(workers) < 2:
    workers |= {answer.get(timeout=90)[0] for answer in [tasks.read.delay() for _ in range(8)]}
"""


def measure(way: str, freeze: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TASKS_FOLDER": folder, "FREEZE": freeze}
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "--without-gossip"]
        worker = subprocess.Popen(
            [*command, "--without-mingle"], cwd=HERE, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            subprocess.run([sys.executable, "-c", ASK], cwd=HERE, env=environment, check=True)
            say(way, copied_by_workers(worker.pid))
        finally:
            worker.terminate()
            worker.wait()


measure("plain", "")
measure("frozen", "1")
