"""What the memory of all processes does when a server with W workers is told to stop.

    python bench/bench_shutdown.py [--server gunicorn uwsgi] [--modes plain gc.freeze cowfreeze fast_exit]
                                   [--workers 4] [--records 300000] [--rounds 3] [-o FILE.json]

A server loads the records, forks its workers and answers one request of each, which reads every record. Then
it gets SIGTERM, and all workers end at the same time. The proportional set size (PSS) of the server and all its
children together is read without a pause until the last is gone (/proc/PID/smaps_rollup).

    before   the server, warm
    peak     the largest sum while it ends: what a machine without spare memory would have to have
    after    when the workers are gone: the server's own process, if it could be read once more

    plain       nothing is done               gc.freeze   the usual advice, before the fork
    cowfreeze   the integration, as it comes  fast_exit   and with fast_exit=True
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

MODES = ("plain", "gc.freeze", "cowfreeze", "fast_exit")
APPLICATION = """
import gc, os
RECORDS = {f"record {i}": [f"value {i}", (i + 1000, str(i))] for i in range(int(os.environ["RECORDS"]))}

def application(environ, start_response):
    total = sum(len(value[0]) for value in RECORDS.values())
    gc.collect()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {total}".encode()]
"""
SETUPS = {
    "plain": "",
    "gc.freeze": "import gc; gc.collect(); gc.freeze()",
    "cowfreeze": "import cowfreeze.integrations.HOST as host; host.CALL",
    "fast_exit": "import cowfreeze.integrations.HOST as host; host.CALL",
}
MIB = 1 << 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def command(server: str, mode: str, folder: Path, workers: int, port: int) -> list[str]:
    """Write the application and the server's settings into FOLDER; how the server is started there."""
    options = "fast_exit=True" if mode == "fast_exit" else ""
    if server == "uwsgi":
        setup = SETUPS[mode].replace("HOST", "uwsgi").replace("CALL", f"setup({options})")
        (folder / "application.py").write_text(f"{APPLICATION}\n{setup}\n")
        return [
            str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{port}", "--master", "--workers", str(workers),
            "--wsgi-file", "application.py", "--die-on-term", "--need-app", "--disable-logging",
        ]  # fmt: skip
    (folder / "application.py").write_text(APPLICATION)
    setup = SETUPS[mode].replace("HOST", "gunicorn").replace("CALL", f"install(globals(){', ' if options else ''}{options})")
    if mode == "gc.freeze":
        setup = "def when_ready(server):\n    import gc; gc.collect(); gc.freeze()"
    (folder / "gunicorn.conf.py").write_text(setup + "\n")
    return [
        sys.executable, "-m", "gunicorn", "--preload", "-w", str(workers), "-b", f"127.0.0.1:{port}", "--log-level", "error",
        "application:application",
    ]  # fmt: skip


def pss(pids: list[int]) -> int:
    """Bytes; 0 for who is gone."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (OSError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def warm(port: int, workers: int, process: psutil.Process) -> None:
    """Until each worker has answered."""
    seen: set[str] = set()
    end = time.monotonic() + 120
    while len(seen) < workers:
        if time.monotonic() > end or not process.is_running():
            raise SystemExit(f"only {len(seen)} of {workers} workers have answered in 120 s")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                seen.add(answer.read().split()[0].decode())
        except OSError:
            time.sleep(0.1)


def sums(process: psutil.Process, pids: list[int]) -> Iterator[int]:
    """The sum over and over until no worker is left."""
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids[1:]):
        yield pss(pids)


def shutdown(server: str, mode: str, workers: int, records: int) -> dict[str, float]:
    """MiB before, at the peak, after; seconds from the signal to the end of the last worker."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        arguments = command(server, mode, folder, workers, port)
        environment = {**os.environ, "RECORDS": str(records)}
        with (folder / "log").open("wb") as log:
            started = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=log)
        process = psutil.Process(started.pid)
        try:
            warm(port, workers, process)
            pids = [started.pid, *(child.pid for child in process.children(recursive=True))]
            before = pss(pids)
            start = time.perf_counter()
            started.send_signal(signal.SIGTERM)
            peak = max([before, *(found for found in sums(process, pids))])
            seconds = time.perf_counter() - start
            after = pss([started.pid])
            status = started.wait(timeout=60)
        except BaseException:
            print((folder / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            if started.poll() is None:
                for child in process.children(recursive=True):
                    child.kill()
                started.kill()
                started.wait()
    return {"before": before / MIB, "peak": peak / MIB, "after": after / MIB, "seconds": seconds, "status": status}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", nargs="+", choices=("gunicorn", "uwsgi"), default=["gunicorn"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    print(shlex.join(["python", *sys.argv]))
    print(f"{platform.platform()}, Python {platform.python_version()}, {options.workers} workers, load {os.getloadavg()[0]:.1f}")
    print("MiB of all processes together (PSS): median (smallest-largest)\n")
    results: list[dict[str, Any]] = []
    for server in options.server:
        if server == "uwsgi" and shutil.which(str(Path(sys.executable).with_name("uwsgi"))) is None:
            raise SystemExit("uwsgi is not installed in this environment: pip install uwsgi")
        rounds: dict[str, list[dict[str, float]]] = {mode: [] for mode in options.modes}
        for _ in range(options.rounds):
            for mode in options.modes:  # interleaved
                rounds[mode].append(shutdown(server, mode, options.workers, options.records))
        print(f"{server:<12}{'before':>24}{'peak':>24}{'after':>24}{'seconds':>18}")
        for mode, found in rounds.items():
            cells = []
            for figure in ("before", "peak", "after", "seconds"):
                values = sorted(one[figure] for one in found)
                digits = 2 if figure == "seconds" else 1
                cells.append(f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f}-{values[-1]:.{digits}f})")
            print(f"{mode:<12}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (24, 24, 24, 18))))
            results.append({"server": server, "mode": mode, "rounds": found})
        print()
    if options.output:
        options.output.write_text(json.dumps({"command": sys.argv, "python": platform.python_version(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
