"""A second freeze: idempotent, and incremental."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import Any

from cowfreeze import _core, freeze
from helpers.cases import HAS_IMMORTAL, count_of, is_marked, mortal, needs, pages_of, raw
from freeze.zoo import KINDS, Plain, text


def _rows(n: int) -> list[Any]:
    return [[text(), {text(): (k + 10**6, text())}, Plain(text(), k)] for k in range(n)]


def _inside(rows: list[Any]) -> list[Any]:
    inside: list[Any] = []
    for row in rows:
        key, value = next(iter(row[1].items()))
        inside += [row, *row, key, value, *value, row[2].plain_one]
    return [obj for obj in inside if not isinstance(obj, int) or obj > 10**5]


def _contents(objects: list[Any]) -> list[bytes]:
    """Header and body of each, with the collector's words in front."""
    return [
        raw(obj, 16 if obj.__class__.__flags__ & (1 << 14) else 0, max(16, type(obj).__basicsize__))
        for obj in objects
    ]


def idempotent() -> dict[str, Any]:
    rows = _rows(2000)
    objects = _inside(rows)
    first = freeze(rows)
    before = _contents(objects)
    second = freeze(rows)
    third = freeze(rows, gc_freeze=False)
    return {
        "first": first.objects >= len(objects),
        "again": [second.objects, second.bytes, third.objects],
        "pages": [first.pages > 0, second.pages == 0, third.pages == 0],
        "changed": sum(a != b for a, b in zip(before, _contents(objects))) if HAS_IMMORTAL else 0,
        "by_type": second.by_type,
    }


def grows() -> dict[str, Any]:
    """A frozen list takes new rows, a frozen dict new entries, an instance new attributes."""
    rows = _rows(2000)
    table: dict[str, Any] = {text(): [text()]}
    holder = Plain(text(), text())
    old = _inside(rows)
    first = freeze(rows, table, holder)
    before = _contents(old)
    new_rows = _rows(100)
    key, value, attribute = text(), [text()], [text()]
    rows.extend(new_rows)
    table[key] = value
    holder.extra = attribute  # type: ignore[attr-defined]
    new = [*_inside(new_rows), key, value, value[0], attribute, attribute[0]]
    for obj in new:
        mortal(obj)
    second = freeze(rows, table, holder)
    return {
        "unmarked": sum(not is_marked(obj) for obj in new),
        "objects": [len(new), second.objects, first.objects],
        "changed": sum(a != b for a, b in zip(before, _contents(old))) if HAS_IMMORTAL else 0,
        "tracked": sum(gc.is_tracked(obj) for obj in new),
    }


def second_freeze_writes_no_old_page() -> dict[str, int]:
    """Page by page: against a witness forked between the two."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    rows = _rows(10_000)
    freeze(rows)
    pages = pages_of(_inside(rows))
    new = [text(), [text()]]
    with _core.Witness() as witness:
        freeze(rows, new)
        copied = set(_core.copied_addresses(witness)) & pages
    # The same list, seen by a loop that does write.
    with _core.Witness() as witness:
        for page in list(pages)[:50]:
            byte = ctypes.c_ubyte.from_address(page)
            byte.value = byte.value
        planted = set(_core.copied_addresses(witness)) & pages
    assert is_marked(new[0])
    return {"pages": len(pages), "copied": len(copied), "planted": len(planted)}


def whole_heap_twice() -> dict[str, Any]:
    """A second freeze of everything takes what came between them, and no more than that."""
    first = freeze()
    data = _rows(100)
    second = freeze()
    return {
        "first": first.objects,
        "second": second.objects,
        "unmarked": sum(not is_marked(obj) for obj in _inside(data)),
    }


def data_after_gc_freeze() -> dict[str, Any]:
    """What gc.freeze() put away earlier is found by a freeze of everything."""
    data = _rows(100)
    gc.freeze()
    report = freeze()
    return {
        "objects": report.objects,
        "unmarked": sum(not is_marked(obj) for obj in _inside(data)),
        "thawed": gc.get_freeze_count() == 0,
    }


class _Finalised:
    def __del__(self) -> None:
        pass


def dry_run() -> dict[str, Any]:
    """A dry run counts what a freeze would do and writes to nothing."""
    graph = [maker()[0] for maker in KINDS.values()]
    rows = _rows(500)
    # Weak references with callbacks: taken if what they refer to is.
    for one in (Plain(1, 2), _Finalised()):
        rows.append([Plain(1, 2), text(), {1: [2, 2]}, one, weakref.ref(one, len)])
    objects = _inside(rows[:-2])
    gc.collect()
    permanent = gc.get_freeze_count()
    before = _contents(objects)
    dry = freeze(rows, graph, dry_run=True, collect=False)
    changed = sum(a != b for a, b in zip(before, _contents(objects)))
    # Page by page, too: hashes and whatever has no header.
    pages = pages_of(objects)
    with _core.Witness() as witness:
        freeze(rows, dry_run=True, collect=False)
        copied = len(set(_core.copied_addresses(witness)) & pages)
    counts = [sys.getrefcount(objects), count_of(objects)]
    del one
    unmarked = not any(map(is_marked, [rows, graph, *rows]))
    untouched = gc.get_freeze_count() == permanent and _core.frozen_pages() == 0
    wet = freeze(rows, graph)
    return {
        "changed": changed,
        "copied": copied,
        "pages": len(pages),
        "unmarked": unmarked,
        "untouched": untouched,
        "objects": [dry.objects, wet.objects],
        "bytes": [dry.bytes, wet.bytes],
        "skipped": [dry.skipped, wet.skipped],
        "words": ["would freeze" in str(dry), "would freeze" in repr(dry), dry.dry_run, wet.dry_run],
        "sane": counts[0] < 10,
    }


def dry_run_after_gc_freeze() -> dict[str, Any]:
    """Neither a dry run nor a freeze that fails gives back what the caller put away."""
    data = _rows(10)
    gc.freeze()
    permanent = gc.get_freeze_count()
    young = [_rows(10)]
    report = freeze(dry_run=True, collect=True)
    dry = gc.get_freeze_count()
    still_young = any(one is young for one in gc.get_objects())
    gc.freeze()
    permanent_now = gc.get_freeze_count()
    _core.fail_allocation(1)
    try:
        freeze()
    except MemoryError:
        pass
    finally:
        _core.fail_allocation(-1)
    failed = gc.get_freeze_count()
    assert len(data) == 10
    ending = _Finalised()
    freeze(gc_freeze=False)
    # Compared loosely: a few objects of the calls themselves come and go.
    return {
        "permanent": permanent,
        "dry": permanent if abs(dry - permanent) < 300 else dry,
        "failed": permanent if abs(failed - permanent_now) < 300 else failed,
        "still young": still_young,
        "still tracked": any(one is ending for one in gc.get_objects()),
        "found": report.objects,
    }
