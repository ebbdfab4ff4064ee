"""The map as one HTML file: page.html with the model in it.

The model is text of the user's program in places (names of classes, keys of dicts, values of
strings). It travels as JSON in which no "<" is left, so that no tag can begin in it, and the
script puts it into the page as text only. The page forbids itself any request
(Content-Security-Policy), so it says the same on a machine without a network.

Cells are run-length coded per area, as [pages left out, pages, state, ...] one after the other;
owners as [pages, owner, ...]. A GiB of pages is some hundred kilobytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from itertools import groupby
from typing import Any

from cowfreeze._explain.picture.groups import FROZEN, GROUPS, SHARED, Group
from cowfreeze._explain.picture.model import MapArea, PageMap


def page_text(picture: PageMap) -> str:
    """The whole HTML file."""
    template = resources.files("cowfreeze._explain.picture").joinpath("page.html").read_text(encoding="utf-8")
    before, after = template.split("{{data}}")
    return before + _json(model(picture)) + after


def model(picture: PageMap) -> dict[str, Any]:
    """What the script draws, as plain values."""
    return {
        "worker": picture.worker,
        "pageSize": picture.page_size,
        "columns": picture.columns,
        "poolPages": picture.pool_pages,
        "pages": picture.pages,
        "copied": picture.copied,
        "frozen": list(picture.frozen),
        "groups": [
            {**_colours(group), "name": group.name, "pages": pages}
            for group, pages in zip(GROUPS, picture.groups)
        ],
        "shared": [_colours(SHARED), _colours(FROZEN)],
        "causes": [[row.name, row.group, row.pages, row.where, row.advice] for row in picture.causes],
        "owners": list(picture.owners),
        "notes": list(picture.notes),
        "bands": [
            {
                "kind": band.kind,
                "label": band.label,
                "note": band.note,
                "pages": band.pages,
                "copied": band.copied,
                "areas": [[area.start, area.name, _cells(area), _runs(area.owners)] for area in band.areas],
            }
            for band in picture.bands
        ],
    }


def _colours(group: Group) -> dict[str, str]:
    return {"light": group.light, "dark": group.dark}


def _cells(area: MapArea) -> list[int]:
    flat: list[int] = []
    at = area.start
    begin, count, state = at, 0, -1
    for page, now in (*area.cells, (-1, -1)):
        if count and page == begin + count and now == state:
            count += 1
            continue
        if count:
            flat += (begin - at, count, state)
            at = begin + count
        begin, count, state = page, 1, now
    return flat


def _runs(values: Iterable[int]) -> list[int]:
    return [number for value, same in groupby(values) for number in (sum(1 for _ in same), value)]


def _json(value: Any) -> str:
    """JSON that may stand in a script element: without <, > and & no markup can begin in it."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII: no U+2028, no lone surrogate
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
