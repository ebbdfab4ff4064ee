"""What freeze reaches, and what it leaves."""

from __future__ import annotations

import builtins
import datetime
import gc
import sys
import types
import weakref
from typing import Any

import cowfreeze
from freeze import zoo
from helpers.cases import HAS_IMMORTAL, is_marked, mortal
from freeze.walker import LEFT_ALONE, closure


def every_kind() -> dict[str, list[str]]:
    """By kind: what should have been frozen and was not."""
    made = {label: maker() for label, maker in zoo.KINDS.items()}
    mortal_before = {
        label: [obj for obj in expected if not is_marked(obj)] for label, (_, expected) in made.items()
    }
    for label, (_, expected) in made.items():
        for obj in expected:
            # Classes of the library and such may be immortal by themselves; values may not,
            # but for interned names, which 3.12 makes immortal.
            if type(obj) in (str, bytes, list, dict, tuple, int) and not (
                type(obj) is str and obj.isidentifier()
            ):
                mortal(obj)
    for root, _ in made.values():
        cowfreeze.freeze(root, collect=False)
    missed = {
        label: [f"{type(obj).__name__}: {obj!r:.80}" for obj in expected if not is_marked(obj)]
        for label, (_, expected) in made.items()
    }
    wrong = {
        label: [
            f"is_frozen({obj!r:.80})"
            for obj in expected
            if cowfreeze.is_frozen(obj) is not HAS_IMMORTAL
        ]
        for label, (_, expected) in made.items()
    }
    assert all(mortal_before.values()), mortal_before.keys()
    return {label: missed[label] + wrong[label] for label in made}


# -- against an independent walker ------------------------------------------


def compared_with_a_walker() -> dict[str, Any]:
    """A data graph of all kinds: frozen are the objects that the walker finds, and no others."""
    opened = {"closure_of_a_root", "code_object_as_root", "code_object_opened", "type_as_root"}
    opened.add("module_as_root")
    graph = [maker()[0] for label, maker in zoo.KINDS.items() if label not in opened]
    gc.collect()
    everything = closure([*gc.get_objects(), sys.modules, vars(builtins)], boundary=False)
    expected = closure([graph], boundary=True)
    marked_before = {address for address, obj in everything.items() if is_marked(obj)}
    cowfreeze.freeze(graph)
    missed = [
        f"{type(obj).__name__}: {obj!r:.100}"
        for obj in expected.values()
        if not is_marked(obj) and type(obj).__name__ not in LEFT_ALONE
    ]
    # Attribute names of instances belong to the graph, but only their class's hidden table has
    # them; and a version may reach more leaves than tp_traverse shows.
    outside = [
        f"{type(obj).__name__}: {obj!r:.100}"
        for address, obj in everything.items()
        if address not in marked_before and address not in expected and is_marked(obj)
        if not isinstance(obj, (str, int, datetime.timedelta))
    ]
    return {"expected": len(expected), "everything": len(everything), "missed": missed, "outside": outside}


# -- boundaries -------------------------------------------------------------


class Holder:
    """A class whose attributes must not be dragged in by an instance."""

    shared = [zoo.text()]

    def method(self) -> str:
        return self.__class__.__name__


def helper() -> object:
    """A function whose globals must not be dragged in."""
    return big_global


big_global = [zoo.text(), {zoo.text(): zoo.text()}]


def boundaries() -> dict[str, list[bool]]:
    """[is the boundary itself frozen?, is what is behind it?] by kind of boundary."""
    module = types.ModuleType("zoo_module")
    module.content = [zoo.text()]  # type: ignore[attr-defined]

    def closed_over(captured: list[str]) -> Any:
        def function(default: Any = [zoo.text()]) -> Any:
            return captured, default, helper

        return function

    captured = [zoo.text()]
    inner = closed_over(captured)
    source = f"({zoo.text()!r}, [1])"
    code = compile(source, zoo.text(), "eval")
    graph = [Holder(), module, inner, code, helper]
    result = cowfreeze.freeze(graph)
    assert result.objects > 0
    return {
        "class": [is_marked(Holder), is_marked(Holder.shared), is_marked(Holder.method)],
        "module": [is_marked(module), is_marked(vars(module)), is_marked(module.content)],  # type: ignore[attr-defined]
        "function": [is_marked(inner), is_marked(captured), is_marked(inner.__defaults__)],
        "globals": [is_marked(helper), is_marked(big_global), is_marked(globals())],
        "code": [is_marked(code), is_marked(code.co_consts), is_marked(code.co_filename)],
    }


def function_root() -> dict[str, bool]:
    """A function that is a root is opened, but not its globals."""
    captured = [zoo.text()]

    def root() -> Any:
        return captured, big_global

    cowfreeze.freeze(root)
    return {
        "captured": is_marked(captured),
        "globals": is_marked(globals()),
        "behind globals": is_marked(big_global),
    }


def weak_references_are_not_followed() -> dict[str, bool]:
    target = Holder()
    reference = weakref.ref(target)
    cowfreeze.freeze([reference])
    frozen = is_marked(target)
    del target
    return {"reference": is_marked(reference), "target": frozen, "died": reference() is None}


def own_objects_stay_mortal() -> dict[str, bool]:
    """The report and the tuple of the caller's arguments die as any other."""
    data = [zoo.text()]
    arguments = (data,)
    report = cowfreeze.freeze(*arguments)
    result = {"data": is_marked(data), "arguments": is_marked(arguments)}
    result["report"] = is_marked(report) or is_marked(report._counts)
    whole = cowfreeze.freeze()  # takes the first report, which is the caller's data by now
    result["whole report"] = is_marked(whole) or is_marked(whole._counts)
    return result


def more_types_than_there_is_room_for() -> list[bool]:
    """Beyond 65,535 types the walk has one place for all others, and decides about each anew."""

    class Meta(type):
        pass

    class Table(dict[str, Any]):
        pass

    kinds = [Meta(f"Kind{i}", (), {}) for i in range(200)]
    tables = [Table({f"k{j}": kinds[(i + j) % 200] for j in range(130)}) for i in range(50)]
    for i, table in enumerate(tables):
        table.attribute = [f"only {i}"]  # type: ignore[attr-defined]
    alive = [type(f"Slotted{i}", (), {"__slots__": ("a",)})() for i in range(66_000)]
    cowfreeze.freeze(collect=False, seal=False)
    return [len(alive) == 66_000, *(is_marked(table.attribute) for table in tables)]  # type: ignore[attr-defined]
