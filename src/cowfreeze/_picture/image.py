"""The map as PNG or SVG, through matplotlib.

The cells are one image, so that a GiB of pages does not become 262,144 shapes; the words are
text. Nothing is drawn on a screen: the canvas is chosen here and matplotlib's global state is
left alone.
"""

from __future__ import annotations

from typing import Any

from cowfreeze._picture.groups import FROZEN, GROUPS, SHARED
from cowfreeze._picture.model import Band, MapArea, PageMap
from cowfreeze._sizes import format_size

_WIDTH = 1200  # pixels of the map
_GROUND, _EMPTY, _LINE = "#ffffff", "#f1f2f4", "#d9dde2"
_TEXT, _QUIET = "#1b1f24", "#5c6570"
_DPI = 100
_MOST_ROWS = 6  # causes in the legend
_LONGEST = 110  # characters of a line there


def write_image(picture: PageMap, file: str, form: str) -> None:
    """Write PICTURE to FILE; FORM is "png" or "svg". Raises OSError, ImportError."""
    from matplotlib.figure import Figure

    size = _cell_size(picture)
    images = [(band, _pixels(band, picture, size)) for band in picture.bands]
    head = _head(picture)
    height = sum(image.shape[0] + 44 for _, image in images) + head + 30
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
        top += rows + 10
    figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "under 0.1 %" if part and percent < 0.1 else f"{percent:.1f} %"


def _words(figure: Any, x: float, y: float, text: str, height: float, **options: Any) -> None:
    options = {"color": _TEXT, "size": 10, **options}
    # parse_math off: a "$" in the name of a key is no formula.
    figure.text(x / (_WIDTH + 60), 1 - y / height, text, va="top", parse_math=False, **options)


def _head(picture: PageMap) -> int:
    return 128 + 20 * min(_MOST_ROWS, len(picture.causes)) + 20


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
    x, words = 30.0, 30.0
    for group, pages in parts:
        if not pages:
            continue
        width = max(_WIDTH * pages / max(1, picture.pages), 2)
        box(x, 60, min(width, 30 + _WIDTH - x), 20, group.light)
        x += width
        text = f"{group.name} {pages:,} ({_share(pages, picture.pages)})"
        box(words, 93, 11, 11, group.light)
        _words(figure, words + 16, 91, text, height, size=9)
        words += 30 + 6.4 * len(text)
    y = 122
    for row in picture.causes[:_MOST_ROWS]:
        box(112, y + 2, 11, 11, GROUPS[row.group].light)
        _words(figure, 104, y, f"{row.pages:,} pages", height, size=9, ha="right")
        line = f"{row.name}: {row.where}" if row.where else row.name
        line = line.replace("\n", " ")
        _words(figure, 130, y, line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "...", height, size=9)
        y += 20
    return _head(picture)


def _tiles(area: MapArea, pages: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """The cells of each tile of AREA as (offset, state)."""
    found: dict[int, list[tuple[int, int]]] = {}
    for page, state in area.cells:
        tile, offset = divmod(page - area.start, pages)
        found.setdefault(tile, []).append((offset, state))
    return sorted(found.items())


def _cell_size(picture: PageMap) -> int:
    """The largest cells with which the map is at most some 1,500 pixels high."""
    side = picture.columns
    n = [sum(len(_tiles(area, side * side)) for area in band.areas) for band in picture.bands]
    for size in (8, 6, 5, 4, 3, 2):
        step = _step(picture, size)
        if sum(-(-count // (_WIDTH // step[0])) * step[1] for count in n) <= 1500:
            return size
    return 1


def _gap(size: int) -> int:
    return 1 if size >= 3 else 0


def _step(picture: PageMap, size: int) -> tuple[int, int]:
    """Width and height of a tile with what parts it from the next."""
    pools = picture.columns // picture.pool_pages if picture.pool_pages else 1
    between = 8 if size >= 4 else 5 if size >= 2 else 3
    return (
        picture.columns * size + (pools - 1) * _gap(size) + between,
        picture.columns * (size + _gap(size)) - _gap(size) + between,
    )


def _pixels(band: Band, picture: PageMap, size: int) -> Any:
    """The cells of BAND as an array of colours."""
    import numpy
    from matplotlib.colors import to_rgb

    def colour(text: str) -> Any:
        return numpy.array([round(255 * part) for part in to_rgb(text)], dtype=numpy.uint8)

    palette = [colour(SHARED.light), colour(FROZEN.light)]
    palette += [colour(GROUPS[row.group].light) for row in picture.causes]
    side, gap = picture.columns, _gap(size)
    step, down = _step(picture, size)
    tiles = [cells for area in band.areas for _, cells in _tiles(area, side * side)]
    across = _WIDTH // step
    rows = -(-len(tiles) // across)
    image = numpy.empty((rows * down, _WIDTH, 3), dtype=numpy.uint8)
    image[:] = colour(_GROUND)
    between = 8 if size >= 4 else 5 if size >= 2 else 3
    for index, cells in enumerate(tiles):
        top, left = index // across * down, index % across * step
        image[top : top + down - between + 2, left : left + step - between + 2] = colour(_LINE)
        image[top + 1 : top + down - between + 1, left + 1 : left + step - between + 1] = colour(_EMPTY)
        for offset, state in cells:
            row, column = divmod(offset, side)
            y = top + 1 + row * (size + gap)
            x = left + 1 + column * size + (column // picture.pool_pages * gap if picture.pool_pages else 0)
            image[y : y + size, x : x + size] = palette[state]
    return image
