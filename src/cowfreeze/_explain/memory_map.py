"""What lay where at the fork: mappings, arenas of pymalloc, pages that were there.

    /proc/WITNESS/smaps    5640e000-5650e000 rw-p [heap]     a mapping, and how much of it is anonymous
    /proc/WITNESS/pagemap  ##..####.#                        which pages: runs of (start, pages)
    /proc/WITNESS/mem      pool header | pool header | ...   which arena a pool belongs to

The witness writes nothing, so it can be read at any time while it lives. An explanation knows
the pages that a worker copied; this is the whole that they are a part of.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
import re
import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from cowfreeze import _core

ARENA, HEAP, ANONYMOUS, LIBRARY, STACK = "arena", "heap", "anonymous", "library", "stack"

_ENTRY = 8  # bytes of a pagemap entry
_CHUNK = 1 << 17  # pages per read: 1 MiB of entries
_TOP = 7 if sys.byteorder == "little" else 0
# Of the top byte of an entry: 0x80 present, 0x40 swapped, 0x20 a page of a file. A page that was
# there at the fork and belongs to no file is what a worker can copy.
_INHERITED = bytes(1 if (byte & 0xA0) == 0x80 or byte & 0x40 else 0 for byte in range(256))
_POOL = 16 << 10
_RUN = re.compile(rb"\x01+")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ (\d+)\s*(.*)")


@dataclasses.dataclass(frozen=True)
class Area:
    """A range of addresses of one kind.

    Attributes:
        start, end: addresses.
        kind: "arena" (one arena of pymalloc, or its part in this mapping), "heap" (the one that
            brk grows: malloc), "anonymous", "library" (data of the program or a library), "stack".
        name: path of the file, what the kernel calls it, or ``arena 17``; may be empty.
    """

    start: int
    end: int
    kind: str
    name: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a worker inherited.

    Attributes:
        page_size: bytes.
        areas: ascending, without overlap; those where nothing can be copied are left out.
        runs: array('Q') of (address of the first page, number of pages) pairs, ascending: private
            memory that had been written before the fork. Memory that was only ever read (the
            kernel's zero page) cannot be told from it and is in here too.
        frozen: the same for pages that hold frozen objects.
    """

    page_size: int
    areas: tuple[Area, ...]
    runs: array[int]
    frozen: array[int]

    @property
    def pages(self) -> int:
        """How many pages were inherited."""
        return sum(self.runs[1::2])


class _Mapping(NamedTuple):
    start: int
    end: int
    name: str
    inode: int
    writable: bool
    anonymous: int  # bytes, in memory or swapped out


def read_layout(pid: int, memory: int) -> Layout:
    """The layout of process PID, which must not run. MEMORY: a descriptor of its /proc/PID/mem.

    Raises OSError: its files may not be read, or it is gone.
    """
    page_size = os.sysconf("SC_PAGE_SIZE")
    runs, frozen = array("Q"), array("Q")
    areas: list[Area] = []
    mappings = list(_mappings(pid))
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, mapping in enumerate(mappings):
            if mapping.anonymous == 0:
                if mapping.inode and mapping.writable:
                    areas.append(Area(mapping.start, mapping.end, LIBRARY, mapping.name))
                continue
            own = array("Q")
            for start, pages in _inherited(pagemap, mapping, page_size):
                own.extend((start, pages))
            runs.extend(own)
            areas += _areas(mapping, mappings[number - 1] if number else None, own, memory, page_size)
    finally:
        os.close(pagemap)
    for start, pages in zip(runs[::2], runs[1::2]):
        _add_frozen(frozen, start, pages, page_size)
    return Layout(page_size, tuple(areas), runs, frozen)


def _mappings(pid: int) -> Iterator[_Mapping]:
    """The private mappings. A shared one's pages are never copied."""
    found: re.Match[str] | None = None
    anonymous = 0
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            match = _LINE.match(line)
            if match:
                if found:
                    yield _mapping(found, anonymous)
                found, anonymous = (match if match[3][3] == "p" else None), 0
            elif line.startswith(("Anonymous:", "Swap:")):
                anonymous += int(line.split()[1]) * 1024
    if found:
        yield _mapping(found, anonymous)


def _mapping(match: re.Match[str], anonymous: int) -> _Mapping:
    name = match[5].rstrip("\n")
    return _Mapping(int(match[1], 16), int(match[2], 16), name, int(match[4]), match[3][1] == "w", anonymous)


def _inherited(pagemap: int, mapping: _Mapping, page_size: int) -> Iterator[tuple[int, int]]:
    """Runs of inherited pages; stops when all of the mapping's memory was seen, since a
    mapping may reserve terabytes."""
    first, last = mapping.start // page_size, mapping.end // page_size
    left = mapping.anonymous // page_size
    begin = count = 0
    for chunk in range(first, last, _CHUNK):
        wanted = min(_CHUNK, last - chunk)
        entries = os.pread(pagemap, wanted * _ENTRY, chunk * _ENTRY)
        if len(entries) < wanted * _ENTRY:
            raise ProcessLookupError(3, "the witness has ended")
        for run in _RUN.finditer(entries[_TOP::_ENTRY].translate(_INHERITED)):
            start, pages = chunk + run.start(), run.end() - run.start()
            left -= pages
            if count and begin + count == start:
                count += pages
                continue
            if count:
                yield begin * page_size, count
            begin, count = start, pages
        if left <= 0:
            break
    if count:
        yield begin * page_size, count


def _areas(
    mapping: _Mapping, before: _Mapping | None, runs: array[int], memory: int, page_size: int
) -> list[Area]:
    start, end, name = mapping.start, mapping.end, mapping.name
    if not runs:
        return []
    if name.startswith("[heap]"):
        return [Area(start, end, HEAP, "malloc heap")]
    if name.startswith("[stack"):
        return [Area(start, end, STACK, name)]
    if mapping.inode:
        return [Area(start, end, LIBRARY, name)]
    arenas = _arenas(runs, memory, page_size)
    if not arenas:
        if before is not None and before.end == start and before.inode and before.writable:
            return [Area(start, end, LIBRARY, before.name + " (zeroed data)")]
        return [Area(start, end, ANONYMOUS, name)]
    made: list[Area] = []
    at = start
    for low, high, number in arenas:
        low, high = max(low, at), min(high, end)
        if low >= high:
            continue
        if low - at < _POOL or (made and low - at == _POOL):
            # Arenas begin at any page, pools at multiples of 16 KiB: the rest of both ends.
            if made and made[-1].kind == ARENA:
                made[-1] = dataclasses.replace(made[-1], end=low)
            else:
                low = at
        elif low > at:
            made.append(Area(at, low, ANONYMOUS, name))
        made.append(Area(low, high, ARENA, f"arena {number}"))
        at = high
    if end - at < _POOL:
        made[-1] = dataclasses.replace(made[-1], end=end)
    elif at < end:
        made.append(Area(at, end, ANONYMOUS, name))
    return [area for area in made if _holds_any(runs, area, page_size)]


def _arenas(runs: array[int], memory: int, page_size: int) -> list[tuple[int, int, int]]:
    """Start, end and number of each arena, from the headers of its pools. Free pools at its end
    have no header yet, so the first pool of the next arena ends it."""
    found: list[list[int]] = []
    for start, pages in zip(runs[::2], runs[1::2]):
        for low, high, number in _core.pool_arenas(memory, start, start + pages * page_size):
            if found and found[-1][2] == number:
                found[-1][1] = high
            else:
                found.append([low, high, number])
    return [(low, high, number) for low, high, number in found]


def _holds_any(runs: array[int], area: Area, page_size: int) -> bool:
    last = bisect.bisect_left(runs[::2], area.end) - 1  # the last run that begins before its end
    return last >= 0 and runs[2 * last] + runs[2 * last + 1] * page_size > area.start


def _add_frozen(frozen: array[int], start: int, pages: int, page_size: int) -> None:
    is_frozen_page = _core.is_frozen_page
    begin = count = 0
    for address in range(start, start + pages * page_size, page_size):
        if is_frozen_page(address):
            if not count:
                begin = address
            count += 1
        elif count:
            frozen.extend((begin, count))
            count = 0
    if count:
        frozen.extend((begin, count))
