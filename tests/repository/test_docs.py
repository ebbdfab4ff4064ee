"""The documentation: its code runs, its links lead somewhere, its figures are those of result files.

A page is run from top to bottom as a reader would (tests/helpers/docs.py). The tutorial and what needs no
server runs always; pages that start servers or run for longer are slow: `make test-docs` runs all.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.docs import Block, blocks, missing_line, run_page, shape

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the tests stand alone, without the documentation")

ALWAYS = {"README.md", "tutorial.md", "choose.md"}
README = ROOT / "README.md"
PAGES = sorted([README, DOCS / "tutorial.md", *(DOCS / "howto").glob("*.md")])
CODE = {"sh", "python"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=() if p.name in ALWAYS else pytest.mark.slow, id=name(p)) for p in PAGES],
)
def test_what_a_page_shows_happens(page: Path, tmp_path: Path) -> None:
    code = [block for block in blocks(page) if block.kind in CODE and not block.title]
    skipped = run_page(page, tmp_path)
    for line in skipped:
        print("skipped", line)
    if code and len([line for line in skipped if line]) and all(block.reason_to_skip() for block in code):
        pytest.skip("; ".join(skipped))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_found(page: Path) -> None:
    """A fence that the pattern does not see would be code that nobody runs."""
    fences = re.findall(r"^\s*```", page.read_text(), re.M)
    assert len(fences) == 2 * len(blocks(page))


def test_invariants_are_all_in_their_table() -> None:
    """Of what a page numbers (`* **H8** ...`), the table names the first and the last."""
    internals = DOCS / "internals"
    for row in (internals / "invariants.md").read_text().splitlines():
        page = re.search(r"\]\((\w+\.md)\) \|$", row)
        for letter, last in re.findall(r"([A-Z])1–[A-Z](\d+)", row) if page else ():
            numbers = re.findall(rf"\*\*{letter}(\d+)\*\*", (internals / page[1]).read_text())
            assert max(map(int, numbers)) == int(last), f"{letter} in {page[1]}"


def test_a_wrong_page_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('```python\nprint("three", 3)\n```\n\n```text\nthree 4\n```\n')
    assert run_page(page, tmp_path) == []
    page.write_text('```python\nprint("three", 3)\n```\n\n```text\nfour 4\n```\n')
    with pytest.raises(pytest.fail.Exception, match="four 4"):
        run_page(page, tmp_path)
    page.write_text("```sh\nfalse\ntrue\n```\n")
    with pytest.raises(pytest.fail.Exception, match="exit status 1"):
        run_page(page, tmp_path)


def test_lines_are_compared_in_order() -> None:
    assert missing_line("a 1\n...\nb 2 MiB\n", "a 20\nx\n b   3.5 KiB  more\n") == ""
    assert missing_line("b\na\n", "a\nb\n") == "a"
    assert shape("7.5 MiB   0 pages") == "# #"
    assert Block("sh", "", "", 1, {"needs": "no_such_module"}).reason_to_skip()


def rows(text: str) -> list[dict[str, str]]:
    """The rows of all tables of a Markdown TEXT, by column."""
    found = []
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif not set(line) <= set("|-: "):
            found.append(dict(zip(columns, cells, strict=True)))
    return found


def test_measured_table_is_that_of_its_result_file() -> None:
    text = README.read_text()
    result = re.search(r"\((bench/results/[\w.-]+\.md)\)", text)
    assert result is not None
    measured = (ROOT / result[1]).read_text()
    shown = [row for row in rows(text) if "mode" in row]
    assert len(shown) >= 5
    for row in shown:
        assert any(row.items() <= other.items() for other in rows(measured)), row
    command = re.search(r"^cowfreeze bench .*$", text.replace("\\\n  ", ""), re.M)
    assert command is not None and command[0] in measured.splitlines()


def test_readme_has_the_order_of_its_first_screen() -> None:
    """What it is, how, measured, gunicorn, in a program, set-up, versions, when not, links."""
    text = README.read_text()
    marks = [
        "# cowfreeze", "Freezes Python objects", "After a fork", "| mode |", "cowfreeze bench ",
        "preload_app = True", "fork_workers(", "assert_shared()", "make demo", "make test",
        "| CPython 3.12", "## When not to use it", "**Frozen objects are never freed.**", "docs/tutorial.md",
    ]  # fmt: skip
    positions = [text.index(mark) for mark in marks]
    assert positions == sorted(positions)
    code = {block.title or block.kind: block.text for block in blocks(README)}
    assert len(code["gunicorn.conf.py"].splitlines()) == 8
    assert len(code["python"].splitlines()) == 6


DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "csrc").glob("*.md"), *(ROOT / "bench").glob("*.md"), *DOCS.rglob("*.md")]
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
# Pages of the site that .ci/docs_hooks.py makes from files elsewhere in the repository.
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]+`(?!\]\()", "", page.read_text(), flags=re.M | re.S)
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{name(page)}: {target} leads nowhere"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{name(page)}: {target}: no such heading"
