"""What a freeze did: a FreezeReport, made before the first object is frozen."""

from __future__ import annotations

import sys

from cowfreeze import _core
from cowfreeze._freeze.late import late_notes
from cowfreeze._freeze.move import move_notes
from cowfreeze._freeze.warm_up import heap_notes
from cowfreeze._sizes import format_size
from cowfreeze._tables import Table, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MANY_COLD = 100  # objects of a whole heap without a hash that are worth a note: typing leaves a few, which nobody can mend


class FreezeReport:
    """What one call of ``freeze`` did. Prints as a table; immutable.

    The numbers are kept in C and turned into Python objects when they are asked for, so that
    making the report cannot fail once objects have been frozen.
    """

    __slots__ = ("_counts", "_dry_run", "_whole_heap", "_sealed", "_first_notes", "_moved", "_huge")

    def __init__(
        self,
        counts: _core.FreezeCounts,
        *,
        whole_heap: bool,
        dry_run: bool,
        sealed: bool,
        first_notes: tuple[str, ...] = (),
        moved: _core.MoveCounts | None = None,
        huge: bool = False,
    ) -> None:
        self._counts = counts
        self._whole_heap = whole_heap
        self._dry_run = dry_run
        self._sealed = sealed
        self._first_notes = first_notes
        self._moved = moved
        self._huge = huge

    @property
    def objects(self) -> int:
        """Objects that this call froze (0 when everything was frozen before)."""
        return self._counts.objects

    @property
    def bytes(self) -> int:
        """Bytes of these objects: headers, bodies, tables of lists, dicts and sets."""
        return self._counts.bytes

    @property
    def pages(self) -> int:
        """Pages that hold what this call froze: objects, and tables of lists, dicts and sets."""
        return self._counts.pages

    @property
    def seconds(self) -> float:
        """Seconds from the start of the collection to the end of sealing and moving."""
        return sum(self.phases.values())

    @property
    def phases(self) -> dict[str, float]:
        """Seconds by phase: collect, walk (find, warm, mark, untrack), seal, and move if asked for."""
        phases = self._counts.seconds
        return phases if self._moved is None else {**phases, "move": self._moved.seconds}

    @property
    def by_type(self) -> dict[str, tuple[int, int]]:
        """(objects, bytes) by type name, largest first."""
        result: dict[str, tuple[int, int]] = {}
        for kind, objects, size in self._counts.by_type:
            name = _type_name(kind)
            before = result.get(name, (0, 0))
            result[name] = (before[0] + objects, before[1] + size)
        return result

    @property
    def skipped(self) -> dict[str, int]:
        """Objects that were met and left as they are, by reason."""
        return self._counts.skipped

    @property
    def unwarmed(self) -> int:
        """Frozen objects whose hash a worker may still write.

        Their hash needs user code (a ``__hash__`` written in Python inside a tuple), or they are
        longer than 1 MiB.
        """
        return self._counts.unwarmed

    @property
    def sealed_bytes(self) -> int:
        """Bytes of free pymalloc blocks that were taken out of use for good.

        They lie beside frozen objects, or in pools that were free as a whole. `returned_bytes`
        of them cost address space only.
        """
        return self._counts.sealed_bytes

    @property
    def returned_bytes(self) -> int:
        """Bytes of `sealed_bytes` whose memory went back to the kernel."""
        return self._counts.returned_bytes

    @property
    def sealed_heap_bytes(self) -> int:
        """Bytes of free chunks of the C library's heap that were taken out of use for good.

        Their whole pages went back to the kernel before: it is address space, for the most part.
        """
        return self._counts.sealed_chunk_bytes

    @property
    def instance_dicts(self) -> int:
        """Instances that got their ``__dict__`` from this freeze (``instance_dicts=True``)."""
        return self._counts.made_dicts

    @property
    def utf8_forms(self) -> int:
        """Strings that got their UTF-8 form from this freeze (``utf8=True``)."""
        return self._counts.made_utf8

    @property
    def relocated_codes(self) -> int:
        """Code objects that were moved together (``relocate_code=True``)."""
        return self._counts.relocated_codes

    @property
    def relocated_bytes(self) -> int:
        """Bytes of the moved code objects: memory that this freeze has taken for them."""
        return self._counts.relocated_bytes

    @property
    def peak_extra_bytes(self) -> int:
        """Book-keeping memory at its largest, in bytes; all of it has been given back."""
        return self._counts.peak_extra_bytes

    @property
    def remapped_bytes(self) -> int:
        """Bytes of memory that ``remap=True`` has moved to memfds (0: none; a note says why)."""
        return 0 if self._moved is None or self._huge else self._moved.bytes

    @property
    def remapped_mappings(self) -> int:
        """In how many mappings they lie; the process may have ``vm.max_map_count``."""
        return 0 if self._moved is None or self._huge else self._moved.pieces

    @property
    def hugepage_bytes(self) -> int:
        """Bytes of memory that ``hugepages=True`` has put on huge pages."""
        return self._moved.bytes if self._moved is not None and self._huge else 0

    @property
    def dry_run(self) -> bool:
        """True if nothing was written."""
        return self._dry_run

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about this freeze, one sentence or two each."""
        return (
            *self._first_notes,
            *_notes(self._counts, MANY_COLD if self._whole_heap else 1),
            *late_notes(self._counts),
            *heap_notes(self._counts, sealed=self._sealed),
            *(() if self._dry_run else move_notes(self._moved, hugepages=self._huge)),
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, under the names of the properties."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "pages": self.pages,
            "seconds": self.seconds,
            "phases": self.phases,
            "by_type": {
                name: {"objects": objects, "bytes": size}
                for name, (objects, size) in self.by_type.items()
            },
            "skipped": self.skipped,
            "unwarmed": self.unwarmed,
            "sealed_bytes": self.sealed_bytes,
            "returned_bytes": self.returned_bytes,
            "sealed_heap_bytes": self.sealed_heap_bytes,
            "instance_dicts": self.instance_dicts,
            "utf8_forms": self.utf8_forms,
            "relocated_codes": self.relocated_codes,
            "relocated_bytes": self.relocated_bytes,
            "peak_extra_bytes": self.peak_extra_bytes,
            "remapped_bytes": self.remapped_bytes,
            "remapped_mappings": self.remapped_mappings,
            "hugepage_bytes": self.hugepage_bytes,
            "whole_heap": self._whole_heap,
            "dry_run": self.dry_run,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        verb = "would freeze" if self._dry_run else "froze"
        return (
            f"<FreezeReport: {verb} {self.objects:,} objects, {format_size(self.bytes)} "
            f"on {self.pages:,} pages, in {self.seconds:.3f} s>"
        )

    def __str__(self) -> str:
        return render(self._table())

    def __rich__(self) -> Any:
        return self._table().__rich__()

    def _table(self) -> Table:
        verb = "would freeze" if self._dry_run else "froze"
        kinds = list(self.by_type.items())
        rows = [(name, f"{objects:,}", format_size(size)) for name, (objects, size) in kinds[:10]]
        if len(kinds) > 10:
            rest = [kind for _, kind in kinds[10:]]
            rows.append(
                (
                    f"{len(rest)} more types",
                    f"{sum(kind[0] for kind in rest):,}",
                    format_size(sum(kind[1] for kind in rest)),
                )
            )
        rows.append((f"total, on {self.pages:,} pages", f"{self.objects:,}", format_size(self.bytes)))
        rows += [(f"left as it is: {reason}", f"{count:,}", "") for reason, count in self.skipped.items()]
        title = f"cowfreeze {verb} {self.objects:,} objects in {self.seconds:.3f} s"
        return Table(title, ("type", "objects", "size"), rows, self.notes)


def _notes(counts: _core.FreezeCounts, many_cold: int) -> tuple[str, ...]:
    notes = []
    if not _core.HAS_IMMORTAL:
        version = ".".join(map(str, sys.version_info[:2]))
        notes.append(
            f"CPython {version} counts every reference inside the object and has no immortal "
            f"objects (PEP 683 came with 3.12): workers still copy the page of every object that "
            f"they touch. Frozen objects are not freed and not written by the collector; hashes "
            f"are filled. To share what workers touch, give them a packed copy (cowfreeze.pack), which "
            f"works on this version, or use CPython 3.12 or later."
        )
    if counts.unwarmed >= many_cold:
        notes.append(
            f"{counts.unwarmed:,} objects may still get their hash written by a worker: it needs "
            f"user code, or the value is longer than 1 MiB. Hash them once before freezing if "
            f"workers will."
        )
    if counts.unbelieved:
        notes.append(
            f"{counts.unbelieved:,} objects of extension types say that they are longer than the memory "
            f"that they lie in: they are frozen, but `bytes` and `pages` count their fixed part only."
        )
    if counts.records:
        notes.append(
            f"{counts.records:,} numpy structured arrays have object fields: the arrays are frozen, "
            f"the objects in these fields are not. Freeze them as roots of their own if workers "
            f"read them."
        )
    if counts.unreadable_codes:
        notes.append(
            f"{counts.unreadable_codes:,} code objects are being traced or monitored and still "
            f"count their constants. Freeze without tracing, coverage or a debugger."
        )
    if not counts.frames_known:
        notes.append(
            "the frame layout of this CPython is not known: variables of functions that are "
            "running now still count the frozen objects that they refer to."
        )
    if not counts.shared_keys_known:
        notes.append("the key tables of this CPython are not known: attribute names stay mortal.")
    return tuple(notes)


def _type_name(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
