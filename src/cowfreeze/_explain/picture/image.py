"""The map as PNG or SVG, through matplotlib.

The cells are one image, so that a GiB of pages does not become 262,144 shapes; the words are
text. Nothing is drawn on a screen: the canvas is chosen here and matplotlib's global state is
left alone.
"""

from __future__ import annotations

import dataclasses
import io
from typing import Any

from cowfreeze._explain.memory_map import ARENA
from cowfreeze._explain.picture.groups import FROZEN, GROUPS, SHARED
from cowfreeze._explain.picture.model import Band, PageMap
from cowfreeze._files import write_whole
from cowfreeze._sizes import format_size

_WIDTH = 1200  # pixels of the map
_GROUND, _EMPTY, _LINE = "#ffffff", "#f1f2f4", "#d9dde2"
_TEXT, _QUIET = "#1b1f24", "#5c6570"
_DPI = 100
_MOST_ROWS = 6  # causes in the legend
_LONGEST = 150  # characters of a line there
_PER_ROW = 4  # groups


def write_image(picture: PageMap, file: str, form: str) -> None:
    """Write PICTURE to FILE; FORM is "png" or "svg". Raises OSError, ImportError."""
    from matplotlib.figure import Figure

    tiles = [_tiles(band, picture.columns) for band in picture.bands]
    size = _cell_size(picture, tiles)
    images = [(band, _pixels(band, own, picture, size)) for band, own in zip(picture.bands, tiles)]
    head = _head(picture)
    height = sum(image.shape[0] + 46 for _, image in images) + head + 30
    figure = Figure(figsize=((_WIDTH + 60) / _DPI, height / _DPI), dpi=_DPI, facecolor=_GROUND)
    top = _draw_head(figure, picture, height)
    for band, image in images:
        _words(figure, 30, top + 12, band.label, height, weight="bold", size=11)
        copied = f"{band.copied:,} of {band.pages:,} pages copied ({_share(band.copied, band.pages)})"
        _words(figure, 300, top + 12, copied, height, color=_QUIET, size=10)
        top += 34
        rows, columns = image.shape[:2]
        axes = figure.add_axes(
            (30 / (_WIDTH + 60), 1 - (top + rows) / height, columns / (_WIDTH + 60), rows / height)
        )
        axes.imshow(image, interpolation="none" if form == "png" else "nearest", aspect="auto")
        axes.set_axis_off()
        top += rows + 12
    drawn = io.BytesIO()
    figure.savefig(drawn, format=form, metadata={"Date": None} if form == "svg" else None)
    write_whole(file, drawn.getvalue())


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "under 0.1 %" if part and percent < 0.1 else f"{percent:.1f} %"


def _words(figure: Any, x: float, y: float, text: str, height: float, **options: Any) -> None:
    options = {"color": _TEXT, "size": 10, **options}
    # parse_math off: a "$" in the name of a key is no formula.
    figure.text(x / (_WIDTH + 60), 1 - y / height, text, va="top", parse_math=False, **options)


def _head(picture: PageMap) -> int:
    return 176 + 20 * min(_MOST_ROWS, len(picture.causes))


def _draw_head(figure: Any, picture: PageMap, height: float) -> float:
    """Title, bar, legend; returns where the map begins."""
    from matplotlib.patches import Rectangle

    wide = _WIDTH + 60

    def box(x: float, y: float, w: float, h: float, colour: str) -> None:
        figure.add_artist(
            Rectangle((x / wide, 1 - (y + h) / height), w / wide, h / height, color=colour, linewidth=0)
        )

    size = picture.page_size
    _words(
        figure, 30, 22,
        f"Worker {picture.worker} copied {format_size(picture.copied * size)} of "
        f"{format_size(picture.pages * size)} ({_share(picture.copied, picture.pages)})",
        height, size=17, weight="bold",
    )  # fmt: skip
    frozen = picture.frozen[0] - picture.frozen[1]
    parts = [(group, pages) for group, pages in zip(GROUPS, picture.groups) if pages]
    parts += [(FROZEN, frozen), (SHARED, picture.pages - picture.copied - frozen)]
    parts = [(group, pages) for group, pages in parts if pages]
    x = 30.0
    for number, (group, pages) in enumerate(parts):
        width = max(_WIDTH * pages / max(1, picture.pages), 2)
        box(x, 60, min(width, 30 + _WIDTH - x), 20, group.light)
        x += width
        row, column = divmod(number, _PER_ROW)
        left, top = 30 + column * _WIDTH / _PER_ROW, 92 + 20 * row
        box(left, top + 2, 11, 11, group.light)
        _words(figure, left + 16, top, f"{group.name} {pages:,} ({_share(pages, picture.pages)})", height, size=9)
    y = 104 + 20 * -(-len(parts) // _PER_ROW)
    for cause in picture.causes[:_MOST_ROWS]:
        box(112, y + 2, 11, 11, GROUPS[cause.group].light)
        _words(figure, 104, y, f"{cause.pages:,} pages", height, size=9, ha="right")
        line = f"{cause.name}: {cause.where}" if cause.where else cause.name
        line = line.replace("\n", " ")
        _words(figure, 130, y, line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "...", height, size=9)
        y += 20
    return _head(picture)


@dataclasses.dataclass
class _Tile:
    """A MiB of an area: its cells as (offset, state), and where it is drawn."""

    cells: list[tuple[int, int]]
    columns: int
    rows: int
    x: int = 0
    y: int = 0
    wide: int = 0
    tall: int = 0


def _tiles(band: Band, side: int) -> list[_Tile]:
    made: list[_Tile] = []
    for area in band.areas:
        cells: dict[int, list[tuple[int, int]]] = {}
        for page, state in area.cells:
            tile, offset = divmod(page - area.start, side * side)
            cells.setdefault(tile, []).append((offset, state))
        for _, found in sorted(cells.items()):
            span = side * side if band.kind == ARENA else found[-1][0] + 1
            made.append(_Tile(found, min(side, span), -(-span // side)))
    return made


def _shelve(tiles: list[_Tile], size: int, gap: int, pool: int) -> int:
    """Set the places of TILES side by side in shelves; returns the height."""
    x = y = tallest = 0
    between = 6 if size >= 4 else 4 if size >= 2 else 2
    for tile in tiles:
        pools = -(-tile.columns // pool) - 1 if pool else 0
        tile.wide = tile.columns * size + pools * gap + 2
        tile.tall = tile.rows * (size + gap) - gap + 2
        if x and x + tile.wide > _WIDTH:
            x, y, tallest = 0, y + tallest + between, 0
        tile.x, tile.y = x, y
        x += tile.wide + between
        tallest = max(tallest, tile.tall)
    return y + tallest


def _gap(band: Band, size: int) -> int:
    """Pixels between pools; only arenas have them."""
    return 1 if size >= 3 and band.kind == ARENA else 0


def _cell_size(picture: PageMap, tiles: list[list[_Tile]]) -> int:
    """The largest cells with which the map is at most some 1,200 pixels high."""
    for size in (10, 8, 6, 5, 4, 3, 2):
        heights = (
            _shelve(row, size, _gap(band, size), picture.pool_pages) + 36
            for band, row in zip(picture.bands, tiles)
        )
        if sum(heights) <= 1200:
            return size
    return 1


def _pixels(band: Band, tiles: list[_Tile], picture: PageMap, size: int) -> Any:
    """The cells of BAND as an array of colours."""
    import numpy
    from matplotlib.colors import to_rgb

    def colour(text: str) -> Any:
        return numpy.array([round(255 * part) for part in to_rgb(text)], dtype=numpy.uint8)

    palette = [colour(SHARED.light), colour(FROZEN.light)]
    palette += [colour(GROUPS[row.group].light) for row in picture.causes]
    line, empty = colour(_LINE), colour(_EMPTY)
    side, pool, gap = picture.columns, picture.pool_pages, _gap(band, size)
    image = numpy.empty((_shelve(tiles, size, gap, pool), _WIDTH, 3), dtype=numpy.uint8)
    image[:] = colour(_GROUND)
    for tile in tiles:
        x, y = tile.x, tile.y
        image[y : y + tile.tall, x : x + tile.wide] = line
        image[y + 1 : y + tile.tall - 1, x + 1 : x + tile.wide - 1] = empty
        for offset, state in tile.cells:
            row, column = divmod(offset, side)
            top = y + 1 + row * (size + gap)
            left = x + 1 + column * size + (column // pool * gap if gap and pool else 0)
            image[top : top + size, left : left + size] = palette[state]
    return image
