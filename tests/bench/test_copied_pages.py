"""bench/copied_pages.py against pages that were planted: its figures stand in the documentation."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from cowfreeze import _core

BENCH = Path(__file__).resolve().parents[2] / "bench"
PAGE = os.sysconf("SC_PAGE_SIZE")

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="the tests stand alone, without bench/")


def test_planted_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from copied_pages import copied_pages

    # Far more than what the fork itself copies of a large test process.
    planted, fresh, total = 6000, 6000, 14000
    inherited = mmap.mmap(-1, total * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    untouched = mmap.mmap(-1, fresh * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(total):
        inherited[page * PAGE] = 1
    with _core.Witness() as witness:
        reading, writing = os.pipe()
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(writing)
                for page in range(planted):
                    inherited[page * PAGE] = 2
                for page in range(fresh):
                    untouched[page * PAGE] = 2
                for page in range(planted, total):
                    assert inherited[page * PAGE] == 1  # reading copies nothing
                os.write(go, b".")
                os.read(reading, 1)
            finally:
                os._exit(0)
        assert os.read(ready, 1) == b"."
        for page in range(planted, total):
            inherited[page * PAGE] = 3  # written by the parent: not a copy of the worker's
        found = copied_pages(witness.pid, pid)
        os.write(writing, b".")
        os.waitpid(pid, 0)
    for end in (reading, writing, ready, go):
        os.close(end)
    # On top: what every forked child copies before its first line. The parent's 8,000 pages would
    # be seen in these figures.
    assert planted * PAGE <= found.arenas <= (planted + 2000) * PAGE
    assert fresh * PAGE <= found.new <= (fresh + 2000) * PAGE
    assert found.copied == found.arenas + found.heap + found.files + found.stack
    assert found.copied < (planted + 4000) * PAGE
