"""What to do about a cause: one sentence, or none where there is nothing to do."""

from __future__ import annotations

from cowfreeze._core import HAS_IMMORTAL

_BY_TYPE_AND_FIELD = {
    ("functools._lru_cache_wrapper", "contents"): (
        "this lru_cache is written on every hit: keep it out of the frozen graph or clear it "
        "after the fork"
    ),
    ("functools._lru_list_elem", "contents"): (
        "a bounded lru_cache relinks its entry on every hit: use maxsize=None, or clear it "
        "after the fork"
    ),
    ("random.Random", "contents"): (
        "every random number writes this generator's state (2.5 KiB): give the workers a "
        "generator of their own, random.Random(seed), made after the fork"
    ),
    ("malloc", "chunk header"): (
        "the worker allocates beside data of the parent: freeze with seal=True, which fills "
        "up the free memory between"
    ),
}
_BY_TYPE_AND_FIELD[("malloc", "free chunk used")] = _BY_TYPE_AND_FIELD[("malloc", "chunk header")]

_BY_FIELD = {
    "reference count": (
        "readers count references in these objects: freeze what leads to them"
        if HAS_IMMORTAL
        else "this Python counts every reference in the object; use cowfreeze.pack(), or 3.12+"
    ),
    "same bytes again": (
        "something was counted up and down, or taken and given back; a trap tells the line"
    ),
    "GC header": (
        "the collector ran over objects that are not frozen: call cowfreeze.freeze() or "
        "gc.freeze() before the fork"
    ),
    "cached hash": "hash these objects once before the fork; freeze() does it for what it reaches",
    "UTF-8 cache": "C code asked for the UTF-8 form of these strings: let it do so before the fork",
    "list contents": "the worker changes this list: copy it in the worker, or leave it unfrozen",
    "dict contents": "the worker changes this dict: copy it in the worker, or leave it unfrozen",
    "set contents": "the worker changes this set: copy it in the worker, or leave it unfrozen",
    "dict table header": (
        "the interpreter notes its look-ups here: run the code once before the fork"
    ),
    "instance values": (
        "the worker sets attributes of this instance: keep what changes in an object of its own"
    ),
    "instance dict or weak references": (
        "vars(), pickling or a weak reference made the instance write beside its header: do it "
        "once before the fork, or avoid it"
    ),
    "attribute names of the class": (
        "the first instances that a worker makes write their class: make one before the fork"
    ),
    "type version tag": "look an attribute up before the fork, or let freeze() reach the class",
    "type cache": "run the code that uses this class once before the fork",
    "inline cache or counter": (
        "code writes itself when it runs: call this function a few times before the fork; from "
        "3.13 on every conditional jump writes"
    ),
    "function version": "call this function once before the fork",
    "pool header": "the worker allocates from partly used pools: freeze with seal=True",
    "free block used": "the worker allocates between frozen objects: freeze with seal=True",
}


def advice_for(type_name: str, field: str, same_bytes: bool) -> str | None:
    """What to do about FIELD of TYPE_NAME, as a sentence without a full stop."""
    if same_bytes and field == "reference count":
        return (
            "counted up and down by a reader, or by a lock that was taken: freeze what leads to "
            "these objects"
            if HAS_IMMORTAL
            else _BY_FIELD[field]
        )
    return _BY_TYPE_AND_FIELD.get((type_name, field)) or _BY_FIELD.get(field)
