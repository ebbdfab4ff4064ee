"""What freeze(remap=True) and freeze(hugepages=True) do on the Python side: check, and explain."""

from __future__ import annotations

import os

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError, UnsupportedError
from cowfreeze._sizes import format_size

_SHARERS = (
    "another process has pages of this one (a worker that lives, or the process that this one was "
    "forked from): moving them would double the memory instead of sharing it. Do it before the "
    "first fork"
)
_TEXTS = {
    "nothing": "no memory holds enough frozen objects",
    "threads": "{who} other thread(s) run in this process and could write to memory while it is moved "
    "(threads of C libraries count, OpenBLAS for example). Start them after forking",
    "sharers": _SHARERS,
    "unknown": "a file of /proc/self cannot be read{error}, so it cannot be told whether the memory is "
    "shared",
    "merged": "the kernel has merged pages of this process with equal ones (KSM)",
    "locked": "memory is locked (mlock), which moving it would undo",
    "registered": "memory is registered with the kernel (buffers of io_uring, RDMA, a device): what arrives there would be lost "
    "when it is moved",
    "mappings": "it would need more mappings than the {who:,} that a process may have "
    "(sysctl vm.max_map_count)",
    "memfd": "memfd_create or the size of its file is forbidden here{error}: a seccomp filter, or a "
    "limit on the size of files (ulimit -f)",
    "memory": "the kernel had no memory for it{error}; what had been moved was moved back",
    "malloc": "malloc is not glibc's own (jemalloc, tcmalloc, another C library), or glibc is older than 2.33, "
    "which cannot tell. Others expect zeros in memory that they gave back, and moved memory has its old "
    "content then",
    "no-huge-pages": "transparent huge pages cannot be made here{error} (Linux 6.1 and later, not "
    "disabled for this process by prctl(PR_SET_THP_DISABLE))",
}


def why_not(counts: _core.MoveCounts) -> str | None:
    """Why nothing was moved, as part of a sentence; None if something was."""
    if not counts.reason:
        return None
    error = f" ({os.strerror(counts.error)})" if counts.error else ""
    return _TEXTS[counts.reason].format(who=counts.who, error=error)


def prepare_move(remap: bool, hugepages: bool) -> _core.MoveCounts | None:
    """Refuse what can be seen before anything is frozen.

    Returns:
        Where the figures will stand; None: neither is wanted.

    Raises:
        ValueError: both are wanted. Pages of a memfd are not those that were collapsed.
        UnsupportedError: `remap` on Python 3.10 or 3.11, whose readers write every object.
        CowfreezeError: it is not possible, or not safe, in this process.
    """
    if not remap and not hugepages:
        return None
    if remap and hugepages:
        raise ValueError(
            "remap=True and hugepages=True exclude each other: what is moved to a memfd leaves its huge "
            "pages. Choose remap for forks whose time does not depend on the size, hugepages for "
            "workers without page faults when they read"
        )
    option = _option(hugepages)
    if remap and not _core.HAS_IMMORTAL:
        raise UnsupportedError(
            "freeze(remap=True) needs immortal objects (Python 3.12 and later): here each reader writes "
            "the objects, and would copy them out of the memfd. Use cowfreeze.pack(), or hugepages=True"
        )
    if _core.trap_is_armed():
        raise CowfreezeError(f"freeze({option}) while a trap watches the memory: end the trap first")
    counts = _core.MoveCounts()
    if not counts.check(huge=hugepages):
        raise CowfreezeError(f"freeze({option}) is refused, and nothing was frozen: {why_not(counts)}.")
    return counts


def move_notes(counts: _core.MoveCounts | None, *, hugepages: bool) -> tuple[str, ...]:
    """What a person should know about moved memory."""
    if counts is None:
        return ()
    reason = why_not(counts)
    if reason is not None:
        return (f"{_option(hugepages)} was refused, the freeze itself is complete: {reason}.",)
    if not hugepages:
        return (
            f"{format_size(counts.bytes)} were moved to memfds ({counts.pieces:,} mappings): fork skips them "
            f"as long as the parent does not write there. They count as shared memory (RssShmem).",
        )
    notes = [f"{format_size(counts.bytes)} lie on huge pages. The parent must not write there while workers live."]
    if counts.failed_bytes:
        notes.append(
            f"{format_size(counts.failed_bytes)} could not be put on huge pages ({os.strerror(counts.error)})."
        )
    return tuple(notes)


def _option(hugepages: bool) -> str:
    return "hugepages=True" if hugepages else "remap=True"
