"""numpy: arrays are outside the collector, so nothing but their layout leads to their elements."""

from __future__ import annotations

import datetime
import gc
import types
from typing import Any

import cowfreeze
from helpers.cases import HAS_IMMORTAL, copied_by, is_marked, mortal, needs, pages_of
from freeze.zoo import Plain, text

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]


def _numpy() -> Any:
    needs(numpy is not None, "numpy is not installed for this Python")
    return numpy


def object_arrays() -> dict[str, list[str]]:
    """By kind of array: what was reachable and was not frozen."""
    np = _numpy()

    def of(shape: tuple[int, ...], order: str = "C") -> tuple[Any, list[Any]]:
        array = np.empty(shape, dtype=object, order=order)
        values: list[Any] = []
        for index in np.ndindex(*shape):
            array[index] = [text()]
            values += [array[index], array[index][0]]
        return array, values

    flat, flat_values = of((50,))
    cube, cube_values = of((3, 4, 5))
    fortran, fortran_values = of((3, 4), "F")
    base, base_values = of((40,))
    strided, strided_values = of((6, 7))
    scalar = np.array(None, dtype=object)
    scalar[()] = [text()]
    empty = np.empty((0, 5), dtype=object)
    unset = np.empty(10, dtype=object)

    class Sub(np.ndarray):  # type: ignore[misc,name-defined]
        pass

    sub = of((5,))[0].view(Sub)
    sub.note = [text()]
    structured = np.array([(1, 2.0)] * 3, dtype=[("a", "i8"), ("b", "f8")])
    numbers, words = np.arange(1000), np.array(["a", "bb"])
    dates = np.array([datetime.datetime(2024, 1, n) for n in range(1, 5)], dtype=object)
    cases: dict[str, tuple[Any, list[Any]]] = {
        "one dimension": (flat, flat_values),
        "three dimensions": (cube, cube_values),
        "fortran order": (fortran, fortran_values),
        "view": (base[10:20:2], [base, *base_values]),
        "view of a view": (strided[1:][:, 1:].T, [strided, *strided_values]),
        "no dimension": (scalar, [scalar[()], scalar[()][0]]),
        "empty": (empty, [empty]),
        "never set": (unset, [unset]),
        "subclass": (sub, [sub, sub.note, *sub, *(row[0] for row in sub)]),
        "structured": (structured, [structured, structured.dtype]),
        "numbers": (numbers, [numbers]),
        "strings": (words, [words]),
        "datetimes": (dates, [dates, *dates]),
        "in an instance": (Plain(flat, {"x": cube}), [flat, cube]),
        "scalar type": ([np.float64(1.5), np.int64(10**6)], []),
    }
    result = {}
    for label, (root, expected) in cases.items():
        if label not in ("in an instance",):
            for obj in expected:
                if type(obj) is list:
                    mortal(obj)
        cowfreeze.freeze([root])
        result[label] = [repr(obj)[:60] for obj in expected if not is_marked(obj)]
        assert repr(root)
    assert (numbers * 2).sum() == 999_000 and (cube == cube).all()
    del result["scalar type"]
    return result


def structured_with_objects() -> dict[str, Any]:
    """Object fields inside records: their elements must not be missed in silence."""
    np = _numpy()
    array = np.empty(20, dtype=[("n", "i8"), ("o", object)])
    values = []
    for k in range(20):
        array[k] = (k, [text()])
        values.append(array[k]["o"])
    report = cowfreeze.freeze([array])
    return {
        "unmarked": sum(not is_marked(value) for value in values),
        "notes": list(report.notes),
        "array": is_marked(array),
    }


def read_in_worker() -> dict[str, int]:
    """Pages of the elements that a worker copies."""
    np = _numpy()
    needs(HAS_IMMORTAL, "before 3.12 every reference is counted in the object")
    array = np.array([[text()] for _ in range(20_000)], dtype=object).reshape(100, 200)
    pages = pages_of(array.ravel().tolist())

    def read() -> None:
        for row in array:
            for element in row.tolist():
                hash(element)
        assert (array == array).all()
        gc.collect()

    plain = len(copied_by(read) & pages)
    cowfreeze.freeze(array)
    return {"pages": len(pages), "plain": plain, "frozen": len(copied_by(read) & pages)}


def resized() -> dict[str, Any]:
    """numpy asks the reference count whether it may move an array's data."""
    np = _numpy()
    holder = types.SimpleNamespace(array=np.arange(10))
    plain = True
    try:
        holder.array.resize(20)
    except ValueError:
        plain = False
    holder.array = np.arange(10)
    cowfreeze.freeze(holder)
    refused = False
    try:
        holder.array.resize(20)
    except ValueError:
        refused = holder.array.shape == (10,)
    holder.array.resize(20, refcheck=False)
    packed, owned = cowfreeze.pack(np.arange(10)), True
    for arguments in ({}, {"refcheck": False}):
        try:
            packed.resize(20, **arguments)
        except ValueError:
            owned = False
    return {
        "plain": plain,
        "refused": refused,
        "sum": int(holder.array.sum()),
        "owned": owned,
        "same": bool(packed.sum() == 45),
    }
