"""How an object is called: a short text for it, and the way to it from a name.

Nothing here runs code of the application: no user-defined ``__repr__``, no property, no
``__getattr__``. An explanation must not change what it explains, nor fail in it.
"""

from __future__ import annotations

import collections
import functools
import itertools
import re
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cowfreeze import _core

_SCALARS = (str, bytes, int, float, complex, bool, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque)
_LONGEST = 60  # characters of a repr, and of a key in a path
_OWN_DICT = re.compile(r"\.__dict__\['([A-Za-z_]\w*)'\]")
_LRU_CACHE = type(functools.lru_cache(lambda: None))


class Steps:
    """The items of large lists and dicts that paths lead through, looked up in one pass each.

    A path names an item by its place, and many paths lead through the same list of a million
    items: looking through it once for each of them takes minutes.
    """

    def __init__(self, chains: Iterable[list[Any]]) -> None:
        self._wanted: dict[int, set[int]] = {}
        for chain in chains:
            for parent, child in itertools.pairwise(chain):
                if isinstance(parent, _LARGE):
                    self._wanted.setdefault(id(parent), set()).add(id(child))
        self._found: dict[int, dict[int, Any]] = {}

    def key_of(self, parent: Any, child: Any) -> Any:
        """The index or key under which PARENT holds CHILD, or _NONE. Items are compared by
        identity only."""
        found = self._found.get(id(parent))
        if found is None:
            wanted = self._wanted.get(id(parent), {id(child)})
            found = self._found[id(parent)] = {}
            for key, item in _entries(parent):
                if id(item) in wanted:
                    found.setdefault(id(item), key)
                    if len(found) == len(wanted):
                        break
        return found.get(id(child), _NONE)


_NONE = object()
_LARGE = (list, tuple, dict, collections.deque)


def _entries(parent: Any) -> Iterator[tuple[Any, Any]]:
    """Key and item pairs, past any method that a subclass defines."""
    if _core.is_packed(parent):  # types of our own, which the built-ins' methods refuse
        return iter(parent.items()) if isinstance(parent, dict) else enumerate(parent)
    if isinstance(parent, dict):
        return iter(dict.items(parent))
    base: Any = next(base for base in _LARGE if isinstance(parent, base))
    return enumerate(base.__iter__(parent))


class Root(NamedTuple):
    """A name that a person knows, and what it names."""

    name: str
    object: Any
    is_namespace: bool = False  # what it holds are attributes of the name


def short_repr(value: Any) -> str:
    """A text for VALUE of at most some 60 characters, made without user code."""
    kind = type(value)
    if kind in _SCALARS:
        return _shorten(_scalar_repr(value))
    if kind in _CONTAINERS:
        return f"{kind.__name__} of {len(value):,}"
    if isinstance(value, types.FunctionType):
        return f"function {_qualified(value)}"
    if isinstance(value, types.CodeType):
        name = getattr(value, "co_qualname", value.co_name)
        return f"code of {name} ({_file(value)}:{value.co_firstlineno})"
    if isinstance(value, types.ModuleType):
        return f"module {types.ModuleType.__getattribute__(value, '__name__')}"
    if isinstance(value, type):
        return f"class {type_name(value)}"
    if kind is _LRU_CACHE:
        return f"lru_cache of {_qualified(value.__wrapped__)}"
    return f"{type_name(kind)} object"


def type_name(kind: type) -> str:
    """``module.Class``, or ``list`` for a built-in."""
    module = type.__getattribute__(kind, "__module__")
    name = type.__getattribute__(kind, "__qualname__")
    if not isinstance(module, str) or module == "builtins":
        return str(name)
    return f"{module}.{name}"


def _qualified(function: Any) -> str:
    if isinstance(function, types.FunctionType):
        module = function.__module__
        return f"{module}.{function.__qualname__}" if module else function.__qualname__
    return type_name(type(function))


def _file(code: types.CodeType) -> str:
    return code.co_filename.rpartition("/")[2]


def _scalar_repr(value: Any) -> str:
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST:
        return repr(value[: _LONGEST - 5]) + "..."
    if isinstance(value, int) and value.bit_length() > 200:
        return f"int of {value.bit_length():,} bits"
    return repr(value)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST + 3 else text[:_LONGEST] + "..."


def roots_of_this_process(*named: Root) -> list[Root]:
    """Where paths begin: local variables of the calling thread, all modules, then NAMED."""
    roots: list[Root] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        own = str(frame.f_globals.get("__name__", "")).partition(".")[0] == "cowfreeze"
        if not own and frame.f_locals is not frame.f_globals:
            roots += [Root(name, value) for name, value in list(frame.f_locals.items())]
        frame = frame.f_back
    modules = list(sys.modules.items())
    modules.sort(key=lambda item: (item[0] != "__main__", item[0].startswith("cowfreeze")))
    # Their dicts, so that a global is one step away, as near as a function's __globals__.
    roots += [
        Root(name, types.ModuleType.__getattribute__(module, "__dict__"), True)
        for name, module in modules
        if type(name) is str and type(module) is types.ModuleType
    ]
    return [*roots, *named]


def path_text(
    roots: list[Root], number: int | None, chain: list[Any], steps: Steps
) -> str | None:
    """The path from root NUMBER along CHAIN (root first), as Python where that is possible.

    None when nothing with a name leads to the object.
    """
    if number is None:
        return None
    name, _, of_module = roots[number]
    text = "" if of_module and name == "__main__" else name
    for parent, child in itertools.pairwise(chain):
        if of_module and type(parent) is dict:
            step = _dict_edge(parent, child, True, steps)
        else:
            step = edge_text(parent, child, steps)
        of_module = isinstance(parent, types.ModuleType)
        if of_module and type(child) is not dict:
            step = f".<{short_repr(child)}>"
        text += step if text else step.removeprefix(".")
    return _OWN_DICT.sub(r".\1", text) or name


def edge_text(parent: Any, child: Any, steps: Steps) -> str:
    """How CHILD is reached from PARENT: ``[17]``, ``['tags']``, ``.config``, ..."""
    kind = type(parent)
    if isinstance(parent, types.ModuleType):
        return ""
    if isinstance(parent, dict):
        namespace = "__builtins__" in parent and "__name__" in parent
        return _dict_edge(parent, child, namespace, steps)
    if isinstance(parent, (list, tuple, collections.deque)):
        index = steps.key_of(parent, child)
        if index is not _NONE:
            return f"[{index}]"
    if kind in (set, frozenset) or (_core.is_packed(parent) and isinstance(parent, frozenset)):
        return f"{{{_key_text(child)}}}"
    if child is kind:
        return ".__class__"
    if isinstance(parent, types.CellType):
        return ".cell_contents"
    if isinstance(parent, types.FunctionType):
        return _function_edge(parent, child)
    if isinstance(parent, types.CodeType):
        return _code_edge(parent, child)
    return _attribute_edge(parent, child)


def _dict_edge(parent: dict[Any, Any], child: Any, attributes: bool, steps: Steps) -> str:
    key = steps.key_of(parent, child)
    if key is _NONE:
        return f" key {_key_text(child)}"
    if attributes and type(key) is str:
        return f".{key}"
    return f"[{_key_text(key)}]"


def _key_text(key: Any) -> str:
    if type(key) in _SCALARS:
        return _shorten(_scalar_repr(key))
    if type(key) is tuple and len(key) <= 3 and all(type(item) in _SCALARS for item in key):
        return _shorten(repr(key))
    return f"<{short_repr(key)}>"


def _function_edge(parent: types.FunctionType, child: Any) -> str:
    for name in ("__closure__", "__defaults__", "__kwdefaults__", "__code__", "__globals__"):
        if getattr(parent, name) is child:
            return f".{name}"
    for number, cell in enumerate(parent.__closure__ or ()):
        if cell is child:
            return f".__closure__[{number}]"
    return f".<{short_repr(child)}>"


def _code_edge(parent: types.CodeType, child: Any) -> str:
    for name in ("co_consts", "co_names", "co_name", "co_filename", "co_linetable"):
        if getattr(parent, name) is child:
            return f".{name}"
    return f".<{short_repr(child)}>"


def _attribute_edge(parent: Any, child: Any) -> str:
    """Through slots and attribute values; a __dict__ is passed over by name."""
    kind = type(parent)
    mro = type.__dict__["__mro__"].__get__(kind)
    for base in mro:
        for name, member in list(type.__dict__["__dict__"].__get__(base).items()):
            if type(member) is types.MemberDescriptorType:
                try:
                    if member.__get__(parent, kind) is child:
                        return f".{name}"
                except (AttributeError, TypeError):
                    continue
    for name in _core.attribute_names(kind):
        try:
            # Past a user-defined __getattribute__; a data descriptor of the class would run.
            if not _in_class(mro, name) and object.__getattribute__(parent, name) is child:
                return f".{name}"
        except (AttributeError, TypeError):
            continue
    if type(child) is dict:
        return ".__dict__"
    if isinstance(parent, type):
        for name, value in list(type.__dict__["__dict__"].__get__(parent).items()):
            if value is child:
                return f".{name}"
    return f".<{short_repr(child)}>"


def _in_class(mro: tuple[type, ...], name: str) -> bool:
    return any(name in type.__dict__["__dict__"].__get__(base) for base in mro)


def detail_text(owner: Any, field: str, offset: int, in_body: bool) -> str | None:
    """What of OWNER was written, closer than the field: an attribute or a source line.

    OFFSET is in bytes, from the object or, unless IN_BODY, from its block of values.
    """
    if field == "inline cache or counter":
        return _line_text(owner, offset - _core.CODE_BYTECODE)
    if field == "instance values" and in_body:
        return _slot_text(owner, offset)
    return None


def _line_text(code: types.CodeType, at: int) -> str | None:
    """The source line of the four code units from AT bytes into the bytecode on."""
    for begin, end, line in code.co_lines():
        if begin < at + 8 and end > at and line is not None:
            return f"{_file(code)}:{line}"
    return None


def _slot_text(owner: Any, offset: int) -> str | None:
    """The attribute whose value lies OFFSET bytes into an instance."""
    kind = type(owner)
    size = kind.__basicsize__
    names = _core.attribute_names(kind)
    if offset < size or not names:
        return None
    # Behind the body (3.13): the values, led by a table of some bytes for the order.
    prefix = (_core.attribute_room(kind) + 2 + 7) & ~7
    number = (offset - size - prefix) // 8
    return f".{names[number]}" if 0 <= number < len(names) else None
