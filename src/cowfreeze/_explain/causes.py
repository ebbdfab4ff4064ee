"""What was written, on which pages, and where: plain data, below the trap and the explanation.

    page     is counted once for every cause that occurs on it; `alone` says on how many pages
             a cause is the only one, so what fixing it alone gives back
    cause    (type, field): "list, reference count" or "malloc, chunk header"
    example  one owner: what it is, and how it is reached from a name
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

SAME_BYTES = "same bytes again"
UNKNOWN = "unknown"


class Frame(NamedTuple):
    """A Python function that ran.

    Attributes:
        file: as the code object names it; the end of a very long name.
        line: None where the interpreter does not tell.
        function: qualified name (3.10: the bare name).
    """

    file: str
    line: int | None
    function: str

    def __str__(self) -> str:
        line = "?" if self.line is None else self.line
        return f"{self.file.rpartition('/')[2]}:{line} in {self.function}"


@dataclasses.dataclass(frozen=True)
class CauseExample:
    """One owner of written memory.

    Attributes:
        owner: a short text for the object (made in the parent, without calling its
            ``__repr__``), or the name of a C variable; None when neither is known.
        path: how the object is reached, ``data[17]['tags']``; None when nothing that has a
            name leads to it.
        detail: the attribute or the source line, where the written word tells it.
        address: of the first written word.
        words: how many words (8 bytes) of it were written; 0 for "same bytes again".
        line: ``app.py:12 in handle``, the line that wrote first on the page of that word; None
            without a trap (``fork_workers(..., trap=True)``) or when it is unknown.
    """

    owner: str | None
    path: str | None
    detail: str | None
    address: int
    words: int
    line: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class PageCause:
    """One kind of write, on all the pages where it was found.

    Attributes:
        kind: "object", "allocator", "interpreter", "library", "stack" or "unknown".
        type: of the object; else "pymalloc", "malloc", "interpreter", "stack", the name of
            a library or "unknown".
        field: what was written: "reference count", "GC header", "cached hash", "list
            contents", "inline cache or counter", "pool header", "chunk header", ...;
        same_bytes: the page was written, but reads as it did at the fork: a count went up and
            down, or a value was stored again. Then type and field are of what lies on the page
            and is written in this way: likely, not proven; "same bytes again" as the field
            means that nothing there is known to be.
        pages: on how many copied pages it occurs. Several causes can share a page.
        alone: on how many pages it is the only cause.
        words: written words (8 bytes).
        owner, path, detail: of the example that was written most, see CauseExample.
        advice: what to do about it, or None.
        examples: up to five owners.
        line: ``app.py:12 in handle``, the line that wrote first on most of the pages whose first
            write was of this cause. When something else was written first on all of them, the
            line that did that on the page of the first example. None without a trap
            (``fork_workers(..., trap=True)``) or when it is unknown.
        stack: the Python functions of that line's stack, innermost first.
    """

    kind: str
    type: str
    field: str
    same_bytes: bool
    pages: int
    alone: int
    words: int
    owner: str | None
    path: str | None
    detail: str | None
    advice: str | None
    examples: tuple[CauseExample, ...]
    line: str | None = None
    stack: tuple[Frame, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values for JSON."""
        values = dataclasses.asdict(self)
        values["stack"] = [frame._asdict() for frame in self.stack]
        return values

    @property
    def name(self) -> str:
        """Type and field in one text."""
        again = self.same_bytes and self.field != SAME_BYTES
        return f"{self.type}: {self.field}" + (f" ({SAME_BYTES})" if again else "")

    @property
    def where(self) -> str:
        """Owner, path and detail of the first example in one text."""
        parts = [part for part in (self.path, self.owner, self.detail) if part]
        return ", ".join(parts)
