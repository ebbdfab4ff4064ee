"""The map of a worker's pages: every page that it inherited is a cell, coloured by what was
written there. As a page for a browser, or as PNG and SVG.

    CopiedPages --> model.py   bands (arenas, heap, ...), tiles of 1 MiB, a state for each page
                    groups.py  some 30 kinds of causes in 7 colours
                --> html.py    page.html with the model in it
                    image.py   the same through matplotlib
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from cowfreeze._errors import CowfreezeError
from cowfreeze._files import write_whole

if TYPE_CHECKING:
    from cowfreeze._explain.picture.model import CopiedPages

FORMS = ("html", "png", "svg")


def save(copied: CopiedPages, file: str | os.PathLike[str], form: str | None = None) -> None:
    """Write the map of COPIED to FILE in FORM (default: what FILE ends in).

    Raises:
        ValueError: no such form.
        CowfreezeError: the form needs what is not installed, or the layout is unknown.
        OSError: FILE cannot be written.
    """
    if form is None:
        form = os.fspath(file).rpartition(".")[2].lower()
    check_form(form, os.fspath(file))
    from cowfreeze._explain.picture.model import make_map

    picture = make_map(copied)
    if form == "html":
        from cowfreeze._explain.picture.html import page_text

        write_whole(file, page_text(picture))
    else:
        from cowfreeze._explain.picture.image import write_image

        write_image(picture, os.fspath(file), form)


def check_form(form: str, file: str) -> None:
    """Raise what ``save`` would raise about FORM, before any work was done."""
    if form not in FORMS:
        raise ValueError(f"a picture cannot be written to {file!r}: give a name that ends in .html, .png or .svg")
    if form != "html" and importlib.util.find_spec("matplotlib") is None:
        raise CowfreezeError(
            f"{form.upper()} pictures need matplotlib, which is not installed: "
            "pip install 'cowfreeze[plot]', or write an .html file, which needs nothing"
        )
