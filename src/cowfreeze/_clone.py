"""Deep copies that write nothing to what they copy: clone, iter_clone."""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator
from typing import Any

from cowfreeze import _core

__all__ = ["clone", "iter_clone"]

_core.clone_init(enum.Enum, typing.Generic)


def clone(obj: Any, *path: Any) -> Any:
    """A deep copy that writes no reference count of its source, on every Python version.

    A worker that reads a shared structure the ordinary way copies the page of every object that
    it touches (always before Python 3.12, and unless frozen or packed after it). ``clone`` reads
    it through borrowed pointers, so those pages stay shared; what it returns is fresh, ordinary
    and mutable.

    ``clone(data, 17, "tags")`` follows keys and indexes first and copies ``data[17]["tags"]``
    only. Cycles and shared references within the copy are kept.

    Copied are None, bool, int, float, complex, str, bytes, bytearray, range, list, tuple, dict,
    set, frozenset, named tuples, datetime types, Decimal and instances of classes written in
    Python (their attributes and slots, without calling ``__init__``, ``__reduce__`` or
    ``__deepcopy__``): dataclasses, UUID, Fraction. Classes, enum members and time zones are taken
    by reference, and so are the class of a new instance and a NaN that something else knows: each of
    them is counted, at most a page each. Dict keys and set elements must be hashable without Python code.

    Args:
        obj: where the path starts.
        path: keys of dicts (str, int, float, bool, bytes or None), indexes of lists and tuples.

    Returns:
        The copy.

    Raises:
        KeyError, IndexError: the path does not exist; the text gives the path.
        TypeError: something on the way cannot be copied; the text gives the path to it, such as
            ``data[17]['lock']: _thread.lock cannot be cloned``. Nothing is left behind.
        MemoryError: no memory for the copy or its book-keeping.
    """
    return _core.clone(obj, path)


def iter_clone(seq: Any, *path: Any) -> Iterator[Any]:
    """``clone`` of each element of a list or tuple, made when it is asked for.

    The elements are those of ``seq[path[0]][path[1]]...``. Copies of different elements share
    nothing but immutable values. The sequence may change between two elements: it is looked up
    again for each.

    Args:
        seq: where the path starts.
        path: leads to the list or tuple; nothing: ``seq`` itself.

    Raises:
        Exception: as ``clone``, when the element is asked for.
    """
    return _core.CloneIterator(seq, path)
