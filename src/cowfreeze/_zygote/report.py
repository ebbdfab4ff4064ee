"""ZygoteReport: what one generation loaded and froze."""

from __future__ import annotations

import dataclasses
from typing import Any

from cowfreeze._sizes import format_size


@dataclasses.dataclass(frozen=True)
class ZygoteReport:
    """What one generation of a zygote loaded and froze. Prints as text.

    Attributes:
        name: the zygote's name.
        generation: 1 for the first process, one more for each that replaced it.
        pid: its process.
        how: "heap" (the whole heap was frozen) or "pack" (the data were packed, and the rest frozen).
        data_type: type of what `load` returned, as "module.name" (builtins without module).
        data_length: its ``len()``, None if it has none.
        load_seconds: from the call of `load` to its end.
        freeze_seconds: warm-up and freeze.
        objects: objects that were frozen.
        bytes: their bytes.
        pages: pages that hold them.
        packed_bytes: bytes of packed memory; 0 if nothing was packed.
        notes: what a person should know, one or two sentences each.
    """

    name: str
    generation: int
    pid: int
    how: str
    data_type: str
    data_length: int | None
    load_seconds: float
    freeze_seconds: float
    objects: int
    bytes: int
    pages: int
    packed_bytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        return {**dataclasses.asdict(self), "notes": list(self.notes)}

    def __str__(self) -> str:
        length = "" if self.data_length is None else f" of length {self.data_length:,}"
        packed = f", {format_size(self.packed_bytes)} packed" if self.packed_bytes else ""
        line = (
            f"{self.name}, generation {self.generation} (process {self.pid}): loaded {self.data_type}{length} in "
            f"{self.load_seconds:.2f} s, froze {self.objects:,} objects, {format_size(self.bytes)} on "
            f"{self.pages:,} pages{packed}, in {self.freeze_seconds:.2f} s"
        )
        return "\n".join([line, *(f"  note: {note}" for note in self.notes)])
