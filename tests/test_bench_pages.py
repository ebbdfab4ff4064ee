"""bench/copied_pages.py against pages that were planted: its figures stand in the documentation."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from cowfreeze import _core

BENCH = Path(__file__).resolve().parent.parent / "bench"
PAGE = os.sysconf("SC_PAGE_SIZE")

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="the tests stand alone, without bench/")


def test_planted_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from copied_pages import copied_pages

    planted, fresh = 300, 200
    inherited = mmap.mmap(-1, 600 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    untouched = mmap.mmap(-1, 600 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(600):
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
                for page in range(planted, 600):
                    assert inherited[page * PAGE] == 1  # reading copies nothing
                os.write(go, b".")
                os.read(reading, 1)
            finally:
                os._exit(0)
        assert os.read(ready, 1) == b"."
        for page in range(planted, planted + 100):
            inherited[page * PAGE] = 3  # written by the parent: not a copy of the worker's
        found = copied_pages(witness.pid, pid)
        os.write(writing, b".")
        os.waitpid(pid, 0)
    for end in (reading, writing, ready, go):
        os.close(end)
    # On top: what every forked child copies before its first line, 100 to 200 pages.
    assert planted * PAGE <= found.arenas <= (planted + 200) * PAGE
    assert fresh * PAGE <= found.new <= (fresh + 200) * PAGE
    assert found.copied == found.arenas + found.heap + found.files + found.stack
    assert found.copied < (planted + 500) * PAGE
