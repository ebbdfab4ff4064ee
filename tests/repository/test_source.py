"""Rules about the source tree that no compiler checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M)


@pytest.mark.parametrize("path", sources("csrc", "src"), ids=name)
def test_version_differences_stand_in_compat_h(path: Path) -> None:
    if path == CSRC / "cpython/compat.h":
        return
    found = re.findall(r"PY_VERSION_HEX|PY_(?:MAJOR|MINOR|MICRO)_VERSION|Py_GIL_DISABLED", path.read_text())
    assert not found, f"{name(path)}: move it to csrc/cpython/compat.h and give the feature a name"


# csrc/README.md shows them. A file includes its own folder and the grounds before it; an operation, all grounds.
GROUNDS = ("base", "proc", "cpython", "objects", "allocators", "measure", "copy")
OPERATIONS = ("freeze", "move", "clone", "pack", "explain", "trap", "exit")
# They measure and keep books: they must work without an interpreter.
WITHOUT_PYTHON = ("base", "proc", "measure", "move")


def test_every_c_file_has_a_room() -> None:
    assert {path.name for path in CSRC.iterdir()} == {*GROUNDS, *OPERATIONS, "README.md"}


@pytest.mark.parametrize("path", sources("csrc"), ids=name)
def test_includes_point_downwards(path: Path) -> None:
    room = path.parent.name
    for header in includes(path):
        assert (CSRC / header).exists(), f"{name(path)} includes {header}: by its whole path below csrc"
        other = header.split("/")[0]
        below = GROUNDS[: GROUNDS.index(room)] if room in GROUNDS else GROUNDS
        assert other == room or other in below, f"{name(path)} includes {header}, which is not below it"


def parts_of_c() -> dict[str, str]:
    """Each C file and the header of its name as one part: its text without comments and strings."""
    parts: dict[str, str] = {}
    for path in sources("csrc", patterns=("*.c", "*.h")):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
        part = str(path.relative_to(CSRC).with_suffix(""))
        parts[part] = parts.get(part, "") + text
    return parts


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle of ARROWS, or nothing: parts that only point to parts without arrows are taken away until none is."""
    left = dict(arrows)
    while free := [part for part, to in left.items() if not to & left.keys() - {part}]:
        for part in free:
            del left[part]
    return sorted(left)


def test_no_circle_of_includes_between_c_files() -> None:
    arrows = {
        part: {str(Path(header).with_suffix("")) for header in re.findall(r'#\s*include\s+"([^"]+)"', text)}
        for part, text in parts_of_c().items()
    }
    assert arrows["pack/pack"] > {"pack/store", "pack/graph"}
    assert not circle(arrows)


def test_no_circle_of_calls_between_c_files() -> None:
    """A file calls what lies below it. (What is handed over as a pointer to a function is no call.)"""
    parts = parts_of_c()
    home = {name: part for part, text in parts.items() for name in re.findall(r"^(cf_\w+)\(", text, re.M)}
    arrows = {
        part: {home[name] for name in re.findall(r"\b(cf_\w+)\s*\(", text) if name in home}
        for part, text in parts.items()
    }
    assert "pack/values" in arrows["pack/leaves"]
    assert not circle(arrows)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == ["a", "b", "c"]


@pytest.mark.parametrize("room", WITHOUT_PYTHON)
def test_does_without_python_h(room: str) -> None:
    """Not even through another header."""
    todo = [*(CSRC / room).iterdir()]
    assert todo
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        assert not re.search(r"#\s*include\s*<Python\.h>", path.read_text()), f"{room} includes Python.h: {name(path)}"
        todo += [CSRC / header for header in includes(path)]


def test_tests_stand_in_folders_as_the_source() -> None:
    assert [path.name for path in (ROOT / "tests").glob("*.py")] == ["conftest.py"]


@pytest.mark.parametrize("path", sources("csrc", "src", "tests", "bench"), ids=name)
def test_no_file_wants_a_second_room(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines"


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.c", "*.h")), ids=name)
def test_c_file_opens_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith(f"/* {path.name} - "), "essay at the top: /* name.c - what"


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.h",)), ids=name)
def test_include_guard_is_the_files_name(path: Path) -> None:
    found = re.search(r"^#ifndef (\w+)\n#define \1$", path.read_text(), re.M)
    stem, room = path.stem.upper(), path.parent.name.upper()
    assert found and found[1] in (f"CF_{stem}_H", f"CF_{room}_{stem}_H")


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
    if re.search(r"^\s*(?:def|class) |^\w+: ", text, re.M):
        assert "from __future__ import annotations" in text


@pytest.mark.parametrize("path", sources("csrc", patterns=("*.c", "*.h")), ids=name)
def test_never_what_copies_shared_pages(path: Path) -> None:
    """These copy each page that they touch; the words may stand in comments."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
    if path.name == "huge_pages.c":  # the one place, which refuses while anybody shares the pages
        code = code.replace("MADV_COLLAPSE", "")
    assert not re.search(r"\b(process_vm_readv|mlock|mlockall|MADV_COLLAPSE|MADV_POPULATE_WRITE)\b", code)


# --- src/cowfreeze: which module may import which

# A file imports from its own room and from those before it, also where it imports within a function or for types
# alone. "" is the face, cowfreeze/__init__.py: what stands before it is the public half, what comes after it may use
# that as any program does.
ROOMS = (
    "_origin", "_errors", "_sizes", "_files", "_tables", "_core", "_support", "_unsupported", "_system", "_clone", "_exit", "_explain", "_trap", "_freeze",
    "_pack", "_workers", "_zygote", "", "_plugin", "bench", "integrations", "cli", "__main__",
)  # fmt: skip
PACKAGE = ROOT / "src" / "cowfreeze"


@cache
def modules() -> dict[str, Path]:
    found = {PACKAGE / "_core.pyi", *sources("src/cowfreeze", patterns=("*.py",))}
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in found}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imported(path: Path) -> Iterator[str]:
    """The modules of cowfreeze that PATH names in an import anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports by the whole name"
            for alias in node.names:
                deep = f"{node.module}.{alias.name}"
                if deep in modules():
                    yield deep
                elif node.module in modules():
                    yield str(node.module)


def room(module: str) -> str:
    return module.removeprefix("cowfreeze").lstrip(".").partition(".")[0]


@pytest.mark.parametrize("path", sources("src/cowfreeze", patterns=("*.py",)), ids=name)
def test_imports_point_downwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    own = "" if own == "__init__" else own
    assert own in ROOMS, f"{own} has no place in ROOMS: what is below it?"
    for module in imported(path):
        assert room(module) in ROOMS[: ROOMS.index(own) + 1], f"{name(path)} imports {module}, which is not below it"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    arrows = {module: set(imported(path)) - {module} for module, path in modules().items()}
    assert sum(map(len, arrows.values())) > 300  # else nothing was read
    while arrows:
        free = {module for module, below in arrows.items() if not below & arrows.keys()}
        assert free, f"a circle goes through some of these: {sorted(arrows)}"
        arrows = {module: below for module, below in arrows.items() if module not in free}
