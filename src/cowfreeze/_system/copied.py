"""What forked workers copied, seen from outside, without a witness and without their help.

    address      parent   worker A   worker B        what it says about A
    0x7f00..0    shared   shared     shared          nothing copied
    0x7f00..1    shared   alone      shared          A copied it: the others still have the original
    0x7f00..2    alone    alone      alone           A copied it, or its page is the original and
                                                     the others copied theirs
    0x7f00..3    -        alone      -               A's own new memory, nothing to do with the fork
    0x7f00..4    alone    shared     shared          the parent copied it; A did not

One letter of the top byte of a pagemap entry answers "alone or shared" (bit 56, any user, since
Linux 4.2). The other members of the family stand in for the witness that an audit forks: a page
which A has alone and which some other member still shares cannot be the original. A page that
each of them has alone is counted in `at_most` only. So the result is a range, and it is narrow
where sharing works and wide where everybody wrote everything.

The range has two errors that nobody outside can see: memory that parent and worker both got at
the same address after the fork counts as copied, and memory that the parent gave back since does
not count. A worker with forked children of its own shares what it copied with them, so its
pages do not look like copies: its figure is unknown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cowfreeze._system.proc import PROC, Mapping, Unreadable, read_maps, unreadable

_ENTRY = 8  # bytes of a pagemap entry
_CHUNK = 32768  # pages per read: 256 KiB of entries, which stays in the processor's cache
_TOP = 7 if sys.byteorder == "little" else 0
# Bits of the top byte: 56 is this process's alone, 61 is of a file, 62 is swapped, 63 is present.
_ALONE, _FILE, _SWAPPED, _PRESENT = 0, 5, 6, 7

# The pagemap of untouched address space costs as much as that of memory. Who reserves terabytes
# (address sanitizers, some virtual machines) is not read.
SPARSE_FACTOR = 16
SPARSE_FREE = 4 << 30


@dataclass(frozen=True)
class Copied:
    """Bytes that a worker copied since its fork. `reason` says why a bound is missing or loose.

    Attributes:
        at_least: pages that it has alone while another process of the family shares the original.
        at_most: pages that it has alone where its parent had memory too. None is unknown.
    """

    at_least: int | None
    at_most: int | None
    reason: str | None = None

    @property
    def exact(self) -> int | None:
        return self.at_most if self.at_least == self.at_most else None


class _Member:
    """One process of a family: its open pagemap and the entries of the current chunk as bit lanes."""

    def __init__(self, pid: int, proc: Path) -> None:
        self.pid = pid
        self.certain = self.candidate = self.swapped = 0
        self.error: Unreadable | None = None
        self._proc = proc
        try:
            self._file = os.open(proc / str(pid) / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(pid, error, proc) from error

    def close(self) -> None:
        os.close(self._file)

    def read(self, page: int, count: int) -> int:
        """The top bytes of COUNT entries from PAGE on, one byte per page, as one big integer."""
        try:
            data = os.pread(self._file, count * _ENTRY, page * _ENTRY)
        except OSError as error:
            raise unreadable(self.pid, error, self._proc) from error
        if not data:
            raise Unreadable(f"process {self.pid} is gone", gone=True)
        return int.from_bytes(data[_TOP::_ENTRY], "little")


def measure_family(
    parent: int, workers: Sequence[int], busy: Sequence[int] = (), proc: Path = PROC
) -> dict[int, Copied]:
    """What each of WORKERS, forked from PARENT, copied since.

    Args:
        parent: the process that forked them. It must still be there.
        workers: its forked children that run the same image (no exec since).
        busy: those of WORKERS that have forked children of their own.
        proc: where /proc is.

    Returns:
        One `Copied` per worker. A worker that may not be read has a reason and no bounds.

    Raises:
        Unreadable: the parent may not be read, so nothing is known about anyone.
    """
    page_size = os.sysconf("SC_PAGE_SIZE")
    spans = _spans(read_maps(parent, proc), page_size)
    _refuse_sparse(parent, sum(count for _, count in spans) * page_size, proc)
    results: dict[int, Copied] = {}
    members: list[_Member] = []
    try:
        members.append(_Member(parent, proc))
        for pid in workers:
            try:
                members.append(_Member(pid, proc))
            except Unreadable as error:
                results[pid] = Copied(None, None, str(error))
        for start, count in spans:
            for first in range(start, start + count, _CHUNK):
                _compare(members, first, min(_CHUNK, start + count - first), frozenset(busy))
        for member in members[1:]:
            results[member.pid] = _result(member, page_size, member.pid in busy)
    finally:
        for member in members:
            member.close()
    return results


def _spans(maps: Sequence[Mapping], page_size: int) -> list[tuple[int, int]]:
    """First page and number of pages of each private, writable mapping: only those are copied."""
    wanted = (entry for entry in maps if entry.permissions[1:2] == "w" and entry.permissions[3:4] == "p")
    return [(entry.start // page_size, entry.bytes // page_size) for entry in wanted]


def _refuse_sparse(pid: int, span: int, proc: Path) -> None:
    from cowfreeze._system.proc import read_stat

    if span > SPARSE_FREE + SPARSE_FACTOR * read_stat(pid, proc).rss:
        raise Unreadable(f"process {pid} reserves {span >> 30} GiB of address space, too much to look through")


def _compare(members: list[_Member], page: int, count: int, busy: frozenset[int]) -> None:
    """Add what the entries of one chunk say to each worker's sums."""
    ones = int.from_bytes(b"\1" * count, "little")

    def lane(entries: int, bit: int) -> int:
        return (entries >> bit) & ones

    read: list[tuple[_Member, int]] = []
    for member in members:
        if member.error is None:
            try:
                read.append((member, member.read(page, count)))
            except Unreadable as error:
                if member is members[0]:
                    raise
                member.error = error
    inherited = original = 0  # pages that were there at the fork; pages somebody still has as they were
    for member, entries in read:
        present, of_file = lane(entries, _PRESENT), lane(entries, _FILE)
        if member is members[0]:
            inherited |= present | lane(entries, _SWAPPED)
            original |= present & of_file
        if member.pid not in busy:  # what a worker shares with its own children proves nothing
            shared = present & ~lane(entries, _ALONE) & ~of_file
            inherited |= shared
            original |= shared
    for member, entries in read:
        if member is members[0]:
            continue
        alone = lane(entries, _PRESENT) & lane(entries, _ALONE) & ~lane(entries, _FILE) & inherited
        member.candidate += alone.bit_count()
        member.certain += (alone & original).bit_count()
        member.swapped += (lane(entries, _SWAPPED) & inherited).bit_count()


def _result(member: _Member, page_size: int, busy: bool) -> Copied:
    if member.error is not None:
        return Copied(None, None, str(member.error))
    at_least, at_most = member.certain * page_size, (member.candidate + member.swapped) * page_size
    if busy:
        return Copied(at_least, None, f"process {member.pid} forked too, and shares what it copied with its children")
    if at_least == at_most:
        return Copied(at_least, at_most)
    if member.swapped:
        return Copied(at_least, at_most, "swapped pages do not show whether they were copied")
    return Copied(at_least, at_most, "of some pages nobody shares the original any more, and who kept it is not visible")
