"""Types that lie to the collector, and Python code that runs where nobody expects it."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import cowfreeze
from freeze.cases_builds import build
from helpers.cases import in_worker, is_marked
from freeze.zoo import text


def lies() -> dict[str, Any]:
    """Every type of hostile.c in one graph: what is marked, and that all of it still works."""
    hostile = build("hostile", Path(__file__).with_suffix(".c").read_text())
    names = ["Liar", "Maker", "Quitter", "Counter", "Opaque"]
    data = {name: getattr(hostile, name)([text()], [text()]) for name in names}
    gc.collect()
    gc.disable()
    for name in ("Null", "Chatterbox", "Raiser"):
        data[name] = getattr(hostile, name)([text()], [text()])
        hostile.untrack(data[name])
    report = cowfreeze.freeze(data, collect=False)
    found = {
        name: [is_marked(data[name]), is_marked(data[name].first), is_marked(data[name].second)] for name in data
    }
    hostile.untrack(data["Null"])  # must bear being asked again

    def worker() -> int:
        for _ in range(1000):
            for one in data.values():
                assert one.first[0].startswith("zoo value") and one.second[0]
        return len(data)

    read = in_worker(worker)
    before = hostile.count_deallocated()
    data.pop("Counter")
    data.pop("Opaque")
    return {
        "marked": found,
        "read": read,
        "deallocated": hostile.count_deallocated() - before,
        "objects": report.objects,
    }


def lies_in_the_whole_heap() -> int:
    """The same types when everything is frozen, twice."""
    hostile = build("hostile", Path(__file__).with_suffix(".c").read_text())
    names = ["Liar", "Maker", "Raiser", "Quitter", "Counter", "Opaque"]
    gc.disable()
    data = {name: getattr(hostile, name)([text()], [text()]) for name in names}
    cowfreeze.freeze(collect=False)
    data["later"] = hostile.Liar([text()], [text()])
    cowfreeze.freeze(collect=False)
    assert is_marked(data["later"]) and is_marked(data["Maker"].second)
    assert all(one.first and one.second for one in data.values())
    return len(data)


def on_the_stack() -> dict[str, Any]:
    """An object in a C frame is marked like any other, and the frame returns."""
    hostile = build("hostile", Path(__file__).with_suffix(".c").read_text())

    def freeze(held: list[float]) -> tuple[bool, bool, float]:
        cowfreeze.freeze(held)
        return is_marked(held[0]), is_marked(held), held[0] + 1

    marked, held, value = hostile.on_the_stack(freeze)
    return {"marked": marked, "list": held, "value": value}


class Touchy:
    """Every special method counts its calls; freeze may cause none of them."""

    calls: list[str] = []

    def __hash__(self) -> int:
        Touchy.calls.append("hash")
        raise RuntimeError("no hash today")

    def __eq__(self, other: object) -> bool:
        Touchy.calls.append("eq")
        return NotImplemented

    def __getattribute__(self, name: str) -> Any:
        Touchy.calls.append(f"get {name}")
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        Touchy.calls.append("repr")
        raise RuntimeError("no repr either")

    def __sizeof__(self) -> int:
        Touchy.calls.append("sizeof")
        return os.fork()

    def __reduce_ex__(self, protocol: Any) -> Any:
        Touchy.calls.append("reduce")
        return object, ()


class TouchyType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        Touchy.calls.append("instancecheck")
        return True

    def __getattribute__(cls, name: str) -> Any:
        Touchy.calls.append(f"type get {name}")
        return type.__getattribute__(cls, name)

    def __hash__(cls) -> int:
        Touchy.calls.append("type hash")
        return 1


class OfTouchyType(Touchy, metaclass=TouchyType):
    pass


def nobody_is_called(whole_heap: bool) -> list[str]:
    """Special methods that raise, fork or watch."""
    one, other = Touchy(), OfTouchyType()
    data = [one, other, (one, other), [one], {"key": one}, type(other)]
    Touchy.calls.clear()
    report = cowfreeze.freeze(*([] if whole_heap else [data]))
    called = list(Touchy.calls)
    assert is_marked(data) and is_marked(one) and is_marked(other)
    str(report)
    report.to_dict()
    assert cowfreeze.is_frozen(one) in (True, False)
    return called + [call for call in Touchy.calls[len(called) :] if call in ("repr", "hash", "sizeof")]


class Phoenix:
    """Comes back from the dead in its finaliser."""

    ashes: list[Any] = []

    def __init__(self) -> None:
        self.me = self
        self.load = [text()]

    def __del__(self) -> None:
        Phoenix.ashes.append(self)


def comes_back() -> dict[str, Any]:
    """Finalisers and weakref callbacks that run in freeze's own collection and change the graph."""
    events: list[str] = []
    data: list[Any] = [text() for _ in range(100)]

    def callback(_: Any) -> None:
        events.append("callback")
        data.append([text()])
        try:
            cowfreeze.freeze(data)
        except BaseException as error:
            events.append(type(error).__name__)

    class Watched:
        pass

    watched = Watched()
    watched.me = watched  # type: ignore[attr-defined]
    reference = weakref.ref(watched, callback)
    del watched
    Phoenix()
    cowfreeze.freeze(data, Phoenix.ashes)
    gc.collect()
    return {
        "events": events,
        "gone": reference() is None,
        "returned": len(Phoenix.ashes),
        "phoenix": [is_marked(one) for one in Phoenix.ashes],
        "data": all(map(is_marked, data)),
        "references": sys.getrefcount(data) > 0,
    }
