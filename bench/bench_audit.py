"""What the audit costs: milliseconds per GiB scanned, and the fork of the witness.

A clean worker is measured, one that has copied next to nothing: the scan of shared pages is what
every audit pays. The memory is touched, given back and touched again before the first round,
because a virtual machine backs fresh memory only at its first touch, which is not ours to time.

    python bench/bench_audit.py [--gib 1] [--rounds 15] [--json]

The last lines say whether the target (at most 5 ms per GiB) is met by the median; the exit status
is 1 if it is not. "first" is the first measuring of each worker, which is what an audit pays: its
work memory and the witness's page tables were never touched before. "bare read" reads the same
entries and does nothing with them: the kernel's share, and the floor for every audit by pagemap.
Milliseconds differ from machine to machine, and on a shared one from minute to minute; the ratio
of the two, taken in the same worker, does not. "CPU" leaves out what other processes took from the
core meanwhile.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import platform
import statistics
import struct
import sys
import time
from pathlib import Path
from typing import Any

from cowfreeze import _core

TARGET_MS = 5.0
GIB = 1 << 30


def read_first(path: str) -> str:
    """The first line of a file of the system, or why it cannot be read."""
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError) as error:
        return f"unknown ({type(error).__name__})"


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "machine": f"{platform.machine()}, {model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "page size": f"{mmap.PAGESIZE} bytes",
        "transparent huge pages": read_first("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }


def memory(size: int, huge: bool) -> mmap.mmap:
    """Private memory of `size` bytes, every page written."""
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    for offset in range(0, size, mmap.PAGESIZE):
        area[offset] = 1
    return area


def bare_read(area: mmap.mmap) -> tuple[float, float]:
    """Read the pagemap entries of `area` and look at none of them: seconds, and CPU seconds."""
    first = ctypes.addressof(ctypes.c_char.from_buffer(area)) // mmap.PAGESIZE * 8
    size = len(area) // mmap.PAGESIZE * 8
    buffer = mmap.mmap(-1, 32 << 10)  # as the audit does; other sizes cost the same
    buffer.write(bytes(len(buffer)))
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    started, used = time.perf_counter(), time.process_time()
    for at in range(0, size, len(buffer)):
        os.preadv(fd, [buffer], first + at)
    return time.perf_counter() - started, time.process_time() - used


def in_worker(
    witness: _core.Witness, area: mmap.mmap, times: int
) -> tuple[list[dict[str, Any]], tuple[float, float, float]]:
    """Fork a worker that measures itself `times` times.

    Returns the records; and the bare read's seconds, its CPU seconds, and those of the first audit.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            audit = _core.WorkerAudit(witness)
            used = time.process_time()
            audit.measure_into(writing)
            used = time.process_time() - used
            for _ in range(times - 1):
                audit.measure_into(writing)
            os.write(writing, struct.pack("3d", *bare_read(area), used))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as stream:
        data = stream.read()
    size = _core.RECORD_SIZE
    if os.waitpid(pid, 0)[1] != 0 or len(data) != times * size + 24:
        raise SystemExit("a worker failed to measure itself")
    records = [_core.decode_record(data[at : at + size]) for at in range(0, times * size, size)]
    return records, struct.unpack("3d", data[-24:])


def figures(values: list[float]) -> dict[str, float]:
    """Median, smallest, largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(size: int, huge: bool, rounds: int) -> dict[str, Any]:
    """One kind of page: figures in milliseconds (per GiB for the scans)."""
    area = memory(size, huge)
    first: list[float] = []
    again: list[float] = []
    first_cpu: list[float] = []
    bare: list[float] = []
    bare_cpu: list[float] = []
    ratios: list[float] = []
    forks: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        witness = _core.Witness()
        forks.append((time.perf_counter() - started) * 1000)
        with witness:
            records, seconds = in_worker(witness, area, 3)
        bare.append(seconds[0] * 1000 * GIB / size)
        bare_cpu.append(seconds[1] * 1000 * GIB / size)
        first_cpu.append(seconds[2] * 1000 * GIB / records[0]["scanned_bytes"])
        for number, record in enumerate(records):
            if record["copied_pages"] is None:
                raise SystemExit("unknown: " + " ".join(record["reasons"]))
            value = record["scan_seconds"] * 1000 * GIB / record["scanned_bytes"]
            (again if number else first).append(value)
        ratios.append(first_cpu[-1] / bare_cpu[-1])
    area.close()
    return {
        "ms_per_gib_first": figures(first),
        "cpu_ms_per_gib_first": figures(first_cpu),
        "ms_per_gib_repeated": figures(again),
        "ms_per_gib_bare_read": figures(bare),
        "cpu_ms_per_gib_bare_read": figures(bare_cpu),
        "first_to_bare_read": figures(ratios),
        "witness_fork_ms": figures(forks),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gib", type=float, default=1.0, help="memory of the parent, in GiB")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = int(options.gib * GIB) // (2 << 20) * (2 << 20)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    memory(size, False).close()

    results = {
        "normal pages": measure(size, False, options.rounds),
        "huge pages": measure(size, True, options.rounds),
    }
    met = all(r["ms_per_gib_first"]["median"] <= TARGET_MS for r in results.values())
    if options.json:
        head = {"gib": options.gib, "rounds": options.rounds, "target_ms_per_gib": TARGET_MS}
        print(json.dumps({**machine(), **head, "met": met, "results": results}))
        return 0 if met else 1
    for name, value in machine().items():
        print(f"{name + ':':24} {value}")
    print(f"{'memory, rounds:':24} {size / GIB:.2f} GiB, {options.rounds}\n")
    print(f"{'':16}{'':30}{'median':>9}{'min':>9}{'max':>9}")
    for kind, result in results.items():
        for label, key in (
            ("audit, ms/GiB, first", "ms_per_gib_first"),
            ("audit, CPU ms/GiB, first", "cpu_ms_per_gib_first"),
            ("audit, ms/GiB, repeated", "ms_per_gib_repeated"),
            ("bare read, ms/GiB", "ms_per_gib_bare_read"),
            ("bare read, CPU ms/GiB", "cpu_ms_per_gib_bare_read"),
            ("first audit / bare read, CPU", "first_to_bare_read"),
            ("witness fork, ms", "witness_fork_ms"),
        ):
            row = result[key]
            print(f"{kind:16}{label:30}{row['median']:9.2f}{row['min']:9.2f}{row['max']:9.2f}")
    print(f"\ntarget: at most {TARGET_MS} ms per GiB (median): {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
