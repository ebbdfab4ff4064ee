"""Gives up rights as asked, runs the main operations, and prints how each ended as JSON.

Kinds: user, changed, undumpable, namespace, filter, "old filter", hidepid;
and "alarms", which takes nothing away but time.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from typing import Any

NOBODY = 65534
LIBC = ctypes.CDLL(None, use_errno=True)
# Numbers of system calls: x86_64, aarch64.
CALLS = {
    "userfaultfd": (323, 282), "perf_event_open": (298, 241), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "memfd_create": (319, 279), "pidfd_open": (434, 434),
}  # fmt: skip
LIKE_CONTAINERS = ("userfaultfd", "perf_event_open", "ptrace", "process_vm_readv")
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC_PRIVATE = 16384 | 262144


class Skip(Exception):
    """This cannot be tried here."""


def call(function: str, *arguments: Any) -> None:
    if getattr(LIBC, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise Skip(f"{function} is not possible here: {os.strerror(error)}")


def forbid(names: tuple[str, ...], error: int) -> None:
    """A seccomp filter: these calls fail with ERROR."""
    machines = {"x86_64": 0, "aarch64": 1}
    if platform.machine() not in machines:
        raise Skip(f"no numbers of system calls for {platform.machine()}")
    numbers = [CALLS[name][machines[platform.machine()]] for name in names]
    steps = [(0x20, 0, 0, 0)]  # load the number
    for i, number in enumerate(numbers):
        steps.append((0x15, len(numbers) - i, 0, number))  # equal: jump to the last step
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)]  # allow; errno
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    buffer = ctypes.create_string_buffer(header, len(header))
    LIBC.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    call("prctl", 22, 2, ctypes.addressof(buffer), 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def give_up(kind: str) -> None:
    if kind in ("user", "changed"):
        become_nobody()
        if kind == "user":
            call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as a process of this user has it
    elif kind == "undumpable":
        call("prctl", 4, 0, 0, 0, 0)
    elif kind == "namespace":
        call("unshare", CLONE_NEWUSER)
    elif kind == "filter":
        forbid(LIKE_CONTAINERS, 1)
    elif kind == "old filter":
        forbid(("memfd_create", "pidfd_open"), 1)
    elif kind == "alarms":
        # Each system call that can be interrupted is, in this process and not in its children.
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    elif kind == "hidepid":
        call("unshare", CLONE_NEWNS)
        call("mount", b"none", b"/", None, MS_REC_PRIVATE, None)
        call("mount", b"proc", b"/proc", b"proc", 0, b"hidepid=2")
        become_nobody()
        call("prctl", 4, 1, 0, 0, 0)


def ended(operation: Any) -> Any:
    try:
        return operation()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    # Before the rights go: another user may not be able to read the folder of this Python.
    import cowfreeze
    from cowfreeze import _core

    data = {"rows": [[i, str(i)] for i in range(1000)], "n": list(range(10))}
    source = {"a": [1, 2, (3, "x")]}

    def target(index: int) -> int:
        data["rows"][index].append(0)
        return sum(data["n"])

    # What is imported late must be imported now.
    early = cowfreeze.fork_workers(target, 1, trap=True)
    str(early), str(early.explain())
    give_up(sys.argv[1])
    before = sorted(os.listdir("/proc/self/fd"))
    frozen = ended(lambda: cowfreeze.freeze(data).objects > 1000)
    packed = ended(lambda: cowfreeze.pack(source) == source)
    cloned = ended(lambda: cowfreeze.clone(source) == source)
    run = cowfreeze.fork_workers(target, 2, explain=True)
    text = str(run)
    explanation = run.explain(worker=0) if run.explanations else None
    trapped = cowfreeze.trap()

    def under_trap() -> None:
        with trapped:
            data["rows"][5].append(1)

    how = ended(under_trap)
    signal.setitimer(signal.ITIMER_REAL, 0)  # the handler goes when the interpreter ends
    left = [f"descriptor {fd}" for fd in sorted(os.listdir("/proc/self/fd")) if fd not in before]
    try:
        left.append(f"child {os.waitpid(-1, os.WNOHANG | 0x40000000)}")
    except ChildProcessError:
        pass
    worker = run.workers[0]
    assert text and (worker.copied_pages is not None or worker.reasons), "unknown, and no reason"
    print(
        json.dumps(
            {
                "frozen": frozen,
                "packed": packed,
                "cloned": cloned,
                "results": list(run.results),
                "copied": worker.copied_pages,
                "reasons": list(worker.reasons),
                "notes": list(run.notes),
                "explained": explanation is not None and explanation.pages > 0,
                "trap": trapped.backend if how is None else how,
                "why": trapped.why if how is None else how,
                "left": left,
                "armed": _core.trap_is_armed(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(json.dumps({"skip": str(reason)}))
