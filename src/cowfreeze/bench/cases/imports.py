"""A big import graph: what a worker copies that walks over modules, classes and functions.

The standard library's modules are used, because every machine has them. A worker reads module
dicts, class dicts, names, docstrings and constants, as a framework's registries and reloaders do.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any

from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.cases.reader import Content

_WHY_NOT = "modules, classes and functions are no list of data"
# Left out: what prints, opens windows or starts something when it is imported, and the tests.
_UNWANTED = frozenset({"antigravity", "this", "idlelib", "turtledemo", "test", "tkinter", "turtle", "lib2to3"})


def build(size: int) -> list[types.ModuleType]:
    """Import the first SIZE modules of the standard library and return every loaded module but ours."""
    names = sorted(name for name in sys.stdlib_module_names if name not in _UNWANTED and not name.startswith("_"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are deprecated
        for name in names[:size]:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # not built on this machine (curses, nis)
    # Ours are left out: some modes have modules of their own, and all must read the same.
    return [
        module
        for name, module in list(sys.modules.items())
        if type(module) is types.ModuleType and name.partition(".")[0] != "cowfreeze"
    ]


def walk(view: Any) -> Content:
    """Read the dicts of all modules and of their classes, and the code of their functions."""
    containers = strings = others = checksum = 0
    for module in view:
        containers += 1
        for name, value in vars(module).items():
            checksum ^= hash(name)
            strings += 1
            kind = type(value)
            if kind is type:
                for key, member in value.__dict__.items():
                    checksum ^= hash(key)
                    strings += 1
                    if type(member) is types.FunctionType:
                        others += len(member.__code__.co_consts) + len(member.__code__.co_names)
            elif kind is types.FunctionType:
                others += len(value.__code__.co_consts) + len(value.__code__.co_names)
    return containers, strings, others, checksum


CASE = Case(
    "imports",
    "a big import graph: module dicts, classes, functions, constants",
    "modules",
    300,
    1 << 20,
    build,
    walk,
    modes=("none", "gc.freeze", "freeze", "heap", "cinderx", "hugepages"),
    why_not=_WHY_NOT,
    warmup=0,
)
