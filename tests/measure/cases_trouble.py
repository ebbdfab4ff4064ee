"""Scenarios: what applications do to us, and the witness itself."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable

from areas import (
    PAGE,
    PAGES,
    PR_GET_THP_DISABLE,
    Area,
    Report,
    Worker,
    drop_to,
    exists,
    judged,
    prctl,
    record_of,
    wait_for_go,
    wait_until,
)

from cowfreeze import _core

# ---- what applications do to us ------------------------------------------------------------


def closed_descriptors(options: argparse.Namespace, reuse: bool = False) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            os.closerange(3, 4096)
            if reuse:
                null = os.open(os.devnull, os.O_RDONLY)
                for fd in range(1000, 1016):
                    os.dup2(null, fd)
            area.write(mine, 2)
            report = judged(area, witness, audit, area.addresses(mine))
            if reuse:
                del audit
                for fd in range(1000, 1016):
                    os.fstat(fd)  # raises if the audit closed what is not its own
            return report

        return Worker(worker).report()


def reused_descriptors(options: argparse.Namespace) -> Report:
    return closed_descriptors(options, reuse=True)


def killed_witness(options: argparse.Namespace, descriptors: bool = True) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(range(100), 2)
            if not descriptors:
                os.closerange(3, 4096)
            wait_for_go()
            return {"record": record_of(audit), "alive": witness.alive()}

        process = Worker(worker)
        os.kill(witness.pid, signal.SIGKILL)
        wait_until(lambda: not exists(witness.pid))
        process.go()
        return {**process.report(), "alive_for_parent": witness.alive()}


def killed_witness_closed_descriptors(options: argparse.Namespace) -> Report:
    return killed_witness(options, descriptors=False)


def parent_exits(options: argparse.Namespace) -> Report:
    """The kernel ends the witness with its parent: the worker must not guess."""
    area = Area(options.huge)
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        witness = _core.Witness()
        if os.fork() == 0:
            audit = _core.WorkerAudit(witness)
            area.write(range(100), 2)
            os.write(writing, b"r")
            wait_until(lambda: not exists(witness.pid))
            report = {"record": record_of(audit), "witness_gone": not exists(witness.pid)}
            os.write(writing, json.dumps(report).encode())
            os._exit(0)
        time.sleep(0.1)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.waitpid(parent, 0)
    with open(reading, "rb") as stream:
        return dict(json.loads(stream.read()))


def no_objects(options: argparse.Namespace) -> Report:
    """Measuring takes no block from Python's allocator, and leaves no mapping behind."""
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            fd = os.open(os.devnull, os.O_WRONLY)
            audit.measure_into(fd)

            def blocks(action: Callable[[], object]) -> int:
                before = sys.getallocatedblocks()
                action()
                return sys.getallocatedblocks() - before

            for _ in range(3):
                blocks(lambda: None)  # what the interpreter makes at first calls
            idle = blocks(lambda: None)  # the number itself takes a block
            measuring = blocks(lambda: audit.measure_into(fd))
            with open("/proc/self/maps") as stream:
                lines = len(stream.readlines())
            for _ in range(20):
                audit.measure_into(fd)
            with open("/proc/self/maps") as stream:
                more = len(stream.readlines())
            return {"blocks": measuring - idle, "mappings": more - lines}

        return Worker(worker).report()


def bad_descriptor(options: argparse.Namespace) -> Report:
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            try:
                audit.measure_into(987)
            except OSError as error:
                return {"errno": error.errno, "text": str(error)}
            return {}

        return Worker(worker).report()


def huge_pages_off(options: argparse.Namespace) -> Report:
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            return {"disabled": prctl(PR_GET_THP_DISABLE), "method": record_of(audit)["method"]}

        return {**Worker(worker).report(), "parent": prctl(PR_GET_THP_DISABLE)}


# ---- the witness ---------------------------------------------------------------------------


def witness_manners(options: argparse.Namespace) -> Report:
    """What the application must not notice of the witness."""
    delivered: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: delivered.append(number))
    reading, writing = os.pipe()
    witness = _core.Witness()
    report: Report = {"alive": witness.alive(), "pid_exists": exists(witness.pid)}
    os.close(writing)
    report["pipe_closed"] = os.read(reading, 1) == b""
    try:
        report["seen_by_wait"] = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        report["seen_by_wait"] = None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        os.kill(witness.pid, number)
    time.sleep(0.02)
    report["alive_after_signals"] = witness.alive() and exists(witness.pid)
    with open(f"/proc/{witness.pid}/stat") as stream:
        report["state"] = stream.read().rpartition(")")[2].split()[0]
    report["descriptors"] = os.listdir(f"/proc/{witness.pid}/fd")

    def worker() -> Report:
        witness.close()
        return {"closed": not witness.alive()}

    report["worker"] = Worker(worker).report()
    report["alive_after_worker_closed"] = witness.alive()
    descriptors = len(os.listdir("/proc/self/fd"))
    witness.close()
    witness.close()
    report["descriptors_given_back"] = descriptors - len(os.listdir("/proc/self/fd"))
    report["alive_after_close"] = witness.alive()
    report["process_left"] = os.path.exists(f"/proc/{witness.pid}")
    report["signals"] = len(delivered) - 1  # one for the worker
    try:
        _core.copied_addresses(witness)
    except ValueError as error:
        report["closed_error"] = str(error)
    return report


def inherited_pages(options: argparse.Namespace) -> Report:
    """Two witnesses, one without and one with an area of memory."""
    with _core.Witness() as empty:
        area = Area(options.huge)
        without = empty.inherited_pages()
    witness = _core.Witness()
    before = witness.inherited_pages()
    area.write(area.some(1, 700), 2)
    Worker(lambda: area.write(area.some(2, 700), 3) or {}).report()  # type: ignore[func-returns-value]
    later = witness.inherited_pages()
    area.map.close()
    with open("/proc/self/statm") as stream:
        space = int(stream.read().split()[0]) * PAGE + area.pages * PAGE
    report: Report = {
        "area": area.pages,
        "more": before - without,
        "before": before,
        "later": later if later == witness.inherited_pages() else -1,
        "address_space": space,
    }
    os.kill(witness.pid, signal.SIGKILL)
    wait_until(lambda: not exists(witness.pid))
    try:
        witness.inherited_pages()
    except OSError as error:
        report["ended_error"] = type(error).__name__
    witness.close()
    try:
        witness.inherited_pages()
    except ValueError as error:
        report["closed_error"] = str(error)
    return report


def inherited_pages_kinds(options: argparse.Namespace) -> Report:
    """What is no page of this process's own: a file's, the zero page, reserved addresses."""

    def more(make: Callable[[], object]) -> tuple[int, object]:
        """How many pages more a second witness has; what was made is kept until then."""
        with _core.Witness() as first:
            before = first.inherited_pages()
        kept = make()
        with _core.Witness() as second:
            return second.inherited_pages() - before, kept

    def of_file() -> Area:
        fd = os.memfd_create("area")
        os.pwrite(fd, b"x" * (PAGES * PAGE), 0)
        area = Area(fd=fd, fill=False)
        sum(area.map[page * PAGE] for page in range(area.pages))
        return area

    def only_read() -> Area:
        area = Area(fill=False)
        area.write([0], 1)  # fork copies nothing of memory that was never written
        sum(area.map[page * PAGE] for page in range(area.pages))
        return area

    def hole() -> mmap.mmap:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
        area = mmap.mmap(-1, 1 << 33, flags=flags)
        area[(1 << 33) - 1] = 1
        return area

    more(lambda: None)  # the interpreter's own first time
    # In units that the interpreter's own few pages do not reach; the hole is looked at by time.
    counts = {"file": more(of_file), "only_read": more(only_read)}
    report: Report = {name: count // 1000 for name, (count, _) in counts.items()}
    started = time.monotonic()
    count, _ = more(hole)
    report["hole"] = int(0 < count < 1000 and time.monotonic() - started < 5)
    return report


def witness_dropped(options: argparse.Namespace) -> Report:
    """Without close(): the object's end is the process's end."""
    pid = _core.Witness().pid
    return {"left": os.path.exists(f"/proc/{pid}")}


def witness_limit(options: argparse.Namespace) -> Report:
    """No process to be had: an OSError, and nothing left behind."""
    import resource

    drop_to(64999 if os.getuid() == 0 else os.getuid())
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    before = os.listdir("/proc/self/fd")
    try:
        _core.Witness()
    except OSError as error:
        return {
            "errno": error.errno,
            "text": str(error),
            "descriptors": len(os.listdir("/proc/self/fd")) - len(before),
        }
    return {}
