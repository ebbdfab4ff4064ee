"""Free memory, counters, caches: each remedy against a heap that is bad without it.

Cases: tests/freeze/cases_heap.py. Every limit lies far from both figures, with and without.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.child import run_in_child, run_once
from helpers.plugin import needs_immortal

GLIBC = platform.libc_ver()[0] == "glibc"
needs_glibc = pytest.mark.skipif(not GLIBC, reason="malloc is sealed on glibc only")


def both(case: str) -> tuple[Any, Any]:
    """The case with the remedy and without."""
    return run_in_child("freeze.cases_heap", case, True), run_in_child("freeze.cases_heap", case, False)


@needs_glibc
def test_free_chunks_of_malloc() -> None:
    sealed, open_ = both("free_chunks")
    assert open_["copied"] > 500, "the plant is no plant"
    assert sealed["copied"] < open_["copied"] / 4
    assert sealed["sealed"] == sealed["dict"] > 3_000_000
    assert open_["sealed"] == 0
    assert not any("C library" in note for note in sealed["notes"] + open_["notes"])


@needs_glibc
def test_each_size_class_of_malloc() -> None:
    result = run_in_child("freeze.cases_heap", "small_chunks")
    assert result["sizes"] == 64 and result["reused"] == []


# Stands for jemalloc or tcmalloc: hands memory out one block after the other, frees nothing.
BUMP = r"""
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
static char *next;
void *malloc(size_t size)
{
    if (next == NULL) {
        next = mmap(NULL, (size_t)4 << 30, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    size_t *block = (size_t *)__atomic_fetch_add(&next, (size + 47) & ~(size_t)15, __ATOMIC_SEQ_CST);
    block[1] = size;
    return block + 2;
}
void free(void *block) { (void)block; }
void *calloc(size_t n, size_t size) { return malloc(n * size); }
void *realloc(void *block, size_t size)
{
    void *other = malloc(size);
    return block ? memcpy(other, block, ((size_t *)block)[-1] < size ? ((size_t *)block)[-1] : size) : other;
}
"""


@needs_glibc
def test_a_malloc_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    source, library = tmp_path / "bump.c", tmp_path / "bump.so"
    source.write_text(BUMP)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make another malloc with")
    # -O0: an optimizer makes a call of calloc out of calloc.
    subprocess.run([compiler, "-O0", "-fno-builtin", "-w", "-shared", "-fPIC", source, "-o", library], check=True)
    result = run_in_child("freeze.cases_heap", "preloaded_malloc", environment={"LD_PRELOAD": str(library)})
    (note,) = (note for note in result["notes"] if "C library" in note)
    assert "not glibc's own" in note
    assert result["sealed"] == 0
    # It might expect zeros where it gave pages back; in a memfd they are what they were.
    refused = run_in_child("freeze.cases_moving", "refused_malloc", environment={"LD_PRELOAD": str(library)})
    assert "malloc is not glibc's own" in refused or sys.version_info < (3, 12)


def test_free_pools_of_pymalloc() -> None:
    sealed, open_ = both("free_pools")
    assert open_["copied"] > 500, "the plant is no plant"
    assert sealed["copied"] < open_["copied"] / 4
    # Three of the four pages of a pool go back, where a page is 4 KiB.
    assert sealed["sealed"] > 5_000_000
    assert 0 < sealed["returned"] < sealed["sealed"]
    assert open_["sealed"] == open_["returned"] == 0


@needs_immortal
def test_the_type_cache_lets_go_of_names() -> None:
    result = run_in_child("freeze.cases_heap", "type_cache")
    assert result["cached"] > 100, "the plant is no plant"
    assert result["still"] == 0


@needs_immortal
def test_counters_of_shared_keys() -> None:
    stopped, counting = both("shared_keys")
    assert counting["copied"] > stopped["copied"] + 30
    # A class whose instances have shown six attributes keeps room for one more; a class
    # without instances keeps all of it, or sharing would end for it.
    assert stopped["rooms"][0] == 7 < counting["rooms"][0]
    assert stopped["rooms"][1] == counting["rooms"][1] > 20
    for result in (stopped, counting):
        assert result["attributes"] == 8
        assert result["fresh"] == [f"attribute_{k}" for k in range(6)]


def test_the_warm_up_is_called_before() -> None:
    result = run_in_child("freeze.cases_heap", "warmup_calls")
    assert result["states"] == [False] and result["after"] is True
    assert result["calls"] == (2 if sys.version_info >= (3, 12) else 1)


def test_a_warm_up_that_fails_changes_nothing() -> None:
    result = run_in_child("freeze.cases_heap", "warmup_fails")
    assert result["caught"] == ["the database"] * 3
    assert result["kept"] == 0, "book-keeping is left behind"
    *types, roots = result["wrong"]
    assert len(types) == 3 and all("warmup=" in text for text in types)
    assert "without roots" in roots
    assert result["marked"] is False and result["frozen"] == 0


@needs_immortal
def test_a_warm_up_fills_caches() -> None:
    result = run_in_child("freeze.cases_heap", "warmup_fills")
    assert result["cold"] > result["warm"] + 20


def test_a_sealed_heap_goes_on_serving() -> None:
    first, second, parent, rows = run_once("freeze.cases_heap", "in_the_worker_too")
    assert first == second == parent > 0 and rows == 1000


@pytest.mark.parametrize(
    "allocator",
    ["malloc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pymalloc_debug", "malloc_debug"))],
)
def test_a_sealed_heap_with_another_allocator(allocator: str) -> None:
    first, second, parent, rows = run_in_child(
        "freeze.cases_heap", "in_the_worker_too", environment={"PYTHONMALLOC": allocator}
    )
    assert first == second == parent > 0 and rows == 1000


def test_pools_with_one_free_block_are_known_as_pools() -> None:
    """There, no two blocks in a row come from one pool, and that was taken for another allocator."""
    result = run_in_child("freeze.cases_heap", "pools_with_one_free_block")
    assert result["pools"] >= 200
    assert not [note for note in result["notes"] if "PYTHONMALLOC" in note]
    assert result["sealed"] >= 512 * (result["pools"] - 2)


def test_pools_with_living_objects_are_not_given_back() -> None:
    """Where more blocks are free than are sealed, partly used pools are met again by what fills free ones."""
    result = run_in_child("freeze.cases_heap", "many_free_blocks")
    assert result["living"] == 81_250
    assert result["sealed"] > 500 << 20, "there were fewer than a freeze seals: nothing was tested"
