"""Tornado's fork_processes: what its children copy, with and without cowfreeze. Needs tornado."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest
from helpers.servers import FILES, MIB, Host, free_port, measure, running, worst

from cowfreeze import _core

pytest.importorskip("tornado")
pytestmark = pytest.mark.slow

MOST = 4 * MIB


@contextlib.contextmanager
def tornado(way: str, *prefix: str) -> Iterator[Host]:
    port = free_port()
    with running(*prefix, sys.executable, str(FILES / "tornado_shop.py"), str(port), way) as host:
        host.port = port
        yield host


@pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")
def test_children_share_what_was_frozen() -> None:
    with tornado("plain") as host:
        plain = measure(host)
    for way, prefix in (("frozen", ()), ("plain", (sys.executable, "-m", "cowfreeze", "run", "--"))):
        with tornado(way, *prefix) as host:
            ours = measure(host)
        assert worst(ours) <= MOST, ours
        assert worst(ours) * 3 <= worst(plain), (ours, plain)


def test_wrong_side_names_the_right_place() -> None:
    with tornado("wrong") as host:
        host.wait_for_workers(2)
        host.load(1, times=1)
        assert "This is a child of Tornado" in host.text(), host.text()
        assert "was called in a child of Tornado" in host.text(), host.text()
