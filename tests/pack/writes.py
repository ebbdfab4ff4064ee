"""All that writes a list, dict or set, each on packed ones in a child of its own: `python writes.py KIND [CONTAINER ...]`.

Prints a JSON object: name of the write -> container -> [how the child ended, what the write did].
A child goes on after the write (it collects, copies, pickles, writes more) and ends as an interpreter
does, so a table that was freed twice, or that malloc got, is found. The parent looks at its own data
after each.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import copy
import ctypes
import functools
import gc
import heapq
import json
import operator
import os
import pickle
import random
import resource
import signal
import sys
import timeit
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import cowfreeze

api = ctypes.pythonapi
ob = ctypes.py_object
Write = Callable[[Any], object]
LISTS: dict[str, list[Any]] = {
    "no list": [], "one": [1], "three": [3, 1, 2], "lists": [[2], [1], [3], []], "long": [str(i % 97) for i in range(400)],
}  # fmt: skip
DICTS: dict[str, dict[Any, Any]] = {
    "no dict": {}, "one key": {"a": 1}, "full": {c: [c] for c in "abcde"}, "full too": {c: 1 for c in "abcdefghij"},
    "numbers": {i: str(i) for i in range(5)}, "large": {"a": "x", **{f"k{i}": {"v": i} for i in range(400)}},
}  # fmt: skip
SETS: dict[str, Any] = {
    "no set": set(),
    "few": {1, "a", (2,)},
    "frozen": frozenset({1, 2}),
    "large set": set(range(400)),
}


class Instance:
    pass


class Slot:
    __slots__ = ("__dict__",)


# -- Python ----------------------------------------------------------------------------------------


def statement(text: str) -> Write:
    code = compile(text, "<write>", "exec")
    return lambda p: exec(code, {"p": p})


LIST_STATEMENTS = [
    "p[0] = 9", "p[-1:] = [7, 8]", "p[:] = [1]", "p[::2] = []", "del p[0]", "del p[:]", "p += [1]", "p *= 2", "p *= 0", "p.append(1)",
    "p.extend([1])", "p.insert(0, 1)", "p.pop()", "p.remove(1)", "p.reverse()", "p.sort()", "p.clear()", "p.__init__([1])",
    "p.__class__ = object", "p.x = 1", "p[0], p[1:] = 5, []", "list.sort(p)", "list.append(p, 1)", "list.__init__(p)", "list.pop(p)",
    "list.__setitem__(p, 0, 1)", "list.__iadd__(p, [1])", "list.__imul__(p, 2)", "list.__delitem__(p, 0)", "list.clear(p)",
    "object.__setattr__(p, '__class__', list)", "for p[0] in (1, 2): pass", "[p[0]] = [3]", "with open('/dev/null') as p[0]: pass",
    "import sys; sys.path = p; sys.path.insert(0, 'x')", "import sys; sys.argv = p; sys.argv[0] = ''",
]  # fmt: skip
DICT_STATEMENTS = [
    "p['a'] = 9", "p['new'] = 9", "p[5] = 9", "del p['a']", "p |= {'x': 1}", "p.update(x=1)", "p.pop('a')", "p.popitem()", "p.clear()",
    "p.setdefault('new', 1)", "p.__init__(a=1)", "p.__class__ = object", "p.x = 1", "dict.__setitem__(p, 'a', 1)", "dict.pop(p, 'a', 0)",
    "dict.update(p, a=1)", "dict.clear(p)", "dict.setdefault(p, 'n', 1)", "dict.popitem(p)", "dict.__delitem__(p, 'a')",
    "dict.__ior__(p, {'x': 1})", "dict.__init__(p, a=1)", "for p['a'] in (1, 2): pass", "type('C', (), p)", "type.__new__(type, 'C', (), p)",
    "import os; os.environ._data = p; os.environ['x'] = 'y'",
]  # fmt: skip
SET_STATEMENTS = [
    "p.add(9)", "p.discard(1)", "p.remove(1)", "p.pop()", "p.clear()", "p.update({9})", "p |= {9}", "p &= set()", "p ^= {9}", "p -= {1}",
    "p.difference_update({1})", "p.intersection_update({1})", "p.symmetric_difference_update({1})", "p.__init__({5})", "p.__class__ = set",
    "set.add(p, 9)", "set.clear(p)", "set.__ior__(p, {9})", "set.pop(p)", "set.__init__(p, {1})", "p.x = 1",
]  # fmt: skip


def as_dict_of(make: Callable[[], Any], change: str) -> Write:
    def write(p: Any) -> None:
        owner = make()
        owner.__dict__ = p
        for _ in range(50):  # specialized by then
            if change == "set":
                owner.b = 2
                owner.a = [3]
            elif change == "many":
                for i in range(40):
                    setattr(owner, f"name{i}", i)
            else:
                owner.a = 1
                del owner.a
        del owner

    return write


def element(p: Any) -> None:
    e = ElementTree.Element("x")
    e.attrib = p
    e.set("b", "2")


def encoder(p: Any) -> None:
    markers = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    markers(p, str, str, None, ":", ",", False, False, False)([[1], [2]], 0)


def globals_of(text: str) -> Write:
    code = compile(text, "<globals>", "exec")

    def write(p: Any) -> None:
        for _ in range(30):
            exec(code, p)

    return write


def make_partial() -> Any:
    return functools.partial(int)


PYTHON: dict[str, tuple[dict[str, Any], dict[str, Write]]] = {
    "list": (
        LISTS,
        {
            **{text: statement(text) for text in LIST_STATEMENTS},
            "heapify": lambda p: heapq.heapify(p),
            "heappush": lambda p: [heapq.heappush(p, x) for x in (p[0], p[0], p[0]) if p],
            "heappop": lambda p: heapq.heappop(p),
            "heappop, all": lambda p: [heapq.heappop(p) for _ in range(len(p))],
            "heapreplace": lambda p: heapq.heapreplace(p, p[-1]),
            "heappushpop": lambda p: heapq.heappushpop(p, p[-1]),
            "heapify_max": lambda p: heapq._heapify_max(p) if hasattr(heapq, "_heapify_max") else heapq.heapify_max(p),  # type: ignore[attr-defined]
            "insort": lambda p: bisect.insort(p, p[0] if p else 1),
            "shuffle": lambda p: random.Random(1).shuffle(p),
            "iconcat": lambda p: operator.iconcat(p, [1]),
            "setitem": lambda p: operator.setitem(p, 0, 1),
            "delitem": lambda p: operator.delitem(p, 0),
        },
    ),
    "dict": (
        DICTS,
        {
            **{text: statement(text) for text in DICT_STATEMENTS},
            **{
                f"{kind}.__dict__, {change}": as_dict_of(make, change)
                for kind, make in {
                    "instance": Instance, "slot": Slot, "function": lambda: lambda: 1, "exception": ValueError,
                    "partial": make_partial, "OrderedDict": collections.OrderedDict,
                }.items()
                for change in ("set", "many", "del")
            },
            "vars(instance)": lambda p: vars_of(p),
            "eval": lambda p: [eval("1 + 1", p) for _ in range(30)],
            "eval, locals": lambda p: eval("[p for p in 'ab']", {}, p),
            "exec, locals": lambda p: exec("made = 1", {}, p),
            "exec, STORE_GLOBAL": globals_of("def f():\n global a, b\n a = 1; b = len('x'); return a + b\nfor i in range(9): f()"),
            "exec, del": globals_of("made = 1\ndel made"),
            "exec, class and import": globals_of("import json\nclass C:\n x = json\nfor i in range(9): C.x"),
            "timeit": lambda p: timeit.timeit("a = 1", globals=p, number=100),
            "builtins": lambda p: exec("len(str(1))", {"__builtins__": p}),
            "FunctionType": lambda p: types.FunctionType(compile("x = 1", "", "exec"), p),
            "Element.attrib": element,
            "json markers": encoder,
        },
    ),
    "set": (SETS, {text: statement(text) for text in SET_STATEMENTS}),
}  # fmt: skip


def vars_of(p: Any) -> None:
    owner = Instance()
    owner.__dict__ = p
    vars(owner)["made"] = 1


# -- C ---------------------------------------------------------------------------------------------


def call(name: str, *arguments: Any) -> Write:
    """A call of the C API. P stands for the container; None is a null pointer."""
    function = getattr(ctypes.PyDLL(None), name)
    function.restype = ctypes.c_void_p
    as_is = (bytes, ctypes.c_ssize_t, ctypes.c_int, type(None))

    def write(p: Any) -> None:
        function(*[ob(p) if a is P else a if isinstance(a, as_is) else ob(a) for a in arguments])

    return write


P = object()
size = ctypes.c_ssize_t
LIST_CALLS: list[tuple[Any, ...]] = [
    ("PyList_Append", P, [1]), ("PyList_Insert", P, size(0), [1]), ("PyList_Insert", P, size(10**6), 1),
    ("PyList_SetSlice", P, size(0), size(1), None), ("PyList_SetSlice", P, size(0), size(10**6), None), ("PyList_SetSlice", P, size(1), size(2), [7] * 9),
    ("PyList_SetSlice", P, size(0), size(2), P), ("PyList_Sort", P), ("PyList_Reverse", P), ("PyList_Extend", P, (1, 2)), ("PyList_Clear", P),
    ("PySequence_SetItem", P, size(0), 1), ("PySequence_DelItem", P, size(0)), ("PySequence_SetSlice", P, size(0), size(1), [1]),
    ("PySequence_DelSlice", P, size(0), size(1)), ("PySequence_InPlaceConcat", P, [1]), ("PySequence_InPlaceRepeat", P, size(2)),
    ("PyObject_SetItem", P, 0, 1), ("PyObject_DelItem", P, 0), ("PyObject_SetAttr", P, "x", 1), ("PyObject_ClearWeakRefs", P),
]  # fmt: skip
DICT_CALLS: list[tuple[Any, ...]] = [
    ("PyDict_SetItem", P, "a", 9), ("PyDict_SetItem", P, "new", [9]), ("PyDict_SetItem", P, 5, {}), ("PyDict_SetItemString", P, b"b", 1),
    ("PyDict_DelItem", P, "a"), ("PyDict_DelItem", P, 1), ("PyDict_DelItemString", P, b"a"), ("PyDict_Clear", P), ("PyDict_SetDefault", P, "n", [1]),
    ("PyDict_Update", P, {"z": 1, 7: 8}), ("PyDict_Update", P, P), ("PyDict_Merge", P, {f"m{i}": [i] for i in range(300)}, ctypes.c_int(1)),
    ("PyDict_MergeFromSeq2", P, [("q", 1)], ctypes.c_int(1)), ("_PyDict_Pop", P, "a", None), ("_PyDict_DelItem_KnownHash", P, "a", size(hash("a"))),
    ("PyObject_SetItem", P, "a", 1), ("PyObject_DelItem", P, "a"), ("PyMapping_SetItemString", P, b"a", 1), ("PyObject_SetAttr", P, "x", 1),
    ("PyObject_GenericSetDict", Instance(), P, None),
]  # fmt: skip
SET_CALLS: list[tuple[Any, ...]] = [
    ("PySet_Add", P, 9), ("PySet_Discard", P, 1), ("PySet_Clear", P), ("PySet_Pop", P), ("_PySet_Update", P, {9}), ("PyNumber_InPlaceOr", P, {9}),
]  # fmt: skip


def sort_list(p: Any) -> None:
    """Up, down, and over the length of the old table."""
    api.PyList_Sort(ob(p))
    for i in range(200):
        api.PyList_Append(ob(p), ob([i]))
    api.PyList_SetSlice(ob(p), size(2), size(150), None)


def fill_and_empty(p: Any) -> None:
    for i in range(2000):
        api.PyDict_SetItem(ob(p), ob(f"fill{i}"), ob([i, p]))
    for i in range(1990):
        api.PyDict_DelItem(ob(p), ob(f"fill{i}"))
    api.PyDict_SetItem(ob(p), ob(("other", "kind")), ob(1))


def named(calls: list[tuple[Any, ...]]) -> dict[str, Write]:
    library = ctypes.PyDLL(None)
    found = {}
    for i, (name, *arguments) in enumerate(calls):
        if hasattr(library, name):
            found[f"{name} ({i})"] = call(name, *arguments)
    return found


C_API: dict[str, tuple[dict[str, Any], dict[str, Write]]] = {
    "list": (LISTS, {**named(LIST_CALLS), "sort, grow, shrink": sort_list}),
    "dict": (DICTS, {**named(DICT_CALLS), "fill and empty": fill_and_empty}),
    "set": (SETS, named(SET_CALLS)),
}


# -- children --------------------------------------------------------------------------------------


def go_on(p: Any) -> None:
    """What a program does afterwards."""
    gc.collect()
    gc.get_referrers(p)
    repr(p)
    for make in (copy.copy, lambda p: pickle.loads(pickle.dumps(p)), list, copy.deepcopy, cowfreeze.clone):
        with contextlib.suppress(TypeError):  # eval() puts __builtins__ into p, and modules are not copied
            make(p)
    others = [{str(i): i for i in range(5)} for _ in range(300)] + [[i] * 3 for i in range(300)]  # use what was freed
    del others
    gc.collect()


class Child(Exception):
    pass


def try_write(write: Write, p: Any) -> list[Any]:
    """[How the child ended, what the write did], or Child in the child, which then ends as an interpreter does."""
    read, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        before = copy.deepcopy(p)
        for attempt in range(3):
            try:
                write(p)
                outcome = "same" if p == before else "changed"
            except BaseException as error:
                outcome = type(error).__name__
            if attempt == 0:
                os.write(told, outcome.encode())
        go_on(p)
        raise Child
    os.close(told)
    status = os.waitpid(pid, 0)[1]
    with open(read, "rb") as stream:
        return [os.waitstatus_to_exitcode(status), stream.read().decode()]


def main(kind: str, only: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    result: dict[str, dict[str, list[Any]]] = {}
    for containers, writes in (PYTHON if kind == "python" else C_API).values():
        packed = {name: cowfreeze.pack(c) for name, c in containers.items() if not only or name in only}
        for write_name, write in writes.items():
            for name, p in packed.items():
                ended = try_write(write, p)
                repaired = cowfreeze.repair_packed()
                result.setdefault(write_name, {})[name] = [*ended, p == containers[name], repaired]
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except Child:
        pass
