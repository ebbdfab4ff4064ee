"""private_bytes: planted memory is counted, shared memory is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import cowfreeze

MIB = 1 << 20
PROGRAM = """
import json, os, sys
import cowfreeze
from cowfreeze import private_bytes

data = [bytes(1000) + str(i).encode() for i in range(100_000)]  # 100 MiB
cowfreeze.freeze()
read_end, write_end = os.pipe()
pid = os.fork()
if pid == 0:
    rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    modules = set(sys.modules)
    first = private_bytes()
    read = sum(map(len, data))
    second = private_bytes()
    own = bytearray(os.urandom(1 << 20) * 50)
    third = private_bytes()
    del own
    last = private_bytes()
    again = private_bytes(os.getpid())
    figures = {"rss": rss, "first": first, "read": second - first, "own": third - second, "freed": third - last,
               "again": again - last, "parent": private_bytes(os.getppid()), "imported": sorted(set(sys.modules) - modules)}
    os.write(write_end, json.dumps(figures).encode())
    os._exit(0)
os.close(write_end)
print(open(read_end).read())
os.waitpid(pid, 0)
"""


def test_what_is_shared_is_not_counted_and_what_is_planted_is() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(done.stdout)
    assert figures["rss"] > 100 * MIB and figures["first"] < 8 * MIB, figures
    if sys.version_info >= (3, 12):
        assert figures["read"] <= MIB, figures
    for name in ("own", "freed"):
        assert abs(figures[name] - 50 * MIB) <= 2 * MIB, figures
    assert abs(figures["again"]) <= MIB // 4 and figures["imported"] == []
    assert 0 < figures["parent"] < figures["rss"], figures


def test_what_cannot_be_read_is_no_figure() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        for gone in (pid, 4_194_999):  # a process that has ended, and a number that no process has
            with pytest.raises(cowfreeze.CowfreezeError, match=f"process {gone} owns is unknown: /proc/{gone}/"):
                cowfreeze.private_bytes(gone)
    finally:
        os.waitpid(pid, 0)
