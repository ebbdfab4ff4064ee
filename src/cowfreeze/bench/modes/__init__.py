"""The modes: what is done with the data between loading it and forking.

Each peer is used as its own documentation says, in the order that suits it best. A mode that
is not there (package not installed, Python too old, data of a kind that it does not take) says
why, and its row carries that reason: a table without the row would look as if nothing had been
left out.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cowfreeze


_NO_PICKLE = (TypeError, AttributeError, pickle.PicklingError)  # what pickle raises for what it cannot store


class Unavailable(Exception):
    """This mode cannot be run here or on this data; the text says why."""


@dataclass(frozen=True)
class Applied:
    """What a mode made of the data.

    Attributes:
        view: what the workers read: the data itself, or the peer's copy of it.
        notes: what a reader of the row must know.
        frozen: whether frozen pages exist, so that counting copied ones means something.
        close: what to call when the workers are gone.
    """

    view: Any
    notes: tuple[str, ...] = ()
    frozen: bool = False
    close: Callable[[], None] | None = None


@dataclass(frozen=True)
class Mode:
    """One mode.

    Attributes:
        live: workers use the very objects that the parent built, with their identity.
        ours: cowfreeze itself, not a peer.
        before: called before the data is built; raises Unavailable.
        apply: called with the data, right before the fork; raises Unavailable.
        in_worker: called first in each worker.
    """

    name: str
    summary: str
    live: bool
    ours: bool
    before: Callable[[], None]
    apply: Callable[[Any], Applied]
    in_worker: Callable[[], None] | None = None


def _nothing() -> None:
    return None


def _freeze(data: Any) -> Applied:
    return Applied(data, cowfreeze.freeze(data).notes, frozen=True)


def _heap(data: Any) -> Applied:
    return Applied(data, cowfreeze.freeze().notes, frozen=True)


def _gc_freeze(data: Any) -> Applied:
    gc.freeze()
    return Applied(data)


def _need_pack() -> None:
    if getattr(cowfreeze, "pack", None) is None:
        raise Unavailable("this cowfreeze has no pack()")


def _pack(data: Any) -> Applied:
    _need_pack()
    pack: Callable[[Any], Any] = getattr(cowfreeze, "pack")  # noqa: B009
    try:
        view = pack(data)
    except (TypeError, cowfreeze.UnsupportedError, OSError) as error:
        raise Unavailable(str(error)) from error
    gc.collect()
    # The collector would write to what is left of the interpreter's own heap in every worker.
    gc.freeze()
    return Applied(view)


def _need_cinderx() -> None:
    if importlib.util.find_spec("cinderx") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise Unavailable(f"cinderx is not installed for this Python {version} (wheels exist for 3.14)")
    module = importlib.import_module("cinderx")
    # Without its native module immortalize_heap() does nothing and says nothing.
    if not module.is_initialized():
        raise Unavailable("cinderx is installed, but its native module does not load here")


def _cinderx(data: Any) -> Applied:
    importlib.import_module("cinderx").immortalize_heap()  # collects and calls gc.freeze() itself
    return Applied(data)


def _check_list(data: Any) -> None:
    if type(data) is not list:
        raise Unavailable(f"it holds lists only, and this data is a {type(data).__name__}")


def _serialized(data: Any) -> Applied:
    from cowfreeze.bench.modes.serialized import in_one_buffer

    _check_list(data)
    try:
        return Applied(in_one_buffer(data))
    except _NO_PICKLE as error:
        raise Unavailable(f"the data cannot be pickled: {error}") from error


def _shared_memory(data: Any) -> Applied:
    from cowfreeze.bench.modes.serialized import SharedBlock, shared_memory_room

    _check_list(data)
    room = shared_memory_room()
    if room is None:
        raise Unavailable("there is no /dev/shm here")
    try:
        block = SharedBlock(data)
    except _NO_PICKLE as error:
        raise Unavailable(f"the data cannot be pickled: {error}") from error
    except OSError as error:
        raise Unavailable(f"a shared memory block cannot be made here: {error}") from error
    return Applied(block.list, close=block.close)


def _need_huge_pages() -> None:
    from cowfreeze.bench.modes.hugepages import huge_page_size

    if huge_page_size() is None:
        raise Unavailable("this kernel has no transparent huge pages")


def _hugepages(data: Any) -> Applied:
    from cowfreeze._sizes import format_size
    from cowfreeze.bench.modes.hugepages import collapse_heap

    gc.collect()
    result = collapse_heap()
    if not result.done:
        raise Unavailable(f"no memory could be moved to huge pages: {result.reason or 'the heap is too small'}")
    return Applied(data, (f"{format_size(result.done)} of the heap lie on huge pages",))


_ALL = (
    Mode("none", "fork, nothing else", True, False, _nothing, lambda data: Applied(data)),
    Mode(
        "gc.freeze",
        "gc.disable() early in the parent, gc.freeze() before the fork, gc.enable() in the worker",
        True,
        False,
        gc.disable,
        _gc_freeze,
        gc.enable,
    ),
    Mode("freeze", "cowfreeze.freeze(data)", True, True, _nothing, _freeze),
    Mode("heap", "cowfreeze.freeze(): the whole heap", True, True, _nothing, _heap),
    Mode("pack", "cowfreeze.pack(data), an equal copy in memory of its own, then gc.freeze()", False, True, _need_pack, _pack),
    Mode("cinderx", "cinderx.immortalize_heap() (CPython 3.14)", True, False, _need_cinderx, _cinderx),
    Mode("serialized", "each element pickled into one buffer (TorchSerializedList)", False, False, _nothing, _serialized),
    Mode("shared_memory", "the same buffer in multiprocessing.shared_memory", False, False, _nothing, _shared_memory),
    Mode("hugepages", "the heap on huge pages (MADV_COLLAPSE) before the fork", True, False, _need_huge_pages, _hugepages),
)
MODES: dict[str, Mode] = {mode.name: mode for mode in _ALL}
