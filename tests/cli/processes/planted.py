"""A parent and its workers, with pages whose fate is known.

    region      shared    one        same       parents
    A                     writes     writes
    B                                writes                 B forks a child of its own
    C                                writes
    parent                                      writes

Prints one JSON object with the pids and the size of each region, then waits for its stdin to close.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import signal
import sys
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
SIZES = {"shared": 24 * MIB, "one": 16 * MIB, "same": 8 * MIB, "parents": 32 * MIB}


def write(region: mmap.mmap, mark: bytes) -> None:
    for offset in range(0, len(region), PAGE):
        region[offset : offset + 1] = mark


def child(work: list[mmap.mmap], told: int, grandchild: bool = False) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for region in work:
            write(region, b"c")
        if grandchild and os.fork() == 0:
            signal.pause()
        os.write(told, b".")
        signal.pause()
    finally:
        os._exit(1)


regions = {name: mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for name, size in SIZES.items()}
for region in regions.values():
    write(region, b"p")
gc.disable()  # a collection would copy pages that no plan foresees
listen, told = os.pipe()
os.setpgid(0, 0)
pids = {
    "A": child([regions["one"], regions["same"]], told),
    "B": child([regions["same"]], told, grandchild=True),
    "C": child([regions["same"]], told),
}
for _ in pids:
    os.read(listen, 1)
write(regions["parents"], b"P")
print(json.dumps({"parent": os.getpid(), "pids": pids, "sizes": SIZES}), flush=True)
try:
    sys.stdin.read()
finally:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    time.sleep(0)
