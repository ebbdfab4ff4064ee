"""Airflow's LocalExecutor on a fork server: what the processes of its callbacks copy.

Needs apache-airflow-core (`make test-integrations` installs it where there are packages of it). No
database, no scheduler and no API server run: a callback needs none.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from helpers.servers import FILES, MIB, running, wait_for

from cowfreeze import _core
from cowfreeze._system.copied import measure_family

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("airflow") is None, reason="no airflow: pip install apache-airflow-core"),
    pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12"),
]
PRELOAD = "airflow,airflow.executors.local_executor,jobs"
OURS = "cowfreeze.integrations.forkserver"
# Airflow's supervisor and its API client are most of this; the data are 12 MiB of pages.
MOST = 10 * MIB


def measure(preload: str, folder: Path) -> list[int]:
    """What the processes of three callbacks copied of what their worker had; the second is killed."""
    (folder / "jobs").mkdir(parents=True)
    environment = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__MP_START_METHOD": "forkserver",
        "AIRFLOW__CORE__MP_FORKSERVER_PRELOAD": preload,
    }
    jobs = folder / "jobs"
    figures = []
    with running(sys.executable, str(FILES / "airflow_callback.py"), str(jobs), environment=environment) as host:
        for number in range(3):

            def there() -> bool:
                assert host.process.poll() is None, host.text()
                return any(jobs.iterdir())

            wait_for(f"callback {number}", there)
            (file,) = jobs.iterdir()
            pid = int(file.name)
            worker = psutil.Process(pid).ppid()
            figure = measure_family(worker, [pid])[pid].at_most
            assert figure is not None
            figures.append(figure)
            if number == 1:
                os.kill(pid, signal.SIGKILL)
            file.unlink()
            wait_for("the state of the callback", lambda: host.text().count("callback success") == (1, 1, 2)[number])
            wait_for("the failed callback", lambda: host.text().count("callback failed") == (number >= 1))
        host.process.wait(timeout=60)
    print(preload, [f"{figure / MIB:.2f} MiB" for figure in figures])
    return figures


def test_callbacks_share_what_the_fork_server_froze(tmp_path: Path) -> None:
    plain = measure(PRELOAD, tmp_path / "plain")
    ours = measure(f"{PRELOAD},{OURS}", tmp_path / "ours")
    assert max(ours) <= MOST, ours
    assert max(ours) * 2 <= max(plain), (ours, plain)
