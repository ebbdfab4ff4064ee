"""From what is known of a worker's copied pages to what is drawn.

    band   "pymalloc arenas", "malloc heap", ...: the areas of one kind, with totals
    area   an arena, a mapping: starts a tile of its own, so that its border shows
    tile   1 MiB of addresses as a square of cells; tiles without a cell are left out
    cell   one inherited page, or one that was copied over a page of a file
    state  0 shared; 1 shared and frozen; 2 + i copied, and cause i of the map wrote most words
"""

from __future__ import annotations

import bisect
import dataclasses
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from cowfreeze._errors import CowfreezeError
from cowfreeze._explain.causes import PageCause
from cowfreeze._explain.memory_map import ANONYMOUS, ARENA, HEAP, LIBRARY, STACK, Area, Layout
from cowfreeze._explain.picture.groups import GROUPS, group_of

IS_SHARED, IS_FROZEN, FIRST_CAUSE = 0, 1, 2
TILE_BYTES = 1 << 20
POOL_BYTES = 16 << 10

BANDS = (
    (ARENA, "pymalloc arenas", "objects up to 512 bytes; thin lines part the pools of 16 KiB"),
    (HEAP, "malloc heap", "larger blocks: tables of lists and dicts, long strings"),
    (ANONYMOUS, "other memory", "large blocks of malloc, arenas of threads, mmap"),
    (LIBRARY, "program and libraries", "variables of the interpreter and of extension modules"),
    (STACK, "stack", ""),
)


class CopiedPages(Protocol):
    """What the map needs to know of a worker, under the names that Explanation gives it."""

    @property
    def worker(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def causes(self) -> Sequence[PageCause]: ...
    @property
    def addresses(self) -> array[int]: ...
    @property
    def main(self) -> array[int]: ...
    @property
    def owners(self) -> tuple[str, ...]: ...
    @property
    def owner_of(self) -> array[int]: ...
    @property
    def layout(self) -> Layout | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


@dataclasses.dataclass(frozen=True)
class CauseRow:
    """One cause as the legend lists it; PAGES are those where it wrote most."""

    name: str
    group: int
    pages: int
    where: str
    advice: str


@dataclasses.dataclass(frozen=True)
class MapArea:
    """An area with its cells: (page number, state), ascending; owners of the copied ones."""

    start: int
    name: str
    cells: tuple[tuple[int, int], ...]
    owners: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Band:
    kind: str
    label: str
    note: str
    areas: tuple[MapArea, ...]
    pages: int
    copied: int


@dataclasses.dataclass(frozen=True)
class PageMap:
    """All that a picture shows.

    Attributes:
        pages: inherited pages and copied pages of files together: the number of cells.
        copied: how many of them the worker copied.
        frozen: how many hold frozen objects, and how many of these it copied.
        groups: copied pages by group, in the order of ``groups.GROUPS``; adds up to ``copied``.
        owners: texts; a cell's owner is a position in them, 0 is none.
    """

    worker: int
    page_size: int
    pages: int
    copied: int
    frozen: tuple[int, int]
    groups: tuple[int, ...]
    causes: tuple[CauseRow, ...]
    owners: tuple[str, ...]
    bands: tuple[Band, ...]
    notes: tuple[str, ...]

    @property
    def columns(self) -> int:
        """Cells in a row of a tile; as many rows."""
        side = 1
        while side * side * self.page_size < TILE_BYTES:
            side += 1
        return side

    @property
    def pool_pages(self) -> int:
        """Pages of a pool; 0 if a page holds several."""
        return POOL_BYTES // self.page_size if self.page_size * 2 <= POOL_BYTES else 0


def make_map(copied: CopiedPages) -> PageMap:
    """The map of what COPIED tells of a worker.

    Raises CowfreezeError when the layout of the memory is unknown.
    """
    layout = copied.layout
    if layout is None:
        why = " ".join(copied.notes) or "the worker's pages were not explained"
        raise CowfreezeError(f"there is nothing to draw for worker {copied.worker}: {why}")
    causes, position = _causes(copied)
    states = _states(copied, position)
    frozen = _pages_of(layout.frozen, layout.page_size)
    areas = [
        (area.kind, made)
        for area in _with_strays(layout, copied)
        if (made := _area(area, layout, states, frozen, copied)).cells
    ]
    bands = [
        _band(kind, label, note, tuple(area for found, area in areas if found == kind))
        for kind, label, note in BANDS
    ]
    shown = tuple(band for band in bands if band.areas)
    groups = Counter({row.group: 0 for row in causes})
    for row in causes:
        groups[row.group] += row.pages
    return PageMap(
        worker=copied.worker,
        page_size=layout.page_size,
        pages=sum(band.pages for band in shown),
        copied=sum(band.copied for band in shown),
        frozen=(len(frozen), sum(1 for page in frozen if page in states)),
        groups=tuple(groups[number] for number in range(len(GROUPS))),
        causes=causes,
        owners=copied.owners,
        bands=shown,
        notes=copied.notes,
    )


def _causes(copied: CopiedPages) -> tuple[tuple[CauseRow, ...], dict[int, int]]:
    """The causes that are some page's main one, most pages first; and from their position in
    the explanation to that in the map."""
    counted = Counter(copied.main)
    order = [number for number, _ in counted.most_common()]
    rows = tuple(_row(copied.causes[number], counted[number]) for number in order)
    return rows, {number: place for place, number in enumerate(order)}


def _row(cause: PageCause, pages: int) -> CauseRow:
    return CauseRow(cause.name, GROUPS.index(group_of(cause.kind, cause.field)), pages, cause.where, cause.advice or "")


def _states(copied: CopiedPages, position: dict[int, int]) -> dict[int, int]:
    """Page number to state, of the copied pages."""
    size = copied.page_size
    return {
        address // size: FIRST_CAUSE + position[main]
        for address, main in zip(copied.addresses, copied.main)
    }


def _pages_of(runs: array[int], page_size: int) -> set[int]:
    pages: set[int] = set()
    for start, count in zip(runs[::2], runs[1::2]):
        pages.update(range(start // page_size, start // page_size + count))
    return pages


def _with_strays(layout: Layout, copied: CopiedPages) -> Iterator[Area]:
    """The areas, and one more for each copied page that lies in none of them."""
    yield from layout.areas
    starts = [area.start for area in layout.areas]
    for address in copied.addresses:
        before = bisect.bisect_right(starts, address) - 1
        if before < 0 or layout.areas[before].end <= address:
            yield Area(address, address + layout.page_size, ANONYMOUS, "")


def _area(
    area: Area, layout: Layout, states: dict[int, int], frozen: set[int], copied: CopiedPages
) -> MapArea:
    size = layout.page_size
    pages = set(_inherited(area, layout))
    low = bisect.bisect_left(copied.addresses, area.start)
    high = bisect.bisect_left(copied.addresses, area.end)
    pages.update(address // size for address in copied.addresses[low:high])
    cells = tuple(
        (page, states.get(page, IS_FROZEN if page in frozen else IS_SHARED)) for page in sorted(pages)
    )
    owners = copied.owner_of[low:high].tolist()
    return MapArea(area.start // size, area.name, cells, tuple(owners))


def _inherited(area: Area, layout: Layout) -> Iterator[int]:
    """Numbers of the inherited pages of AREA."""
    size, runs = layout.page_size, layout.runs
    for place in range(2 * _first_run(runs, area.start, size), len(runs), 2):
        start, end = runs[place], runs[place] + runs[place + 1] * size
        if start >= area.end:
            return
        yield from range(max(start, area.start) // size, min(end, area.end) // size)


def _first_run(runs: array[int], address: int, page_size: int) -> int:
    """Position of the first run that ends behind ADDRESS."""
    low, high = 0, len(runs) // 2
    while low < high:
        middle = (low + high) // 2
        if runs[2 * middle] + runs[2 * middle + 1] * page_size <= address:
            low = middle + 1
        else:
            high = middle
    return low


def _band(kind: str, label: str, note: str, areas: tuple[MapArea, ...]) -> Band:
    pages = sum(len(area.cells) for area in areas)
    copied = sum(1 for area in areas for _, state in area.cells if state >= FIRST_CAUSE)
    if kind == ARENA:
        label = f"{len(areas):,} {label}" if len(areas) != 1 else "1 pymalloc arena"
    return Band(kind, label, note, areas, pages, copied)
