"""How often a process of 0 to 8 GiB can fork, against an empty Python process in the same run.

    python bench/bench_fork.py [--gib 0 1 4] [--modes plain pack ...] [--rounds 9]
                               [--seconds 0.4] [-o FILE.json] [--plot FILE.png]
    python bench/bench_fork.py --load FILE.json --plot FILE.png

A cycle is os.fork, os._exit in the child, os.waitpid; one after the other. The data is a list of
bytes objects of 400 bytes each, in the interpreter's own arenas, as small objects are.

    plain       nothing is done with them
    hugepages   cowfreeze.freeze(data, hugepages=True)
    remap       cowfreeze.freeze(data, remap=True)
    pack        cowfreeze.pack(data), then gc.freeze()
    pack+remap  cowfreeze.pack(data), then cowfreeze.freeze(remap=True): the interpreter's own memory, too

For each size and mode one process holds the data and another one is an empty interpreter. Both live
at the same time and measure in turns, because the speed of a machine that others use changes from
second to second. What counts is the median of the ratios of each turn, by the clock and, because
it does not depend on who else uses the processors, by processor time (of parent and child). The processes of different
modes follow each other: together they would not fit into memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODES = ("plain", "hugepages", "remap", "pack", "pack+remap")
SIZE = 367  # bytes objects of 400 bytes: 33 are the header and the final zero
PART = 256 << 20  # packed at once, so that source and copy never take twice the memory
LEAST = 5  # cycles of one turn, however long they take
COLORS = {"plain": "#8a8a8a", "hugepages": "#d9822b", "remap": "#2b6cb0", "pack": "#2f855a", "pack+remap": "#805ad5"}
MARKS = {"plain": "o", "hugepages": "s", "remap": "^", "pack": "D", "pack+remap": "v"}


def processor_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def fork_rate(seconds: float) -> tuple[float, float]:
    """Cycles of fork, exit and wait per second, and per second of processor time."""
    n, start, used = 0, time.perf_counter(), processor_seconds()
    while n < LEAST or time.perf_counter() - start < seconds:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        n += 1
    return n / (time.perf_counter() - start), n / (processor_seconds() - used)


def make(first: int, size: int) -> list[bytes]:
    return [number.to_bytes(SIZE, "little") for number in range(first, first + size // (400 + 8))]


def hold(mode: str, size: int) -> tuple[Any, list[str]]:
    """The data of SIZE bytes as MODE has it, and what the mode said."""
    import cowfreeze

    parts: list[Any] = []
    for start in range(0, size, PART):
        part = make(start, min(PART, size - start))
        parts.append(cowfreeze.pack(part) if mode.startswith("pack") else part)
    notes: list[str] = []
    if mode in ("hugepages", "remap"):
        report = cowfreeze.freeze(parts, remap=mode == "remap", hugepages=mode == "hugepages")
        notes = [f"{report.remapped_bytes or report.hugepage_bytes} bytes in {report.phases['move']:.2f} s", *report.notes]
    elif mode == "pack+remap":
        part = []
        notes = list(cowfreeze.freeze(remap=True).notes)
    elif mode == "pack":
        part = []
        gc.collect()
        gc.freeze()
    return parts, notes


def status(*names: str) -> dict[str, int]:
    """Fields of /proc/self/status in KiB, and the number of mappings."""
    found = {}
    with open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in names:
                found[name] = int(value.split()[0])
    with open("/proc/self/maps") as file:
        found["mappings"] = sum(1 for _ in file)
    return found


def serve(mode: str, size: int, seconds: float) -> None:
    """Hold the data, then answer every line of stdin with a rate."""
    kept = hold(mode, size) if mode != "empty" else (None, [])
    print(json.dumps({"notes": kept[1], **status("RssAnon", "RssShmem", "VmPTE")}), flush=True)
    for _ in sys.stdin:
        print(*fork_rate(seconds), flush=True)


class Server:
    """A process that holds data and measures when it is asked."""

    def __init__(self, mode: str, size: int, seconds: float) -> None:
        here = os.path.dirname(os.path.abspath(__file__))
        code = f"import bench_fork; bench_fork.serve({mode!r}, {size}, {seconds})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.what: dict[str, Any] = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the measuring process ended with {self.process.wait()}")
        return line

    def rates(self) -> tuple[float, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        by_clock, by_processor = map(float, self._line().split())
        return by_clock, by_processor

    def close(self) -> None:
        self.process.communicate()


def compare(mode: str, gib: float, seconds: float, rounds: int) -> dict[str, Any]:
    """One row: rates of the process with data and of the empty one, turn by turn."""
    empty = Server("empty", 0, seconds)
    data = Server(mode, int(gib * (1 << 30)), seconds)
    data.rates(), empty.rates()  # the first turn of each pays for what later ones find ready
    pairs = []
    for number in range(rounds):
        first, second = (data, empty) if number % 2 else (empty, data)
        both = first.rates(), second.rates()
        pairs.append(both if number % 2 else both[::-1])
    data.close()
    empty.close()
    return {
        "mode": mode,
        "gib": gib,
        "rates": [with_data[0] for with_data, _ in pairs],
        "empty": [without[0] for _, without in pairs],
        "clock": spread([with_data[0] / without[0] for with_data, without in pairs]),
        "processor": spread([with_data[1] / without[1] for with_data, without in pairs]),
        "process": data.what,
        "load": os.getloadavg()[0],
    }


def spread(ratios: list[float]) -> dict[str, float]:
    """The median, and where the middle half of the values begins and ends."""
    ratios = sorted(ratios)
    return {"median": statistics.median(ratios), "low": ratios[len(ratios) // 4], "high": ratios[-1 - len(ratios) // 4]}


def text_of(row: dict[str, Any]) -> str:
    rate, empty = statistics.median(row["rates"]), statistics.median(row["empty"])
    return (
        f"{row['mode']:10} {row['gib']:4.1f} GiB: {rate:7.1f} forks/s, empty process {empty:7.1f}; "
        f"ratio {said(row['clock'])} by the clock, {said(row['processor'])} by processor time; "
        f"{row['process']['mappings']} mappings"
    )


def said(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"


def plot(result: dict[str, Any], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained", sharey=True)
    for axes, kind, name in zip(both, ("processor", "clock"), ("processor time", "the clock"), strict=True):
        for mode in MODES:
            rows = sorted((row for row in result["rows"] if row["mode"] == mode), key=lambda row: row["gib"])
            if not rows:
                continue
            ratios = [row[kind] for row in rows]
            middle = [ratio["median"] for ratio in ratios]
            bars = [[r["median"] - r["low"] for r in ratios], [r["high"] - r["median"] for r in ratios]]
            places = [row["gib"] for row in rows]
            label = f"{mode}: {middle[-1]:.2g} at {places[-1]:g} GiB"
            axes.errorbar(places, middle, yerr=bars, label=label, color=COLORS[mode], marker=MARKS[mode], capsize=3)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_yticks([0.001, 0.01, 0.1, 0.5, 0.9], ["0.001", "0.01", "0.1", "0.5", "0.9"])
        axes.minorticks_off()
        axes.margins(x=0.1)
        axes.set_xlabel("data in the process, GiB")
        axes.set_title(f"by {name}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left")
    both[0].set_ylabel("forks / forks of an empty process")
    figure.suptitle(
        f"fork + exit + wait, {result['python']}: medians and middle halves of {result['rounds']} turns", fontsize=11
    )
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gib", type=float, nargs="*", default=[0, 1, 4])
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--load", help="rows of earlier runs, which are kept")
    parser.add_argument("-o", "--output")
    parser.add_argument("--plot")
    arguments = parser.parse_args()
    version = f"Python {platform.python_version()}"
    result: dict[str, Any] = {
        "commands": [],
        "python": version,
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "rounds": arguments.rounds,
        "rows": [],
    }
    if arguments.load:
        result = json.loads(Path(arguments.load).read_text())
    if not (arguments.load and not arguments.output):
        result["commands"].append(f"{shlex.join(['python', *sys.argv])} (load {os.getloadavg()[0]:.1f})")
        print(f"{version}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
        for gib in arguments.gib:
            for mode in arguments.modes:
                row = compare(mode, gib, arguments.seconds, arguments.rounds)
                result["rows"].append(row)
                print(text_of(row), flush=True)
                if arguments.output:
                    Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n")
    if arguments.plot:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
