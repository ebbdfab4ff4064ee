"""What packing costs, and what a fork costs with packed data of several sizes.

    python bench/bench_pack.py [--gib 0 1 4] [--seconds 0.4] [--rounds 9] [--records 100000]

Fork rate: os.fork, os._exit in the child, os.waitpid; one after the other, in a process with the
data packed and in one with nothing packed, in turns.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import cowfreeze

BLOCK = 1 << 20


def fork_rate(seconds: float) -> float:
    """Cycles of fork, exit and wait per second."""
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        n += 1
    return n / (time.perf_counter() - start)


def serve(gib: float, seconds: float) -> None:
    """Pack GIB, then answer every line of stdin with a rate."""
    n = int(gib * 1024)
    packed = cowfreeze.pack([bytes([i % 251]) * BLOCK + b"%d" % i for i in range(n)])
    gc.collect()
    gc.freeze()
    for _ in sys.stdin:
        print(fork_rate(seconds), len(packed), flush=True)


class Server:
    """A process with GIB packed that measures when it is asked."""

    def __init__(self, gib: float, seconds: float) -> None:
        here = os.path.dirname(os.path.abspath(__file__))
        code = f"import bench_pack; bench_pack.serve({gib}, {seconds})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def rate(self) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[0])

    def close(self) -> None:
        self.process.communicate()


def compare(gib: float, seconds: float, rounds: int) -> tuple[float, float, float]:
    """(median rate with GIB packed, median rate of an empty process, median of the ratios).

    Both processes live at the same time and measure in turns, because the speed of a machine
    that others use changes from second to second.
    """
    packed, empty = Server(gib, seconds), Server(0, seconds)
    pairs = [(packed.rate(), empty.rate()) for _ in range(rounds)]
    packed.close()
    empty.close()
    return (
        statistics.median(with_data for with_data, _ in pairs),
        statistics.median(without for _, without in pairs),
        statistics.median(with_data / without for with_data, without in pairs),
    )


def packing(n: int) -> None:
    records: list[dict[str, Any]] = [
        {"id": i, "name": f"name {i}", "tags": [f"t{i % 7}", f"t{i % 11}"], "at": (i * 1.5, i * 2.5)} for i in range(n)
    ]
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    pickle.dumps(records, pickle.HIGHEST_PROTOCOL)
    pickled = time.perf_counter() - start
    start = time.perf_counter()
    packed = cowfreeze.pack(records, report=print)
    seconds = time.perf_counter() - start
    print(f"pickle.dumps of the same: {pickled:.3f} s; pack takes {seconds / pickled:.2f} of it")
    for name, data in (("plain", records), ("packed", packed)):
        start = time.perf_counter()
        total = sum(r["id"] + len(r["name"]) + len(r["tags"][0]) + int(r["at"][1]) for r in data for _ in range(3))
        print(f"reading, {name:6}: {time.perf_counter() - start:.3f} s ({total})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gib", type=float, nargs="*", default=[0, 1, 4])
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--records", type=int, default=100_000)
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, Linux {platform.release()}")
    packing(arguments.records)
    for gib in arguments.gib:
        rate, empty, ratio = compare(gib, arguments.seconds, arguments.rounds)
        print(f"{gib:4.1f} GiB packed: {rate:6.0f} forks/s; empty process {empty:6.0f}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
