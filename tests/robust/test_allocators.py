"""Every allocator that there is: no crash, a true note, and the figure of what a worker copies.

`make test-allocators` installs the libraries and prints the table. Cases: cases_allocators.py.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.child import run_in_child
from helpers.compiled import build

HERE = Path(__file__).parent
CASES = "robust.cases_allocators"
BREAK = "program break"
FOREIGN = "not glibc's own"

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is sealed on glibc only")

# Part of what the note must say; None: sealed, and no note.
TUNABLES: dict[str, str | None] = {
    "hugetlb=1": None,
    "hugetlb=2": BREAK,
    "tcache_max=4194304:glibc.malloc.tcache_count=65535": None,
    "tcache_count=0": None,
    "mxfast=0": None,
    "mmap_max=0": None,
    "top_pad=10000000": None,
    "trim_threshold=10": None,
    "perturb=85": None,
    "arena_max=1": None,
}
PYTHONMALLOC = "default pymalloc malloc debug pymalloc_debug malloc_debug mimalloc mimalloc_debug".split()
LIBRARIES = {
    "libjemalloc.so.2": "libjemalloc2",
    "libtcmalloc_minimal.so.4": "libtcmalloc-minimal4",
    "libmimalloc.so.2": "libmimalloc2.0",
    "libefence.so.0": "electric-fence",
    "libc_malloc_debug.so.0": "libc6",
}


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Figures of the settings that were tried; printed at the end."""
    rows: dict[str, Any] = {}
    yield rows
    writer = request.config.get_terminal_writer()
    writer.line()
    for setting, row in rows.items():
        done = "sealed" if row["chunks"] is None else row["chunks"].split(" (")[0]
        pools = "pools filled" if row["pools"] else "no pools"
        writer.line(f"{setting:52} {row['copied']:6,} pages  {pools:12}  {done}")


@pytest.fixture(scope="module")
def racers(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("racers") / "racers.so"
    return str(build(output, HERE / "racers.c", (), ["-shared", "-fPIC", "-ldl"]))


def check(table: dict[str, Any], setting: str, note: str | None, racers: str | None, **environment: str) -> None:
    result = run_in_child(CASES, "frozen", racers, environment=environment, timeout=600)
    table[setting] = result
    said = [text for text in result["notes"] if "C library" in text]
    if note is None:
        assert result["chunks"] is None and said == []
    else:
        assert note in result["chunks"] and note in said[0]
    assert result["copied"] >= 0


@pytest.mark.parametrize("setting", TUNABLES)
def test_tunables_of_glibc(table: dict[str, Any], racers: str, setting: str) -> None:
    check(table, setting, TUNABLES[setting], racers, GLIBC_TUNABLES=f"glibc.malloc.{setting}")


@pytest.mark.parametrize("value", PYTHONMALLOC)
def test_allocators_of_the_interpreter(table: dict[str, Any], racers: str, value: str) -> None:
    if "mimalloc" in value and (sys.version_info < (3, 13) or not sysconfig.get_config_var("WITH_MIMALLOC")):
        pytest.skip("this build has no mimalloc")
    check(table, f"PYTHONMALLOC={value}", None, racers, PYTHONMALLOC=value)
    row = table[f"PYTHONMALLOC={value}"]
    assert row["pools"] == (value in ("default", "pymalloc", "debug", "pymalloc_debug"))
    assert any("pymalloc" in note for note in row["notes"]) == ("mimalloc" in value)  # malloc's heap is sealed


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("objects", ["pymalloc", "malloc"])
def test_preloaded_allocators(table: dict[str, Any], racers: str, library: str, objects: str) -> None:
    usual = Path("/usr/lib")
    folders = [usual, Path("/usr/lib64"), *usual.glob("*-linux-gnu"), *Path("/lib").glob("*-linux-gnu")]
    found = next((str(folder / library) for folder in folders if (folder / library).exists()), None)
    if found is None:
        pytest.skip(f"{library} is not installed (Debian: apt install {LIBRARIES[library]})")
    fence = library.startswith("libefence")
    if fence and objects == "malloc":
        pytest.skip("a page and more for each object is more than a process may map")
    extra = {"EF_PROTECT_BELOW": "1", "EF_ALLOW_MALLOC_0": "1"} if fence else {"MALLOC_CHECK_": "3"}
    if "malloc_debug" in library:
        # In front of glibc's own, which it calls; a probe tells whether to the byte.
        environment = {"LD_PRELOAD": found, "PYTHONMALLOC": objects, **extra}
        result = run_in_child(CASES, "frozen", racers, environment=environment)
        table[f"{library}, {objects}"] = result
        assert result["chunks"] is None or FOREIGN in result["chunks"]
        return
    setting = f"{library}, {objects}"
    check(table, setting, FOREIGN, None if fence else racers, LD_PRELOAD=found, PYTHONMALLOC=objects, **extra)


@pytest.mark.parametrize("source, note", [("no_break", BREAK), ("guards", FOREIGN)])
def test_memory_that_is_not_there(table: dict[str, Any], tmp_path: Path, source: str, note: str) -> None:
    library = str(build(tmp_path / f"{source}.so", HERE / f"{source}.c", (), ["-shared", "-fPIC", "-fno-builtin"]))
    check(table, source, note, None, LD_PRELOAD=library)


@pytest.mark.parametrize("slow", [False, True])
def test_a_thread_that_trims_the_heap(racers: str, slow: bool) -> None:
    environment = {"MALLOC_ARENA_MAX": "1", **({"LD_PRELOAD": racers} if slow else {})}
    seconds = float(os.environ.get("RACE_SECONDS", "2"))
    result = run_in_child(CASES, "raced", racers, seconds, environment=environment, timeout=600)
    assert result["freezes"] >= 3
    assert all(reason == "None" or BREAK in reason for reason in result["reasons"]), result


@pytest.mark.skipif(sys.version_info < (3, 12), reason="remap needs immortal objects")
def test_a_large_cache_is_no_other_malloc() -> None:
    tunables = "glibc.malloc.tcache_max=4194304:glibc.malloc.tcache_count=65535"
    for _ in range(3):
        notes = run_in_child(CASES, "moved", environment={"GLIBC_TUNABLES": tunables})
        assert not any("malloc" in note for note in notes), notes
