"""A Redis server for tests: Debian's redis-server if it is there, else fakeredis's, in Python."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator

import pytest
from helpers.servers import free_port, running, wait_for

_FAKE = "import sys, fakeredis; fakeredis.TcpFakeServer(('127.0.0.1', int(sys.argv[1])), server_type='redis').serve_forever()"


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Its URL, database 0. Listens on loopback, keeps nothing, ends with the block."""
    port = free_port()
    server = shutil.which("redis-server")
    if server is not None:
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    elif importlib.util.find_spec("fakeredis") is not None:
        command = [sys.executable, "-c", _FAKE, str(port)]
    else:
        pytest.skip("neither redis-server (apt install redis-server) nor fakeredis (pip) is here")

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    with running(*command):
        wait_for("redis", answers)
        yield f"redis://127.0.0.1:{port}/0"
