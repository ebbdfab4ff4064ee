"""The map of pages: every inherited page once, where it lies, in the colour of what wrote it."""

from __future__ import annotations

import dataclasses
import gc
import json
import mmap
import os
import re
import weakref
from array import array
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import cowfreeze
from cowfreeze import _core
from cowfreeze._explain.causes import PageCause
from cowfreeze._explain.explanation import Explanation
from cowfreeze._explain.memory_map import ANONYMOUS, ARENA, LIBRARY, Area, Layout, read_layout
from cowfreeze._explain.picture.groups import COUNTS, FROZEN, GROUPS, SHARED, UNKNOWN_CAUSE, group_of
from cowfreeze._explain.picture.html import model, page_text
from cowfreeze._explain.picture.model import FIRST_CAUSE, IS_FROZEN, IS_SHARED, make_map
from cowfreeze._workers.find_causes import unexplained

PAGE = os.sysconf("SC_PAGE_SIZE")
DATA = [{"id": number, "tags": [number, -number]} for number in range(20000)]
HELD: list[Any] = []


def hold(index: int) -> None:
    for record in DATA[:10000]:
        HELD.append(record)


@pytest.fixture(scope="module")
def explained() -> Explanation:
    return cowfreeze.fork_workers(hold, 1, explain=True).explain()


# --- the layout -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def layout() -> Layout:
    with _core.Witness() as witness:
        memory = os.open(f"/proc/{witness.pid}/mem", os.O_RDONLY)
        try:
            return read_layout(witness.pid, memory)
        finally:
            os.close(memory)


def area_of(layout: Layout, address: int) -> Area:
    found = [area for area in layout.areas if area.start <= address < area.end]
    assert len(found) == 1, (hex(address), found)
    return found[0]


def test_areas_ascend_and_do_not_overlap(layout: Layout) -> None:
    assert all(area.start < area.end for area in layout.areas)
    assert all(a.end <= b.start for a, b in zip(layout.areas, layout.areas[1:]))
    assert all(a < b for a, b in zip(layout.runs[::2], layout.runs[2::2]))


def test_as_many_pages_as_the_audit_counts() -> None:
    """Not more than few apart: pages that were only read are told apart there, not here."""
    with _core.Witness() as witness:
        memory = os.open(f"/proc/{witness.pid}/mem", os.O_RDONLY)
        found = read_layout(witness.pid, memory)
        os.close(memory)
        counted = witness.inherited_pages()
    assert counted <= found.pages <= counted * 1.1 + 64


def test_small_objects_lie_in_arenas_and_planted_memory_where_it_is() -> None:
    # So large that it fits into no gap behind a library's data, where it would look like a part of it.
    memory_map = mmap.mmap(-1, 256 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for number in (3, 4, 5, 40):
        memory_map[number * PAGE] = 1
    address = _address(memory_map)
    with _core.Witness() as witness:
        memory = os.open(f"/proc/{witness.pid}/mem", os.O_RDONLY)
        found = read_layout(witness.pid, memory)
        os.close(memory)
    pages = {
        (start + number * PAGE - address) // PAGE
        for start, count in zip(found.runs[::2], found.runs[1::2])
        for number in range(count)
        if address <= start + number * PAGE < address + 64 * PAGE
    }
    assert pages == {3, 4, 5, 40}
    assert area_of(found, address + 3 * PAGE).kind == ANONYMOUS
    assert sum(area_of(found, id(record)).kind == ARENA for record in DATA[::100]) >= 190
    memory_map.close()


def _address(area: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def test_a_process_that_is_gone_is_an_error() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        read_layout(pid, -1)


# --- the model ------------------------------------------------------------------------


def test_every_page_is_one_cell_and_every_copied_one_has_its_cause(explained: Explanation) -> None:
    picture = make_map(explained)
    cells = [cell for band in picture.bands for area in band.areas for cell in area.cells]
    assert len({page for page, _ in cells}) == len(cells) == picture.pages
    states = dict(cells)
    for address, main in zip(explained.addresses, explained.main):
        row = picture.causes[states[address // PAGE] - FIRST_CAUSE]
        assert row.name == explained.causes[main].name
    copied = [page for page, state in cells if state >= FIRST_CAUSE]
    assert len(copied) == picture.copied == explained.pages == sum(picture.groups)
    assert sum(band.pages for band in picture.bands) == picture.pages
    assert explained.layout is not None and picture.pages >= explained.layout.pages


def test_owners_stand_beside_copied_pages(explained: Explanation) -> None:
    assert len(explained.owner_of) == explained.pages
    texts = [explained.owners[number] for number in explained.owner_of]
    assert texts.count("dict: dict of 2") > 100, texts[:20]


def planted(**changes: Any) -> Explanation:
    """A worker with two areas of four pages; pages 1 and 2 of the first were copied."""
    start = 1 << 30
    cause = PageCause(
        "object", "list", "reference count", False, 2, 2, 9, "<b>list</b>", "data['</script>']", None,
        "freeze & go", (),
    )  # fmt: skip
    layout = Layout(
        PAGE,
        (Area(start, start + 4 * PAGE, ARENA, "arena 0"), Area(start + 8 * PAGE, start + 12 * PAGE, LIBRARY, "<i>.so")),
        array("Q", [start, 4, start + 8 * PAGE, 3]),
        array("Q", [start, 2]),
    )
    return dataclasses.replace(
        unexplained(0, "note <u>"), pages=2, object_pages=2, causes=(cause,),
        addresses=array("Q", [start + PAGE, start + 2 * PAGE]), main=array("I", [0, 0]),
        owners=("", "<svg onload=alert(1)>"), owner_of=array("I", [1, 0]), layout=layout, **changes,
    )  # fmt: skip


def test_states_of_a_planted_worker() -> None:
    picture = make_map(planted())
    (arena,), (library,) = (band.areas for band in picture.bands)
    assert [state for _, state in arena.cells] == [IS_FROZEN, FIRST_CAUSE, FIRST_CAUSE, IS_SHARED]
    assert arena.owners == (1, 0)
    assert [page - library.start for page, _ in library.cells] == [0, 1, 2]
    assert (picture.pages, picture.copied, picture.frozen) == (7, 2, (2, 1))
    assert dict(zip(GROUPS, picture.groups))[COUNTS] == 2


def test_a_copied_page_outside_of_all_areas_is_shown() -> None:
    explanation = planted()
    assert explanation.layout is not None
    lost = dataclasses.replace(explanation.layout, areas=(), runs=array("Q"))
    picture = make_map(dataclasses.replace(explanation, layout=lost))
    assert picture.pages == picture.copied == 2


def test_nothing_to_draw_says_why() -> None:
    with pytest.raises(cowfreeze.CowfreezeError, match="because of the test"):
        make_map(unexplained(0, "because of the test"))


def test_run_lengths_decode_to_the_cells(explained: Explanation) -> None:
    picture = make_map(explained)
    made = model(picture)
    for band, coded in zip(picture.bands, made["bands"]):
        for area, (start, name, runs, owner_runs) in zip(band.areas, coded["areas"]):
            cells, at = [], start
            for skip, count, state in zip(runs[::3], runs[1::3], runs[2::3]):
                cells += [(at + skip + number, state) for number in range(count)]
                at += skip + count
            assert tuple(cells) == area.cells and name == area.name
            owners = [o for count, o in zip(owner_runs[::2], owner_runs[1::2]) for _ in range(count)]
            assert tuple(owners) == area.owners


def test_a_kind_of_cause_has_one_group() -> None:
    cause = planted().causes[0]
    assert group_of(cause.kind, cause.field) is COUNTS
    assert group_of("unknown", cause.field) is UNKNOWN_CAUSE
    assert group_of(cause.kind, "a field of tomorrow") in GROUPS
    colours = [*GROUPS, SHARED, FROZEN]
    assert len({group.light for group in colours}) == len({group.dark for group in colours}) == 9


# --- the files ------------------------------------------------------------------------


class Tags(HTMLParser):
    """Names and attributes of all tags; scripts are not looked into, as in a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_page_stands_alone_and_takes_texts_as_texts() -> None:
    text = page_text(make_map(planted()))
    tags = Tags()
    tags.feed(text)
    names = [name for name, _ in tags.found]
    assert "canvas" not in names and names.count("script") == 2 and "svg" not in names and "i" not in names
    assert not any({"src", "href"} & set(attributes) for _, attributes in tags.found)
    assert "default-src 'none'" in text and not re.search(r"https?://|@import|url\(", text)
    assert "innerHTML" not in text and "document.write" not in text
    coded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert coded is not None and not set("<>&") & set(coded[1])
    back = json.loads(coded[1])
    assert back["owners"][1] == "<svg onload=alert(1)>" and back["bands"][1]["areas"][0][1] == "<i>.so"
    assert "data['</script>']" in back["causes"][0][3]


def test_a_page_of_a_gib_stays_small() -> None:
    """Every page copied, the cause changing from page to page: the worst for run lengths."""
    pages = (1 << 30) // 4096
    base = planted()
    assert base.layout is not None
    start = 1 << 30
    area = Area(start, start + pages * PAGE, ARENA, "arena 0")
    other = dataclasses.replace(base.causes[0], field="cached hash")
    big = dataclasses.replace(
        base, causes=(base.causes[0], other), pages=pages,
        addresses=array("Q", range(start, start + pages * PAGE, PAGE)), main=array("I", [0, 1] * (pages // 2)),
        owner_of=array("I", [1]) * pages,
        layout=dataclasses.replace(base.layout, areas=(area,), runs=array("Q", [start, pages]), frozen=array("Q")),
    )  # fmt: skip
    assert len(page_text(make_map(big))) < 4 << 20


@pytest.mark.parametrize("form", ["png", "svg"])
def test_images(tmp_path: Path, form: str) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"map.{form}"
    planted().save(file)
    begin = file.read_bytes()[:400]
    assert begin.startswith(b"\x89PNG") if form == "png" else b"<svg" in begin or b"<!DOCTYPE svg" in begin


def test_the_image_shows_the_colours_of_the_states() -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("matplotlib")
    from cowfreeze._explain.picture import image

    picture = make_map(planted())
    tiles = [image._tiles(band, picture.columns) for band in picture.bands]
    pixels = image._pixels(picture.bands[0], tiles[0], picture, 2)
    colours = {"#{:02x}{:02x}{:02x}".format(*row) for row in numpy.unique(pixels.reshape(-1, 3), axis=0)}
    assert {COUNTS.light, SHARED.light, FROZEN.light} <= colours
    count = int((pixels == [0xD5, 0x5E, 0x00]).all(axis=2).sum())
    assert count == 2 * 2 * 2  # two pages of two by two pixels


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.html, \.png or \.svg"):
        planted().save(tmp_path / "map.jpeg")
    with pytest.raises(OSError):
        planted().save(tmp_path / "no such folder" / "map.html")
    assert os.listdir(tmp_path) == []


def test_explaining_keeps_no_object_alive() -> None:
    """The owners of pages are handed out as objects; only their texts may stay."""

    class Witnessed:
        pass

    def explain() -> tuple[weakref.ref[Witnessed], Explanation]:
        # In a function of its own: up to 3.12 a frame keeps the dict of its locals that paths
        # begin at, until it ends.
        data = [Witnessed() for _ in range(5000)]
        made = cowfreeze.fork_workers(lambda index: HELD.extend(data), 1, explain=True).explain()
        return weakref.ref(data[0]), made

    ended, made = explain()
    assert any("Witnessed" in text for text in made.owners)
    assert all(type(text) is str for text in made.owners)
    gc.collect()
    assert ended() is None
