"""The peers that do not keep live objects: each element pickled into one buffer.

    buffer   | pickle of element 0 | pickle of element 1 | ...
    offsets  | 0 | 312 | ...                              8 bytes each

Detectron2's `DatasetFromList(serialize=True)`, MMEngine and others copy this scheme
(TorchSerializedList): no reference count lies among the data, so nothing is copied, and the
price is a `pickle.loads` at every access, which makes a new object each time. It serves lists
whose elements are read one at a time. `shared_memory` is the same bytes in a POSIX shared
memory block (multiprocessing.shared_memory), as PyTorch's SharedList has them.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterator
from typing import Any


class SerializedList:
    """A read-only list of pickles. BUFFER is a bytes-like object, OFFSETS has one entry more
    than there are elements."""

    def __init__(self, buffer: memoryview, offsets: memoryview) -> None:
        self._buffer = buffer
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return pickle.loads(self._buffer[self._offsets[index] : self._offsets[index + 1]])

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self[index]


def dump(elements: list[Any]) -> tuple[bytes, array[int]]:
    """The pickles of ELEMENTS in a row, and where each begins (and the last one ends)."""
    pickles = [pickle.dumps(element, pickle.HIGHEST_PROTOCOL) for element in elements]
    offsets = array("q", [0])
    position = 0
    for text in pickles:
        position += len(text)
        offsets.append(position)
    return b"".join(pickles), offsets


def in_one_buffer(elements: list[Any]) -> SerializedList:
    """ELEMENTS pickled into this process's own memory."""
    buffer, offsets = dump(elements)
    return SerializedList(memoryview(buffer), memoryview(offsets))


class SharedBlock:
    """A POSIX shared memory block that holds pickles and offsets.

    The workers inherit the mapping through the fork; the name exists until `close`.
    """

    def __init__(self, elements: list[Any]) -> None:
        from multiprocessing.shared_memory import SharedMemory

        class Block(SharedMemory):
            """Unmapped by the end of the process: closing it fails while views of it exist."""

            def __del__(self) -> None:
                pass

        buffer, offsets = dump(elements)
        index = offsets.tobytes()
        # The offsets come first: they are read as 8-byte numbers and need their alignment.
        self._block = Block(create=True, size=len(index) + len(buffer))
        memory = self._block.buf
        assert memory is not None
        memory[: len(index)] = index
        memory[len(index) : len(index) + len(buffer)] = buffer
        self._views = (memory[len(index) : len(index) + len(buffer)], memory[: len(index)].cast("q"))
        self.list = SerializedList(*self._views)

    def close(self) -> None:
        """Remove the block's name; the memory goes when the last mapping does."""
        self._block.unlink()


def shared_memory_room() -> int | None:
    """Bytes that /dev/shm can still take; None where there is no such file system."""
    import os

    try:
        stat = os.statvfs("/dev/shm")
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize
