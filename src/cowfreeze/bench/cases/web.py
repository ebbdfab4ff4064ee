"""A real prefork server under real load: gunicorn with --preload on the loopback interface.

    room: sends requests ─── TCP ──> gunicorn's arbiter: loads the data, applies the mode
          (4 threads)                  └─ workers: render slices of the data, measure themselves

Each request renders a slice of the records to JSON, so that in the end the workers have read most
of the data between them. The mode is applied in the arbiter's `when_ready`, after loading and
before the first worker, which is where gunicorn lets an application do such things. The workers
measure their pages right after the fork and when they end, after a collection.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze._workers.endings import page_figures
from cowfreeze.bench.cases import records
from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.modes import MODES, Unavailable

REQUESTS = 2000
SLICE = 200  # records per request
_CLIENTS = 4
_START_SECONDS = 120.0


def _missing() -> str | None:
    if importlib.util.find_spec("gunicorn") is None:
        return "gunicorn is not installed (pip install gunicorn)"
    return None


class _Server:
    """gunicorn in a process of its own, and what its processes tell through a pipe."""

    def __init__(self, order: dict[str, Any]) -> None:
        import socket  # here, as http.client below: other cases' workers are measured with this loaded

        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        reader, writer = os.pipe()
        told = {"pipe": writer, "mode": order["mode"], "size": order["size"], "workers": order["workers"]}
        descriptor = self.listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:cowfreeze.bench.cases.web_server", "--bind", f"fd://{descriptor}"]
            + ["cowfreeze.bench.cases.web_server:application"],
            pass_fds=[descriptor, writer],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env={**os.environ, "COWFREEZE_BENCH_WEB": json.dumps(told)},
        )
        os.close(writer)
        self.messages: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        self._pipe = os.fdopen(reader)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._pipe:
            with self.arrived:
                self.messages.append(json.loads(line))
                self.arrived.notify_all()
        with self.arrived:
            self.messages.append({"kind": "end"})
            self.arrived.notify_all()

    def find(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["kind"] == kind]

    def wait(self, kind: str, count: int, seconds: float) -> list[dict[str, Any]]:
        """COUNT messages of KIND; Unavailable or CowfreezeError when they do not come."""
        with self.arrived:
            self.arrived.wait_for(
                lambda: len(self.find(kind)) >= count or self.find("end") or self.find("unavailable"), seconds
            )
        if self.find("unavailable"):
            raise Unavailable(self.find("unavailable")[0]["text"])
        if len(self.find(kind)) < count:
            raise CowfreezeError(f"gunicorn's processes sent {len(self.find(kind))} of {count} messages ({kind})")
        return self.find(kind)

    def stop(self) -> None:
        """End the server in its ordinary way, by force if it does not."""
        self.listener.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(timeout=5)


def _load(port: int, requests: int, size: int) -> tuple[float, list[float], int]:
    """Send REQUESTS requests from a few threads; seconds in all, of each, and failed ones."""
    import http.client

    numbers = iter(range(requests))
    lock = threading.Lock()
    times: list[float] = []
    failures: list[str] = []

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            start = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                # A prime step: slices are spread over the data instead of following each other.
                connection.request("GET", f"/{number * 7919 * SLICE % max(size, 1)}")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failures.append(str(answer.status))
            except OSError as error:
                failures.append(str(error))
            finally:
                connection.close()
            times.append(time.perf_counter() - start)

    clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    start = time.perf_counter()
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return time.perf_counter() - start, times, len(failures)


def run(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """One mode: start, load, measure, stop."""
    mode, workers = MODES[order["mode"]], order["workers"]
    mode.before()  # here too, so that what is not installed is said before a server starts
    requests = max(20, min(REQUESTS, order["size"] // 10))
    tell(stage="gunicorn loads the data")
    server = _Server(order)
    try:
        ready = server.wait("ready", 1, _START_SECONDS)[0]
        server.wait("forked", workers, _START_SECONDS)
        tell(stage=f"{requests} requests")
        seconds, times, failures = _load(server.port, requests, order["size"])
        if failures:
            raise CowfreezeError(f"{failures} of {requests} requests failed")
        memory = _memory(server.process.pid)
        tell(stage="stopping gunicorn")
        server.stop()
        ended = server.wait("ended", workers, 1)
    finally:
        server.stop()
    values: dict[str, float | None] = {**ready["values"], **memory}
    values["requests_per_second"] = requests / seconds
    values["request_seconds"] = statistics.median(times)
    values.update(_pages(ended, ready["frozen"]))
    reasons = [reason for message in ended for reason in page_figures(bytes.fromhex(message["records"])).reasons]
    served = sum(1 for message in ended if message["requests"])
    notes = [*ready["notes"], f"{served} of {workers} workers served the {requests} requests"]
    return {"values": values, "notes": notes, "reasons": list(dict.fromkeys(reasons)), "content": [requests, 0, 0, 0]}


def _memory(arbiter: int) -> dict[str, float | None]:
    """Cluster PSS and the largest USS of the running server (the witness's own pages left out)."""
    import psutil

    parent = psutil.Process(arbiter)
    try:
        workers = parent.children(recursive=True)
        witness = next(process for process in workers if process.name() == "cf-witness")
        workers.remove(witness)
        own = witness.memory_full_info().uss
        infos = [process.memory_full_info() for process in (parent, *workers)]
        pss = sum(info.pss for info in infos) + witness.memory_full_info().pss - own
    except (psutil.Error, StopIteration):
        return {"cluster_pss": None, "uss": None}
    return {"cluster_pss": pss, "uss": max(info.uss for info in infos[1:])}


def _pages(ended: list[dict[str, Any]], frozen: bool) -> dict[str, float | None]:
    found = [page_figures(bytes.fromhex(message["records"])) for message in ended]
    size = os.sysconf("SC_PAGE_SIZE")
    values: dict[str, float | None] = {"copied_median": None, "copied_max": None, "startup_bytes": None}
    copied = [figures.copied_pages for figures in found if figures.copied_pages is not None]
    startup = [figures.startup_pages for figures in found if figures.startup_pages is not None]
    if len(copied) == len(found) and len(startup) == len(found):
        values = {
            "copied_median": statistics.median(copied) * size,
            "copied_max": max(copied) * size,
            "startup_bytes": max(startup) * size,
        }
    pages = [figures.frozen_copied_pages for figures in found if figures.frozen_copied_pages is not None]
    if frozen:
        values["frozen_copied_pages"] = max(pages) if len(pages) == len(found) else None
    faults = [figures.minor_faults for figures in found if figures.minor_faults is not None]
    values["minor_faults"] = max(faults) if len(faults) == len(found) else None
    return values


CASE = Case(
    "web",
    f"gunicorn --preload on loopback under load: each request renders {SLICE} records",
    "records",
    100_000,
    records.CASE.bytes_each,
    records.build,
    None,
    missing=_missing,
)
