"""What the cases need: object headers read past the interpreter, and pages that a worker copied.

Headers are read with ctypes, so that no test relies on the code that it tests:

            byte 0        4        6        8
  3.10-3.11  [ ob_refcnt                ]    marked: a count that no program reaches
  3.12-3.13  [ low word ][ high word    ]    marked: low word exactly 0xFFFFFFFF
  3.14-3.15  [ob_refcnt ][overfl][flags ]    marked: well above 3 << 30, and bit 0 of flags
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from cowfreeze import _core

PAGE = os.sysconf("SC_PAGE_SIZE")
VERSION = sys.version_info[:2]
HAS_IMMORTAL = VERSION >= (3, 12)
HAS_FLAGS = VERSION >= (3, 14)
IS_DEBUG = bool(sysconfig.get_config_var("Py_DEBUG"))
GC_HEAD = 16

# glibc raises the size from which a block gets a mapping of its own when such a block is freed;
# set once, it stays. (M_MMAP_THRESHOLD is -3.)
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).mallopt(-3, 64 << 10)


class Skip(Exception):
    """This interpreter cannot run the case."""


def needs(condition: bool, reason: str) -> None:
    if not condition:
        raise Skip(reason)


# -- headers ----------------------------------------------------------------


def raw(obj: object, before: int = 0, size: int = 16) -> bytes:
    """SIZE bytes of the object and BEFORE bytes in front of it."""
    return ctypes.string_at(id(obj) - before, before + size)


def count_of(obj: object) -> int:
    """The reference count as the interpreter stores it."""
    if HAS_IMMORTAL:
        return ctypes.c_uint32.from_address(id(obj)).value
    return ctypes.c_int64.from_address(id(obj)).value


def flags_of(obj: object) -> int:
    return ctypes.c_uint16.from_address(id(obj) + 6).value


def is_marked(obj: object) -> bool:
    """Does the object bear a mark, freeze's own or the interpreter's?"""
    count = count_of(obj)
    if HAS_FLAGS:
        return count >= 0xC0000000 and flags_of(obj) & 1 == 1
    if HAS_IMMORTAL:
        return count == 0xFFFFFFFF
    return count >= 1 << 39


def word_at(obj: object, offset: int) -> int:
    """A signed word of the object, such as a cached hash."""
    return ctypes.c_ssize_t.from_address(id(obj) + offset).value


def mortal(obj: Any) -> Any:
    """The object, after making sure that a test with it can fail."""
    if is_marked(obj):
        raise AssertionError(f"{obj!r} is immortal before the freeze: it proves nothing")
    return obj


# -- pages ------------------------------------------------------------------


def page_of(obj: object) -> int:
    return id(obj) // PAGE * PAGE


def pages_of(objects: Iterable[object]) -> set[int]:
    return {page_of(obj) for obj in objects}


def in_worker(target: Callable[[], Any]) -> Any:
    """Fork, call target, and return what it returns, through JSON.

    A worker that raises or dies fails the case, by name.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            data = json.dumps(target()).encode()
            while data:
                data = data[os.write(writing, data) :]
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise AssertionError(f"the worker ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(data)


def copied_by(reader: Callable[[], Any]) -> set[int]:
    """Addresses of the pages that a worker copies by calling reader."""
    with _core.Witness() as witness:

        def worker() -> list[int]:
            reader()
            return list(_core.copied_addresses(witness))

        return set(in_worker(worker))


class Fork:
    """A worker that runs the block itself, in the frame that the block belongs to.

    with Fork() as fork:
        if fork.is_worker:
            ...
    fork.copied    # addresses of the pages that the worker copied
    """

    is_worker = False
    copied: set[int]
    kept: Any = None

    def __enter__(self) -> Fork:
        self._witness = _core.Witness()
        self._reading, self._writing = os.pipe()
        self._pid = os.fork()
        self.is_worker = self._pid == 0
        return self

    def __exit__(self, kind: Any, value: BaseException | None, where: Any) -> None:
        if self.is_worker:
            status = 1
            try:
                if value is None:
                    data = json.dumps(list(_core.copied_addresses(self._witness))).encode()
                    while data:
                        data = data[os.write(self._writing, data) :]
                    status = 0
                else:
                    traceback.print_exception(kind, value, where)
            finally:
                os._exit(status)
        os.close(self._writing)
        with open(self._reading, "rb") as stream:
            data = stream.read()
        _, status = os.waitpid(self._pid, 0)
        self._witness.close()
        if value is not None:
            return
        if status != 0:
            raise AssertionError(f"the worker ended with {os.waitstatus_to_exitcode(status)}")
        self.copied = set(json.loads(data))


def big_str(tag: str, size: int = 600_000) -> str:
    """A str in a mapping of its own: nothing else can write its header's page."""
    return (tag + " ") * (size // (len(tag) + 1))


def big_tuple(n: int = 100_000) -> tuple[None, ...]:
    """Likewise a tuple."""
    return (None,) * n


def vm_flags(addresses: Iterable[int]) -> list[set[str]]:
    """The VmFlags of the mappings that hold the addresses."""
    wanted = sorted(addresses)
    found = []
    inside = False
    with open("/proc/self/smaps") as stream:
        for line in stream:
            first = line.split(None, 1)[0]
            if "-" in first and not first.endswith(":"):
                start, end = (int(part, 16) for part in first.split("-"))
                inside = any(start <= address < end for address in wanted)
            elif inside and first == "VmFlags:":
                found.append(set(line.split()[1:]))
    return found
