"""RQ: what its work horses copy, with and without cowfreeze. Needs rq (`make test-integrations`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers import redis_server
import psutil
import pytest
from helpers.servers import FILES, MIB, Host, running, wait_for

from cowfreeze import _core
from cowfreeze._system.copied import measure_family

pytest.importorskip("rq")
pytestmark = pytest.mark.slow
immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")

# Of this 1 to 2 MiB are RQ's own work on a job; the data are 12 MiB of pages.
MOST = 5 * MIB
OURS = ("--worker-class", "cowfreeze.integrations.rq.Worker")
SETTINGS = ("-c", "rq_settings")
RUN = (sys.executable, "-m", "cowfreeze", "run", "--")
ENQUEUE = """
import sys, redis, rq
job = rq.Queue(connection=redis.Redis.from_url(sys.argv[1])).enqueue(sys.argv[2], *sys.argv[3:])
print(job.id)
"""
RESULT = """
import sys, time, redis, rq
job = rq.job.Job.fetch(sys.argv[2], connection=redis.Redis.from_url(sys.argv[1]))
deadline = time.monotonic() + 60
while job.get_status().value in ("queued", "started") and time.monotonic() < deadline:
    time.sleep(0.05)
print(job.get_status().value, job.return_value())
"""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=90,
        env={**os.environ, "PYTHONPATH": str(FILES)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def worker(url: str, *options: str, prefix: tuple[str, ...] = (), **environment: str):  # type: ignore[no-untyped-def]
    command = (*prefix, sys.executable, "-m", "rq.cli", "worker", "--url", url, "--path", str(FILES))
    return running(*command, *options, environment=environment)


def horse(host: Host, url: str, folder: Path) -> tuple[int, int]:
    """A job that reads: its work horse, and what that had copied at the end of it."""
    python(ENQUEUE, url, "jobs.read", str(folder))

    def done() -> bool:
        assert host.process.poll() is None, host.text()
        return any(folder.iterdir())

    wait_for("the job", done)
    (file,) = folder.iterdir()
    pid = int(file.name)
    assert psutil.Process(pid).ppid() == host.process.pid
    figure = measure_family(host.process.pid, [pid])[pid].at_most
    assert figure is not None
    return pid, figure


def measure(host: Host, url: str, folder: Path) -> list[int]:
    """Two jobs that end, one whose work horse is killed, and one after that."""
    folder.mkdir(exist_ok=True)
    figures = []
    for kill in (False, False, True, False):
        pid, figure = horse(host, url, folder)
        figures.append(figure)
        if kill:
            os.kill(pid, signal.SIGKILL)
        (folder / str(pid)).unlink()
        wait_for("the end of the work horse", lambda: not psutil.pid_exists(pid))
    print([f"{figure / MIB:.2f} MiB" for figure in figures])
    return figures


@immortal
def test_work_horses_share_what_was_frozen(tmp_path: Path) -> None:
    with redis_server.redis() as url:
        with worker(url, *SETTINGS) as host:
            plain = measure(host, url, tmp_path / "jobs")
        for options, prefix, environment in (
            ((*OURS, *SETTINGS), (), {}),
            (OURS, (), {"COWFREEZE_PRELOAD": "jobs,does_not_exist"}),
            (SETTINGS, RUN, {}),
        ):
            with worker(url, *options, prefix=prefix, **environment) as host:
                ours = measure(host, url, tmp_path / "jobs")
                assert ("does_not_exist is not shared" in host.text()) == ("COWFREEZE_PRELOAD" in environment)
                assert "cowfreeze" in host.text()
            assert max(ours) <= MOST, ours
            assert max(ours) * 2 <= max(plain), (ours, plain)


def test_wrong_side_names_the_right_place() -> None:
    with redis_server.redis() as url, worker(url):
        answer = python(RESULT, url, python(ENQUEUE, url, "jobs.freeze_here"))
        assert "work horse of RQ" in answer and "cowfreeze.integrations.rq.Worker" in answer, answer


def test_workers_that_do_not_fork_are_refused() -> None:
    import rq

    import cowfreeze
    from cowfreeze.integrations.rq import Worker, frozen

    assert issubclass(Worker, rq.Worker)
    with pytest.raises(cowfreeze.UnsupportedError, match="forks no work horses"):
        frozen(rq.SimpleWorker)
