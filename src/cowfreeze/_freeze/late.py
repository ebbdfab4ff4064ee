"""What a worker that only reads may still write into frozen objects: notes with the price and the remedy."""

from __future__ import annotations

import sys

from cowfreeze import _core
from cowfreeze._sizes import format_size

_WORTH_A_NOTE = 1 << 20  # bytes of objects; a worker copies half of that before its first line runs


def late_notes(counts: _core.FreezeCounts) -> tuple[str, ...]:
    """A note for each kind of late write that may cost a worker more than 1 MiB."""
    if not _core.HAS_IMMORTAL:
        return ()
    notes = []
    if counts.bare_bytes >= _WORTH_A_NOTE:
        notes.append(
            f"{counts.bare:,} instances have no __dict__ so far: pickle, copy.copy, vars() and __dict__ "
            f"in a worker make one and copy the page of the instance (up to "
            f"{format_size(counts.bare_bytes)}). If workers do that, freeze with "
            f"instance_dicts=True ({format_size(64 * counts.bare)} in the parent)."
        )
    if counts.raw_str_bytes >= _WORTH_A_NOTE:
        notes.append(
            f"{counts.raw_str:,} strings that are not ASCII have no UTF-8 form so far: an extension "
            f"that asks for it (PyUnicode_AsUTF8) writes it into the string (up to "
            f"{format_size(counts.raw_str_bytes)}). If workers call such extensions, freeze with utf8=True."
        )
    paths = getattr(sys.modules.get("pathlib"), "PurePath", None)
    if isinstance(paths, type):
        found = [row for row in counts.by_type if issubclass(row[0], paths)]
        objects, size = sum(row[1] for row in found), sum(row[2] for row in found)
        if size >= _WORTH_A_NOTE:
            notes.append(
                f"{objects:,} paths keep their text, hash and name once they are asked for: a worker "
                f"that asks first copies their pages (up to {format_size(size)}). Ask before: "
                f"freeze(warmup=...) with str(path), hash(path) and path.name for each."
            )
    return tuple(notes)
