"""What freezing costs: its time against one gc.collect() of the same graph, and its memory.

    python bench/bench_freeze.py [--records 500000] [--rounds 5] [--json FILE]

Each round is a fresh process, because freezing cannot be undone. A round

1. builds the graph: RECORDS dicts {'id', 'name', 'tags': [2 str], 'score', 'pair': (int, str)};
2. collects once to warm up, then three times, and keeps the median: the yardstick;
3. resets the kernel's high-water mark (VmHWM) and calls `cowfreeze.freeze(graph, collect=False)`,
   so that no collection is part of the time;
4. reports seconds, objects, what the freeze says about its own peak memory, and what the kernel
   says: VmHWM minus VmRSS before the call. The second does not depend on our own book-keeping. It
   also counts what stays (the set of frozen pages) and is exact to some 100 KiB, because the
   kernel sums its per-processor counters lazily.

The ratio divides times of one process, so that a slow machine or a noisy neighbour hits both.
Targets: ratio at most 0.35 (aim 0.25), at most 8 extra bytes per object at the peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

TARGET_RATIO = 0.35
AIM_RATIO = 0.25
TARGET_BYTES = 8.0


def build(records: int) -> list[dict[str, Any]]:
    """The graph: every leaf a fresh object, keys shared, as a parser would leave it."""
    return [
        {
            "id": i + 1_000_000,
            "name": f"name-{i}",
            "tags": [f"tag-{i}-a", f"tag-{i}-b"],
            "score": i * 0.37,
            "pair": (i + 2_000_000, f"pair-{i}"),
        }
        for i in range(records)
    ]


def memory(field: str) -> int:
    """A field of /proc/self/status such as VmRSS or VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def one_round(records: int) -> dict[str, Any]:
    """Build, collect, freeze and measure in this process."""
    from cowfreeze import freeze  # here: the first use of a name loads what it needs

    graph = build(records)
    gc.collect()
    collections = []
    for _ in range(3):
        start = time.perf_counter()
        gc.collect()
        collections.append(time.perf_counter() - start)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from VmRSS
    start = time.perf_counter()
    report = freeze(graph, collect=False)
    seconds = time.perf_counter() - start
    peak = memory("VmHWM") - before
    kept = memory("VmRSS") - before
    collect = statistics.median(collections)
    return {
        "objects": report.objects,
        "collect_seconds": collect,
        "freeze_seconds": seconds,
        "phases": {name: spent / collect for name, spent in report.phases.items()},
        "ratio": seconds / collect,
        "reported_bytes_per_object": report.peak_extra_bytes / report.objects,
        "kernel_bytes_per_object": peak / report.objects,
        "kept_bytes_per_object": kept / report.objects,
    }


def machine() -> dict[str, str]:
    """What a reader needs to repeat the figures."""
    try:
        thp = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip()
    except OSError as error:
        thp = f"unknown ({error.strerror})"
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in cpuinfo if "model name" in line), "unknown model")
    options = shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or "")
    build_options = [option for option in options if option.startswith(("--enable", "--with"))]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {cpu}",
        "kernel": platform.release(),
        "page size": str(os.sysconf("SC_PAGE_SIZE")),
        "THP": thp,
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "build": " ".join(build_options),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
    }


def run_rounds(records: int, rounds: int) -> list[dict[str, Any]]:
    """ROUNDS results, each of a process of its own."""
    results = []
    for number in range(rounds):
        done = subprocess.run(
            [sys.executable, __file__, "--records", str(records), "--one"],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            check=True,
            text=True,
        )
        results.append(json.loads(done.stdout))
        print(f"round {number + 1}: {results[-1]['ratio']:.3f}", file=sys.stderr, flush=True)
    return results


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> int:
    """Print the figures; exit status 1 when a median misses its target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="also write the rounds and the machine to FILE")
    parser.add_argument("--one", action="store_true", help="one round in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_round(arguments.records)))
        return 0

    about = machine()
    for name, value in about.items():
        print(f"{name:10} {value}")
    results = run_rounds(arguments.records, arguments.rounds)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": about, "rounds": results}, indent=2) + "\n")

    def column(name: str) -> list[Any]:
        return [result[name] for result in results]

    objects = results[0]["objects"]
    print(f"\n{arguments.records:,} records, {objects:,} objects, {len(results)} rounds: median (min to max)")
    for label, name, form, unit in (
        ("one gc.collect()", "collect_seconds", ".3f", "s"),
        ("freeze(collect=False)", "freeze_seconds", ".3f", "s"),
        ("freeze / collect", "ratio", ".3f", f"  target {TARGET_RATIO}, aim {AIM_RATIO}"),
        ("peak extra, reported", "reported_bytes_per_object", ".2f", f"bytes per object, target {TARGET_BYTES:g}"),
        ("peak extra, kernel", "kernel_bytes_per_object", ".2f", "bytes per object (VmHWM)"),
        ("kept afterwards", "kept_bytes_per_object", ".2f", "bytes per object (VmRSS)"),
    ):
        print(f"{label:22}  {spread(column(name), form)} {unit}")
    for phase in results[0]["phases"]:
        print(f"  {phase + ' / collect':20}  {spread([result['phases'][phase] for result in results], '.3f')}")
    met = (
        statistics.median(column("ratio")) <= TARGET_RATIO
        and statistics.median(column("kernel_bytes_per_object")) <= TARGET_BYTES
    )
    print("targets met" if met else "TARGET MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
