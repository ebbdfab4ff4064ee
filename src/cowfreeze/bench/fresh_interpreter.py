"""A room: a fresh interpreter that does one thing which cannot be undone, and tells about it.

    command                                room
    -------                                ----
    pipe, fork, exec --------------------> SIGINT ignored, current folder off the path
    reads lines <--- {"stage": "..."} ---- works, forks workers
                <--- {"row": {...}} ------ or {"error": "..."}
    waits for the pipe's end and the exit status
    holds the leash ---------------------> the kernel kills the room when its other end closes

Freezing cannot be undone, so everything that freezes runs in such a process. All of them have
the same hash seed: dicts get the same layout in every room. A pipe of its own carries the
lines, because stdout and stderr belong to the data's and the workers' messages. A command that is
killed can end nothing: the leash, a pipe that carries nothing, ends the room and all that it
started, whatever happens to the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# SIGINT is ignored: Ctrl-C reaches the whole process group, and one line from the command is
# better than its line and a traceback of each process; the command ends the room. The current
# folder leaves the search path: a json.py in it must not replace the standard library's.
# The leash: O_ASYNC lets the kernel send F_SETSIG's signal to the group of F_SETOWN when the only
# event that can come comes, the end of the other side. It may have come before.
_CHILD = """\
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import fcntl, importlib, os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
leash = int(sys.argv[3])
fcntl.fcntl(leash, fcntl.F_SETSIG, signal.SIGKILL)
fcntl.fcntl(leash, fcntl.F_SETOWN, -os.getpid())
fcntl.fcntl(leash, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
try:
    sys.exit(f"nobody waits for this process: {os.read(leash, 1)!r}")
except BlockingIOError:
    pass
module, _, name = sys.argv[1].partition(":")
sys.exit(getattr(importlib.import_module(module), name)(sys.argv[2]))
"""

_GRACE = 5.0  # seconds from SIGTERM to SIGKILL


def run_room(
    program: str,
    order: dict[str, Any],
    say: Callable[[dict[str, Any]], None],
    environment: dict[str, str] | None = None,
) -> tuple[dict[str, Any], int]:
    """Run PROGRAM ("module:function") in a room; nothing of it is left when this returns or raises.

    Args:
        order: what the function gets, as JSON in its one argument; "pipe", the descriptor to
            write to, is added.
        say: called with every message that has a "stage".
        environment: variables beside the inherited ones.

    Returns:
        The last message ({} when there is none) and the exit status (negative: the signal).

    Raises:
        OSError: the process cannot be started.
        BaseException: whatever interrupts the wait; the room and all that it started are gone.
    """
    reader, writer = os.pipe()
    leash, held = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, program, json.dumps({"pipe": writer, **order}), str(leash)],
            pass_fds=[writer, leash],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if sys.__stderr__ is None else 2,  # our stdout holds only the result
            env={**os.environ, "PYTHONHASHSEED": "0", **(environment or {})},
            start_new_session=True,  # so that everything in the room can be ended by one signal
        )
    except BaseException:
        os.close(reader)
        os.close(held)
        raise
    finally:
        os.close(writer)
        os.close(leash)
    last: dict[str, Any] = {}
    try:
        with open(reader, encoding="utf-8") as lines:
            for line in lines:
                last = json.loads(line)
                if "stage" in last:
                    say(last)
        return last, child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        # What the room forked and did not reap (it was killed, or a target left children).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        os.close(held)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()  # its workers die with it, and a server gets the time to stop
    try:
        child.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def ending(status: int, advice: str) -> str:
    """How a room ended that gave no result; ADVICE is for too little memory."""
    if status == -signal.SIGKILL:
        return f"it was killed by SIGKILL, most often because memory ran out; {advice}"
    if status < 0:
        return f"it was killed by signal {-status}"
    return f"exit status {status}"
