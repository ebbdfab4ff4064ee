"""Rules about the source tree that no compiler checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
MAX_LINES = 450
# Words of section 8 of the design, and what they are called instead.
WORDS = {
    r"\bleak(s|ed|ing)?\b": "a copied page is copied, not leaked",
    r"\bmaster\b": "zygote or parent",
    r"\bpin(s|ned|ning)?\b": "freeze, or keep",
}
CODE = ("*.c", "*.h", "*.py", "*.pyx", "*.pxi", "*.pxd")
BUILT = {"_core.c"}

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the tests stand alone, without sources")


def sources(*folders: str, patterns: tuple[str, ...] = CODE) -> list[Path]:
    found = [
        path
        for folder in folders
        for pattern in patterns
        for path in sorted((ROOT / folder).rglob(pattern))
        if path.name not in BUILT and not any(part.startswith(".") for part in path.parts[len(ROOT.parts) :])
    ]
    assert found or not CSRC.is_dir(), folders  # beside a wheel there are no sources, and all of this is skipped
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layers() -> dict[str, int]:
    """Layer by file stem, from the table in csrc/README.md; a line's first other word ends it."""
    stems = {path.stem for path in CSRC.iterdir()}
    result: dict[str, int] = {}
    layer = None
    for line in (CSRC / "README.md").read_text().splitlines():
        begin = re.match(r"L(\d)\s+", line)
        if begin:
            layer = int(begin[1])
        elif not line.startswith("    "):
            layer = None
        if layer is None:
            continue
        for word in line[begin.end() if begin else 0 :].split():
            stem = word.removesuffix(",").removesuffix(".c").removesuffix(".h")
            if stem not in stems:
                break
            result[stem] = layer
    assert len(result) > 10 and set(result.values()) == {0, 1, 2, 3}, result
    return result


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M)


@pytest.mark.parametrize("path", sources("csrc", "src"), ids=name)
def test_version_differences_stand_in_compat_h(path: Path) -> None:
    if path == CSRC / "compat.h":
        return
    found = re.findall(r"PY_VERSION_HEX|PY_(?:MAJOR|MINOR|MICRO)_VERSION|Py_GIL_DISABLED", path.read_text())
    assert not found, f"{name(path)}: move it to csrc/compat.h and give the feature a name"


@pytest.mark.parametrize("path", sources("csrc"), ids=name)
def test_includes_point_downwards(path: Path) -> None:
    """The operation's own header, cowfreeze.h, is the binding's and stands with layer 3."""
    known = {**layers(), "cowfreeze": 3}
    assert path.stem in known, f"{path.name} is in no layer of csrc/README.md"
    for header in includes(path):
        stem = header.removesuffix(".h")
        assert stem in known, f"{path.name} includes {header}, which is in no layer"
        assert known[stem] <= known[path.stem], (
            f"{path.name} (L{known[path.stem]}) includes {header} (L{known[stem]}) above it"
        )


# mem and what is built on it measure and keep books: they must work without an interpreter.
WITHOUT_PYTHON = ("mem", "maps", "objset", "pages", "pageset", "stack", "tables", "witness")


@pytest.mark.parametrize("stem", WITHOUT_PYTHON)
def test_does_without_python_h(stem: str) -> None:
    """Not even through another header."""
    todo = [path for path in (CSRC / f"{stem}.c", CSRC / f"{stem}.h") if path.exists()]
    assert todo
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        assert not re.search(r"#\s*include\s*<Python\.h>", path.read_text()), (
            f"{stem} includes Python.h through {path.name}"
        )
        todo += [CSRC / header for header in includes(path)]


@pytest.mark.parametrize("path", sources("csrc", "src", "tests", "bench"), ids=name)
def test_no_file_wants_a_second_room(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines"


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.c", "*.h")), ids=name)
def test_c_file_opens_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith(f"/* {path.name} - "), "essay at the top: /* name.c - what"


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.c",)), ids=name)
def test_published_c_names_have_the_prefix(path: Path) -> None:
    """A function that is not static is visible to every file: cf_<subject>_<verb>."""
    text = path.read_text()
    for match in re.finditer(r"^(?!static)[a-z][\w \t*]*\n(\w+)\(", text, re.M):
        if not match[0].startswith(("static", "typedef", "extern")):
            assert match[1].startswith("cf_"), f"{match[1]} in {path.name}: make it static"


@pytest.mark.parametrize(
    "path", sources("csrc", "src", "docs", patterns=(*CODE, "*.md")) + [ROOT / "README.md"], ids=name
)
def test_words(path: Path) -> None:
    text = path.read_text()
    for pattern, instead in WORDS.items():
        match = re.search(pattern, text, re.I)
        assert not match, f"{name(path)}: {match[0] if match else ''!r}: {instead}"


@pytest.mark.parametrize("path", sources("src", patterns=("*.py",)), ids=name)
def test_annotations_are_not_evaluated(path: Path) -> None:
    text = path.read_text()
    if "def " in text or ": " in text and "import" in text:
        assert "from __future__ import annotations" in text


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.c", "*.h")), ids=name)
def test_never_what_copies_shared_pages(path: Path) -> None:
    """These copy each page that they touch; the words may stand in comments."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
    if path.name == "collapse.c":  # the one place, which refuses while anybody shares the pages
        code = code.replace("MADV_COLLAPSE", "")
    assert not re.search(r"\b(process_vm_readv|mlock|mlockall|MADV_COLLAPSE|MADV_POPULATE_WRITE)\b", code)
