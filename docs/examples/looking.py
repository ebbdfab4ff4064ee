"""What the examples share: look at a tree of processes from outside, as `cowfreeze top` does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

MIB = 1 << 20


def copied_by_workers(pid: int) -> list[int]:
    """Bytes that each forked worker of the tree of PID has copied since its fork, at most."""
    command = [sys.executable, "-m", "cowfreeze", "top", "--once", "--json", "-p", str(pid)]
    trees = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["trees"]
    processes = trees[0]["processes"]
    parents = {process["parent"] for process in processes}
    # The workers are the leaves of the tree; what lies between (a fork server) is not one.
    workers = [one for one in processes if one["start"] == "fork" and one["pid"] not in parents]
    return [one["copied_at_most"] for one in workers if one["copied_at_most"] is not None]


def say(way: str, copied: list[int]) -> None:
    """One line per way: what the worker that copied most has copied."""
    print(f"{way:8} {max(copied) / MIB:6.1f} MiB copied by each of {len(copied)} workers, at most", flush=True)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
