"""The mark itself: what each version tests, and what live references do to it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cowfreeze
from helpers.cases import (
    HAS_FLAGS,
    HAS_IMMORTAL,
    Fork,
    big_str,
    big_tuple,
    copied_by,
    count_of,
    flags_of,
    is_marked,
    mortal,
    needs,
    page_of,
    pages_of,
)
from freeze.zoo import Plain, text


def headers() -> list[list[int]]:
    """[count, flags] of objects of many types after a freeze; all were mortal before."""
    objects: list[Any] = [text(), [1], {text(): 1}, (text(),), {1}, 3.25 * len(text()), 10**40]
    objects += [Plain(1, 2), text().encode(), bytearray(b"x"), frozenset([text()]), object(), 1j]
    objects += [type("Fresh", (), {}), lambda: None, print.__self__.__class__("fresh")]
    for obj in objects:
        mortal(obj)
    if HAS_IMMORTAL:  # no bits of the walk may be left in the rest of the word
        before = [ctypes.c_uint64.from_address(id(obj)).value >> 32 for obj in objects]
    cowfreeze.freeze(objects)
    if HAS_IMMORTAL:
        after = [ctypes.c_uint64.from_address(id(obj)).value >> 32 for obj in objects]
        flag = 1 << 16 if HAS_FLAGS else 0
        assert after == [word | flag for word in before], (before, after)
    return [[count_of(obj), flags_of(obj) if HAS_FLAGS else 0] for obj in objects]


def read_by_all_means(obj: Any, holder: Plain, table: dict[str, Any], items: list[Any]) -> None:
    """References made and dropped by C code, by the eval loop, and kept in containers."""
    for _ in range(3):
        local = items[0]
        other = holder.plain_one
        found = table.get("key"), getattr(holder, "plain_one"), table["key"]  # noqa: B009
        kept = [local, other, *found, items[0]]
        list(map(type, kept))
        sorted(kept, key=id)
        str(len(kept)) + repr(type(kept.pop()))
        (lambda *a, **k: a)(*kept, key=items[0])
        next(iter(items))
        sys.getrefcount(local)


def every_kind_of_read() -> dict[str, int]:
    """Pages of objects that workers copy by reading, of one object each, by kind of object."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    kinds: dict[str, Any] = {
        "str": big_str("read me"),
        "bytes": big_str("read me").encode(),
        "tuple": big_tuple(),
        "int": 1 << 8 * 400_000,
    }
    result = {}
    for label, obj in kinds.items():
        mortal(obj)
        holder, table, items = Plain(obj, 1), {"key": obj}, [obj]
        without = copied_by(lambda: read_by_all_means(obj, holder, table, items))
        assert page_of(obj) in without, f"{label}: the read did not write a mortal object"
        cowfreeze.freeze(holder, table, items)
        with_freeze = copied_by(lambda: read_by_all_means(obj, holder, table, items))
        result[label] = len(with_freeze & {page_of(obj)})
    return result


def _after_frames(obj: Any, freeze: Callable[[], Any]) -> None:
    """Frames that hold counted references to obj while freeze() runs, and end after it."""

    def deeper(level: int, one: Any, two: Any) -> Any:
        three = one
        if level:
            return deeper(level - 1, two, three)
        return freeze()

    deeper(20, obj, obj)


def _held(obj: Any) -> Iterator[Any]:
    mine = obj
    yield
    again = mine
    yield again


def references_in_flight() -> dict[str, Any]:
    """Counted references that frames drop after the freeze, those of another thread too.

    They are dropped without a check on 3.14 and later, if they were not tagged.
    """
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    obj = mortal(big_str("in flight"))
    items = [obj]
    generators = [_held(obj) for _ in range(1000)]
    for generator in generators:
        next(generator)
    deep, frozen = threading.Event(), threading.Event()

    def hold(level: int) -> bool:
        mine = items[0]
        if level:
            hold(level - 1)
        else:
            deep.set()
            frozen.wait()
        return type(mine) is str

    thread = threading.Thread(target=hold, args=(700,))
    thread.start()
    deep.wait()
    _after_frames(obj, lambda: cowfreeze.freeze(items, threads="allow"))
    frozen.set()
    thread.join()
    # Nothing else may count obj from here on: below the limit each INCREF climbs back by one.
    del generators, generator
    gc.collect()
    count = count_of(obj)
    copied = copied_by(lambda: [items[0], list(items), (items[0],)] * 3)
    return {"copied": page_of(obj) in copied, "count": count, "marked": is_marked(obj)}


def live_frame(freeze: bool) -> dict[str, bool]:
    """Variables of a function that runs during the freeze, used again by it in the worker.

    They come out of containers: an argument that the caller has in a variable is borrowed from
    there on 3.14, and has no count of its own.
    """
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    objects = {label: mortal(big_str(label)) for label in ("item", "value", "result", "keyword")}

    def give(obj: Any) -> Any:
        return [obj][0]

    def middle(items: list[Any], table: dict[str, Any], **named: Any) -> set[int]:
        item = items[0]
        value = table["value"]
        result = give(objects["result"])
        keyword = named.pop("keyword")
        if freeze:
            cowfreeze.freeze(item, value, result, keyword)
        with Fork() as fork:
            if fork.is_worker:
                # Only moved, from variable to variable.
                one = item
                two = value
                three = result
                four = keyword
                del one, two, three, four
        return fork.copied

    copied = middle([objects["item"]], objects, keyword=objects["keyword"])
    return {label: page_of(obj) in copied for label, obj in objects.items()}


def suspended_generators() -> dict[str, bool]:
    """Local variables of generators that were suspended during the freeze, resumed in a worker."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    places = ("on the stack", "delegated", "in a list", "in a closure", "coroutine")
    objects = {label: mortal(big_str(label)) for label in places}

    def delegating(obj: Any) -> Iterator[Any]:
        yield from _held(obj)

    async def awaiting(obj: Any) -> Any:
        mine = obj
        await types.coroutine(_held)(None)
        again = mine
        return again

    on_stack = _held(objects["on the stack"])
    delegated = delegating(objects["delegated"])
    in_list = [_held(objects["in a list"])]
    in_closure = _held(objects["in a closure"])
    coroutine = awaiting(objects["coroutine"])
    next(on_stack), next(delegated), next(in_list[0]), next(in_closure), coroutine.send(None)
    cowfreeze.freeze(*objects.values())

    def resume() -> None:
        next(in_closure)

    with Fork() as fork:
        if fork.is_worker:
            next(on_stack)
            next(delegated)
            next(in_list[0])
            with contextlib.suppress(StopIteration):
                coroutine.send(None), coroutine.send(None)
            resume()
    return {label: page_of(obj) in fork.copied for label, obj in objects.items()}


def many_small_objects() -> dict[str, int]:
    """Pages full of small objects that a worker reads by C functions: the peer's bug."""
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    holders = [Plain(text(), {"key": (n, text())}) for n in range(20_000)]
    pages = pages_of(holders) | pages_of(h.plain_one for h in holders)
    pages |= pages_of(h.plain_two for h in holders)

    def read() -> None:
        for holder in holders:
            value = getattr(holder, "plain_two").get("key")  # noqa: B009
            hash(holder.plain_one), hash(value)

    plain = len(copied_by(read) & pages)
    cowfreeze.freeze(holders)
    frozen = len(copied_by(read) & pages)
    return {"pages": len(pages), "plain": plain, "frozen": frozen}
