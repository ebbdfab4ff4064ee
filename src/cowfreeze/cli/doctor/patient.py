"""A process that the doctor looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cowfreeze._system.proc import (
    Mapping,
    Stat,
    Unreadable,
    read_command,
    read_maps,
    read_stat,
    read_status,
    status_bytes,
)
from cowfreeze.cli.doctor.machine import Places


@dataclass
class Patient:
    """A process with what several checks want to know of it, each read once."""

    pid: int
    children: Sequence[int]
    places: Places

    @cached_property
    def stat(self) -> Stat:
        return read_stat(self.pid, self.places.proc)

    @cached_property
    def status(self) -> dict[str, str]:
        return read_status(self.pid, self.places.proc)

    @cached_property
    def maps(self) -> list[Mapping]:
        return read_maps(self.pid, self.places.proc, flags=True)

    @cached_property
    def command(self) -> list[str]:
        return read_command(self.pid, self.places.proc)

    @cached_property
    def below(self) -> list[Stat]:
        """The descendants that are still there."""
        found: list[Stat] = []
        for pid in self.children:
            try:
                found.append(read_stat(pid, self.places.proc))
            except Unreadable:
                continue
        return found

    def size(self, key: str) -> int | None:
        """A line of the status file in bytes."""
        return status_bytes(self.status, key)
