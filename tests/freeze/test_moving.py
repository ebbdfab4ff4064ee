"""Moved memory: freeze(remap=True) and freeze(hugepages=True). Cases: tests/freeze/cases_moving.py.

The audit is tested with planted writes: pages that the worker wrote, that the parent wrote before
the fork, after it, and both; only the first kind and the last may count, and all of them must.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from helpers.child import CaseSkipped, run_in_child

MIB = 1 << 20
HAS_IMMORTAL = sys.version_info >= (3, 12)
needs_immortal = pytest.mark.skipif(not HAS_IMMORTAL, reason="remap needs immortal objects (3.12)")


def run(case: str, *arguments: Any, **options: Any) -> Any:
    try:
        return run_in_child("freeze.cases_moving", case, *arguments, **options)
    except CaseSkipped as reason:
        pytest.skip(str(reason))


def check_audit(audit: dict[str, int]) -> None:
    assert audit["planted"] >= 10, audit
    assert audit["missed"] == 0, "each page that the worker wrote counts"
    assert audit["wrong"] == 0, "no page that only the parent wrote counts"
    # What happens to lie beside frozen objects at the border of the graph; not the thousands read.
    assert audit["clean"] <= 64 and audit["more"] <= 32, audit


@needs_immortal
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc"])
def test_remap_keeps_every_byte_and_the_audit_stays_exact(allocator: str) -> None:
    result = run("remapped", environment={"PYTHONMALLOC": allocator})
    assert result["same"] is True, "contents and addresses"
    size, mappings, huge = result["report"]
    assert size > 8 * MIB and huge == 0
    assert result["dict"] == {"remapped_bytes": size, "remapped_mappings": mappings, "hugepage_bytes": 0}
    assert "move" in result["phases"]
    assert any("moved to memfds" in note for note in result["notes"])
    assert result["private"] and result["mappings"] == mappings
    assert all(result["sealed"])
    assert result["moved"] > 0.8, "most records lie in moved memory"
    check_audit(result["audit"])


@needs_immortal
def test_remapped_pages_are_named() -> None:
    explained = run("remapped", environment={"PYTHONMALLOC": "pymalloc"})["explained"]
    assert explained["frozen_copied"] >= 10
    assert explained["named"] >= 10, "written dicts are named as dicts"
    inherited, anonymous, moved = explained["inherited"]
    assert moved > 8 * MIB and inherited > moved + anonymous // 2, "moved pages are inherited ones"
    assert explained["areas"].get("anon", 0) >= 10, explained["areas"]
    trap = explained["trap"]
    # A page at the border of the graph may hold a mortal object; thousands were read.
    assert trap["read"] <= 16, "reading a page that fork left out is no write"
    assert trap["wrote"] is True and trap["owners"] >= 6, trap


@needs_immortal
def test_remap_of_the_whole_heap() -> None:
    result = run("whole_heap")
    assert result["same"] is True and result["bytes"] > 4 * MIB
    assert result["clean"] <= 64


@needs_immortal
def test_moved_tables_grow() -> None:
    """realloc() moves a mapping beyond its file's end: R5 in csrc/move/remap.c."""
    result = run("grows")
    assert result["bytes"] > 8 * MIB
    assert result["worker"] is True and result["parent"] is True


@needs_immortal
def test_second_freeze_and_fork_in_fork() -> None:
    result = run("again")
    assert all(size > 2 * MIB for size in result["bytes"]) and result["more"]
    same, copied, same_inside, copied_inside = result["trees"]
    assert same is True and same_inside is True
    assert copied <= 64 and copied_inside <= 64, "of thousands of frozen pages that were read"
    assert result["parent"] is True


@pytest.mark.parametrize("option", [pytest.param("remap", marks=needs_immortal), "hugepages"])
def test_refused_by_name(option: str) -> None:
    result = run("refused_here", option)
    assert "exclude each other" in result["both"]
    assert "1 other thread" in result["threads"]
    assert "another process has pages" in result["sharers"]
    if "locked" in result:
        assert "mlock" in result["locked"]
    if "pinned" in result:
        assert "io_uring" in result["pinned"]
    assert all("nothing was frozen" in text for name, text in result.items() if name != "both")


@needs_immortal
@pytest.mark.parametrize("by", ["filter", "size"])
def test_refused_without_memfd(by: str) -> None:
    assert "memfd_create or the size of its file is forbidden" in run("refused_memfd", by)


@needs_immortal
def test_refused_with_too_many_mappings() -> None:
    result = run("refused_mappings")
    assert "vm.max_map_count" in result["text"], result


@needs_immortal
def test_refused_without_address_space() -> None:
    text = run("refused_memory")
    assert "no memory" in text or text.startswith("MemoryError"), text


@needs_immortal
def test_refused_in_a_worker_that_shares_pages() -> None:
    assert "the process that this one was forked from" in run("shared_with_parent")


@needs_immortal
def test_failure_half_way_moves_everything_back() -> None:
    result = run("half_way")
    assert result["failed"] >= 3, "several steps could fail"
    assert any("remap=True was refused, the freeze itself is complete" in note for note in result["notes"])
    assert result["same"] is True and result["bytes"] > 4 * MIB
    check_audit(result["audit"])


@pytest.mark.skipif(HAS_IMMORTAL, reason="for versions without immortal objects")
def test_remap_is_refused_where_readers_write() -> None:
    import cowfreeze

    with pytest.raises(cowfreeze.UnsupportedError, match="immortal objects"):
        cowfreeze.freeze([1], remap=True)


def test_huge_pages() -> None:
    result = run("huge")
    assert result["same"] is True and result["remapped"] == 0
    assert result["bytes"] >= 4 * MIB and result["gained"] >= result["bytes"] // 2
    assert any("huge pages" in note for note in result["notes"])
    assert result["second"] > 0
    if HAS_IMMORTAL:
        check_audit(result["audit"])


def test_huge_pages_that_are_disabled() -> None:
    assert "huge pages cannot be made here" in run("huge_disabled")
