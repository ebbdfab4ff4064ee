"""DataHandle: stands for what a zygote has loaded, and is the object itself in a worker."""

from __future__ import annotations

import weakref
from typing import Any

from cowfreeze._zygote import worker

# Zygotes of this process, by key: what is pickled and unpickled here stays a handle.
made_here: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


class DataHandle:
    """What `zygote.data` is in the program that made the zygote: a name, some bytes when pickled.

    Unpickled in a worker of the zygote, wherever it was put (arguments, initializers, attributes),
    it is the loaded object, of the generation that the worker was forked from. ``len(handle)`` and
    ``handle.type_name`` tell of the current generation.
    """

    __slots__ = ("_zygote",)

    def __init__(self, zygote: Any) -> None:
        self._zygote = zygote

    @property
    def type_name(self) -> str:
        """Type of the loaded object, "module.name"."""
        kind: str = self._zygote.report.data_type
        return kind

    def __len__(self) -> int:
        length: int | None = self._zygote.report.data_length
        if length is None:
            raise TypeError(f"object of type {self.type_name!r} has no len()")
        return length

    def __bool__(self) -> bool:
        return True  # the handle is there, however long the data are

    def __repr__(self) -> str:
        report = self._zygote.report
        length = "" if report.data_length is None else f", length {report.data_length:,}"
        return f"<data of {report.name}, generation {report.generation}: {report.data_type}{length}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _resolve, (self._zygote._key, self._zygote.name)


def _resolve(key: str, name: str) -> Any:
    zygote = made_here.get(key)
    return worker.inherited_data(key, name) if zygote is None else zygote.data
