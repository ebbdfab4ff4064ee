"""Which pages a worker has copied, measured from its parent against a witness.

A worker that measures itself copies pages by measuring. The parent can do it instead: the witness
(a child that never runs, forked before the worker) holds every page of the fork, so a page that
the witness has and that the worker has *for itself alone* is one that the worker copied:

    /proc/PID/pagemap, 8 bytes per page    bit 63 present, 61 of a file, 56 mapped once only

    witness   present                       worker   present, not of a file, mapped once -> copied
    witness   nothing                       worker   present, mapped once                -> new

The kernel fills bit 56 for everybody (Linux 4.2 and later); no page frame numbers, hence no
privileges, are needed. Copies of a library's data begin as pages of a file in the witness.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import asdict, dataclass

PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _SWAPPED, _FILE, _ALONE = 1 << 63, 1 << 62, 1 << 61, 1 << 56
_CHUNK = 8192
_TRIES = 10


@dataclass(frozen=True)
class Pages:
    """What one worker has, in bytes.

    Attributes:
        copied: pages of the fork that the worker has copied.
        arenas, heap, files, stack: the same by where they are: anonymous mappings, the C
            library's heap, writable data of programs and libraries, the main stack.
        new: pages that did not exist at the fork.
    """

    copied: int
    arenas: int
    heap: int
    files: int
    stack: int
    new: int

    def to_dict(self) -> dict[str, int]:
        """All attributes as plain values for JSON."""
        return asdict(self)


def _kind(path: str) -> str:
    if path == "[heap]":
        return "heap"
    if path == "[stack]":
        return "stack"
    return "files" if path.startswith("/") else "arenas"


def _entries(file: int, page: int, count: int) -> tuple[int, ...]:
    data = os.pread(file, count * 8, page * 8)
    return struct.unpack(f"<{len(data) // 8}Q", data)


def _differing(mine: int, theirs: int, page: int, count: int) -> list[tuple[int, int]]:
    """Both entries of the pages where they differ."""
    for _ in range(_TRIES):
        both = zip(_entries(mine, page, count), _entries(theirs, page, count))
        # Equal ones say nothing: also guard pages (stacks of threads), which look swapped.
        differing = [(own, witnessed) for own, witnessed in both if own != witnessed]
        if not any((own | witnessed) & _SWAPPED for own, witnessed in differing):
            return differing
        time.sleep(0.05)  # a page that the kernel is moving looks swapped, for a moment
    raise RuntimeError("pages are swapped out: whether they were copied cannot be told")


def copied_pages(witness: int, worker: int) -> Pages:
    """Measure now; the worker should be waiting.

    Args:
        witness: process id of the child that never runs.
        worker: process id of the worker, forked after it from the same process.

    Raises:
        OSError: a file of /proc cannot be read.
        RuntimeError: pages are swapped out, so nothing is known about them.
    """
    found = dict.fromkeys(("arenas", "heap", "files", "stack"), 0)
    new = 0
    with open(f"/proc/{worker}/maps") as lines:
        mappings = [line.split(None, 5) for line in lines]
    mine = os.open(f"/proc/{worker}/pagemap", os.O_RDONLY)
    theirs = os.open(f"/proc/{witness}/pagemap", os.O_RDONLY)
    try:
        for fields in mappings:
            if fields[1][3] != "p" or fields[1][1] != "w":
                continue
            kind = _kind(fields[5].strip() if len(fields) > 5 else "")
            start, end = (int(part, 16) // PAGE for part in fields[0].split("-"))
            for page in range(start, end, _CHUNK):
                for own, witnessed in _differing(mine, theirs, page, min(_CHUNK, end - page)):
                    if own & _PRESENT and own & _ALONE and not own & _FILE:
                        if witnessed & _PRESENT:
                            found[kind] += PAGE
                        elif kind == "files":
                            found[kind] += PAGE  # a page of the file that nobody had read so far
                        else:
                            new += PAGE
    finally:
        os.close(mine)
        os.close(theirs)
    return Pages(copied=sum(found.values()), new=new, **found)
