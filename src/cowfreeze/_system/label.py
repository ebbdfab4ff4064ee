"""Is another process frozen? What `freeze` shows in /proc/PID/maps (csrc/proc/label.c), read from outside.

    /memfd:cowfreeze frozen=151243 bytes=13841203 freezes=1 pid=6557 at=1764411234 (deleted)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cowfreeze._system.proc import PROC, Mapping, read_maps

_BEGIN = "/memfd:cowfreeze frozen="


@dataclass(frozen=True)
class Label:
    """What a process, or the one that it was forked from, has frozen.

    Attributes:
        objects, bytes: of all its freezes together.
        freezes: how many that were.
        pid: the process that froze, in its own PID namespace.
        at: when it did last, in seconds since the epoch.
    """

    objects: int
    bytes: int
    freezes: int
    pid: int
    at: int


def find_label(maps: Iterable[Mapping]) -> Label | None:
    """The label among MAPS; None: nothing is frozen there, or by an older cowfreeze."""
    for mapping in maps:
        if mapping.path.startswith(_BEGIN):
            fields = dict(word.partition("=")[::2] for word in mapping.path.split() if "=" in word)
            try:
                return Label(*(int(fields[name]) for name in ("frozen", "bytes", "freezes", "pid", "at")))
            except (KeyError, ValueError):
                return None  # a program of that name, not ours
    return None


def read_label(pid: int, proc: Path = PROC) -> Label | None:
    """The label of a process.

    Raises:
        Unreadable: it may not be looked at, or is gone.
    """
    return find_label(read_maps(pid, proc))
