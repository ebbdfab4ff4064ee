"""What a trap costs per first write, and per page of a start. Target: at most 15 µs per write.

    python bench/bench_trap.py [--mib 256] [--rounds 5]

A frozen block is shared with a forked worker, which writes one word of each page: in order, and
in random order, without a trap and with each backend, from a Python loop that calls a C function.
The cost of the trap is the difference to the same loop without one. Times are CPU time of the
worker, user and system, because other work on the machine would be counted otherwise.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import random
import statistics
import struct
import sys
import time

import cowfreeze

PAGE = os.sysconf("SC_PAGE_SIZE")


def describe() -> None:
    print(f"command   {' '.join(sys.argv)}")
    print(f"kernel    {platform.release()}, {os.cpu_count()} cores, pages of {PAGE}")
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        print(f"THP       {file.read().strip()}")
    print(f"python    {sys.version}")


def in_child(addresses: list[int], backend: str | None) -> tuple[float, int, float]:
    """(CPU seconds of the loop, writes noted, seconds of preparing and arming)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        store = ctypes.memset
        trap = None if backend is None else cowfreeze.trap(backend=backend, owners=False, room=1 << 20)
        begin = time.perf_counter()
        if trap is not None:
            trap.__enter__()
        armed = time.perf_counter()
        start = time.process_time()
        for address in addresses:
            store(address, 1, 1)
        end = time.process_time()
        noted = 0
        if trap is not None:
            trap._buffer.disarm()
            noted = trap._buffer.figures["writes"]
        os.write(write_end, struct.pack("dqd", end - start, noted, armed - begin))
        os._exit(0)
    os.close(write_end)
    made: tuple[float, int, float] = struct.unpack("dqd", os.read(read_end, 24))
    os.close(read_end)
    assert os.waitpid(pid, 0)[1] == 0
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=128, help="size of the frozen block")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    describe()
    block = bytes(options.mib << 20)
    ctypes.memset(id(block) + 64, 0x55, len(block) - 64)  # back it
    cowfreeze.freeze(block)
    pages = [id(block) + 512 + number * PAGE for number in range(len(block) // PAGE - 1)]
    shuffled = random.Random(1).sample(pages, min(len(pages), 4096))
    for order, addresses in (("in order", pages), ("scattered", shuffled)):
        plain = [in_child(addresses, None)[0] for _ in range(options.rounds)]
        base = statistics.median(plain) / len(addresses) * 1e6
        print(f"\n{order}, {len(addresses):,} pages; µs per first write: median (least, most)")
        print(f"  {'no trap':10} {base:6.2f}")
        for backend in ("perf", "mprotect"):
            try:
                rounds = [in_child(addresses, backend) for _ in range(options.rounds)]
            except (AssertionError, struct.error):
                print(f"  {backend:10} not possible here")
                continue
            each = sorted(seconds / len(addresses) * 1e6 for seconds, _, _ in rounds)
            noted = min(noted for _, noted, _ in rounds)
            armed = statistics.median(seconds for _, _, seconds in rounds) * 1e3
            middle = statistics.median(each)
            print(
                f"  {backend:10} {middle:6.2f} ({each[0]:.2f}, {each[-1]:.2f})  of the trap "
                f"{middle - base:5.2f}   {noted:,} noted, {armed:.2f} ms to begin"
            )


if __name__ == "__main__":
    main()
