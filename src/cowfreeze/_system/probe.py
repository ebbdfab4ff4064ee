"""What this kernel lets this process do: asked by trying, because containers forbid by filter.

Each answer is True, False, or None with the reason in words. Nothing here outlives the question:
every descriptor is closed again and no memory is registered with anything.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass

_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "ppc64le": 364, "s390x": 355}
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_USER_MODE_ONLY = 1
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, 96 bytes)
_PAGEMAP_SCAN_FORM = "=12Q"
_SIGTRAP, _REMOVE_ON_EXEC, _EXCLUDE_KERNEL, _EXCLUDE_HV, _DISABLED = 1 << 37, 1 << 36, 1 << 5, 1 << 6, 1


@dataclass(frozen=True)
class Answer:
    works: bool | None
    text: str


def pagemap() -> Answer:
    """May this process read its own pagemap? The audit's page counts come from there."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(id(object()) // os.sysconf("SC_PAGE_SIZE") * 8)
            entry = file.read(8)
    except OSError as error:
        return Answer(False, f"/proc/self/pagemap cannot be read: {error.strerror}")
    if len(entry) != 8 or not entry:
        return Answer(False, "/proc/self/pagemap is empty")
    return Answer(True, "/proc/self/pagemap can be read")


def pagemap_scan() -> Answer:
    """Does the ioctl PAGEMAP_SCAN exist (Linux 6.7)? It finds written pages without reading the others."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            # An empty range: size, flags, start, end, walk_end, vec, vec_len, max_pages, four masks.
            argument = bytearray(struct.pack(_PAGEMAP_SCAN_FORM, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1))
            fcntl.ioctl(file, _PAGEMAP_SCAN, argument)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return Answer(False, f"PAGEMAP_SCAN is not there ({platform.release()}; it came with Linux 6.7)")
        return Answer(False, f"PAGEMAP_SCAN fails: {error.strerror}")
    return Answer(True, "PAGEMAP_SCAN works")


def userfaultfd() -> Answer:
    """May this process open a userfaultfd for its own user-mode faults (Linux 5.11)?"""
    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        return Answer(None, f"userfaultfd: its call number on {platform.machine()} is not known here")
    return _try("userfaultfd", number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)


def perf() -> Answer:
    """May this process get a signal for each of its page faults (perf sigtrap, Linux 5.13)?"""
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        return Answer(None, f"perf: its call number on {platform.machine()} is not known here")
    # perf_event_attr: software event (1), size 128, page-faults-min (5), sample period 1, ... flags.
    flags = _SIGTRAP | _REMOVE_ON_EXEC | _EXCLUDE_KERNEL | _EXCLUDE_HV | _DISABLED
    attributes = struct.pack("=IIQQQQQ", 1, 128, 5, 1, 0, 0, flags).ljust(128, b"\0")
    buffer = ctypes.create_string_buffer(attributes, 128)
    return _try("perf page-fault events", number, buffer, 0, -1, -1, 8)


def _try(name: str, number: int, *arguments: object) -> Answer:
    """Make a system call that returns a descriptor, close it, and say how it went."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result = library.syscall(ctypes.c_long(number), *words)
    if result >= 0:
        os.close(result)
        return Answer(True, f"{name}: allowed")
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        return Answer(False, f"{name}: this kernel (or sandbox) has no such call")
    if code in (errno.EPERM, errno.EACCES):
        return Answer(False, f"{name}: forbidden here, by a setting or by the container's seccomp filter")
    return Answer(False, f"{name}: {os.strerror(code)}")
