"""Situations with known truth for the audit; one per process, started by test_audit.py.

    python scenario.py NAME [--uid UID] [--huge]

Prints one JSON object. The process is "the parent": it owns an area of memory, forks a witness
and workers. A worker writes a random part of the area and reports what the audit says about it:

    truth    pages of the area that this worker wrote
    false_positives, false_negatives    against truth, by address
    record   the decoded record of measure_into
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from cowfreeze import _core

PAGE = mmap.PAGESIZE
PAGES = 16 * (1 << 20) // PAGE  # of an area
PR_SET_DUMPABLE = 4
PR_GET_THP_DISABLE = 42
LIBC = ctypes.CDLL(None, use_errno=True)
Report = dict[str, Any]


def prctl(option: int, value: int = 0) -> int:
    return int(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


class Area:
    """Private memory whose pages are written one by one."""

    def __init__(self, huge: bool = False, fd: int = -1, pages: int = PAGES, fill: bool = True) -> None:
        flags = mmap.MAP_PRIVATE if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.map = mmap.mmap(fd, pages * PAGE, flags=flags)
        if fd < 0:
            self.map.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        pointer = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(pointer)
        del pointer
        self.pages = pages
        if fill:
            self.write(range(pages), 1)

    def write(self, pages: Iterable[int], value: int) -> None:
        for page in pages:
            self.map[page * PAGE + page % PAGE] = value

    def some(self, seed: int, count: int) -> list[int]:
        return random.Random(seed).sample(range(self.pages), count)

    def addresses(self, pages: Iterable[int]) -> set[int]:
        return {self.address + page * PAGE for page in pages}

    def copied(self, witness: _core.Witness) -> set[int]:
        end = self.address + self.pages * PAGE
        return {a for a in _core.copied_addresses(witness) if self.address <= a < end}


def record_of(audit: _core.WorkerAudit) -> Report:
    reading, writing = os.pipe()
    audit.measure_into(writing)
    data = os.read(reading, 4096)
    os.close(reading)
    os.close(writing)
    return _core.decode_record(data)


def judged(area: Area, witness: _core.Witness, audit: _core.WorkerAudit, truth: set[int]) -> Report:
    """The worker's report. Both ways of asking must see the same."""
    record = record_of(audit)
    report: Report = {"truth": len(truth), "record": record}
    if record["copied_pages"] is not None:
        copied = area.copied(witness)
        report["false_positives"] = len(copied - truth)
        report["false_negatives"] = len(truth - copied)
    return report


class Worker:
    """A forked process that runs `target` and pipes its report up."""

    def __init__(self, target: Callable[[], Report]) -> None:
        reading, writing = os.pipe()
        self.go_read, self.go_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(reading)
                os.close(self.go_write)
                os.dup2(writing, 1)  # where also a worker that closes everything above 2 finds it
                if self.go_read != 0:
                    os.dup2(self.go_read, 0)
                data = json.dumps(target()).encode()
                while data:
                    data = data[os.write(1, data) :]
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        os.close(self.go_read)
        self.reading = reading

    def go(self) -> None:
        """Let a worker on that waits in wait_for_go()."""
        os.write(self.go_write, b"g")

    def report(self) -> Report:
        with open(self.reading, "rb") as stream:
            data = stream.read()
        _, status = os.waitpid(self.pid, 0)
        if status != 0:
            raise SystemExit(f"the worker ended with wait status {status}")
        os.close(self.go_write)
        return dict(json.loads(data))


def wait_for_go() -> None:
    if os.read(0, 1) != b"g":
        raise SystemExit("the parent is gone")


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def exists(pid: int) -> bool:
    """Is there such a process, and is it not a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def huge_bytes(area: Area) -> int:
    """How much of the area huge pages map."""
    inside = False
    total = 0
    with open("/proc/self/smaps") as stream:
        for line in stream:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                start, end = (int(part, 16) for part in head.split("-"))
                inside = start < area.address + area.pages * PAGE and area.address < end
            elif inside and head == "AnonHugePages:":
                total += int(line.split()[1]) * 1024
    return total


# ---- the worker writes, and the others do what they like -------------------------------------


def simple(options: argparse.Namespace, count: int = 700) -> Report:
    area = Area(options.huge)
    huge = huge_bytes(area)
    with _core.Witness() as witness:
        mine = area.some(1, count)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            return judged(area, witness, audit, area.addresses(mine))

        return {**Worker(worker).report(), "huge_bytes": huge}


def clean(options: argparse.Namespace) -> Report:
    return simple(options, count=0)


def everything(options: argparse.Namespace) -> Report:
    return simple(options, count=PAGES)


def parent_writes(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine[:350], 2)
            wait_for_go()
            area.write(mine[350:], 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.write(area.some(2, 900) + mine[::3], 3)
        process.go()
        area.write(area.some(3, 900) + mine[::5], 4)
        process.go()
        return process.report()


def parent_writes_during_scan(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            reports = [judged(area, witness, audit, area.addresses(mine)) for _ in range(8)]
            return max(reports, key=lambda r: r["false_positives"] + r["false_negatives"])

        process = Worker(worker)
        for page in area.some(2, PAGES):
            area.write([page], 3)
        return process.report()


def parent_writes_between_forks(options: argparse.Namespace, second: bool = False) -> Report:
    """Pages that the parent writes between the forks are not the witness's, and then not its own."""
    area = Area(options.huge)
    between = area.some(2, 500)
    # Some that the parent writes too, and that the worker copies itself all the same.
    mine = sorted(set(area.some(1, 700)) - set(between))
    with _core.Witness() as witness:
        area.write(between, 3)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        holder = _core.Witness() if second else None
        area.write(between, 4)
        area.write(area.some(3, 900), 5)
        process.go()
        report = process.report()
        if holder is not None:
            holder.close()
        return {**report, "between": len(between)}


def parent_writes_between_forks_second_witness(options: argparse.Namespace) -> Report:
    return parent_writes_between_forks(options, second=True)


def parent_unmaps(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.map.close()
        process.go()
        return process.report()


def owner_exits(options: argparse.Namespace) -> Report:
    """The process that made the memory ends for good; the one that forks goes on."""
    area = Area(options.huge)
    reading, writing = os.pipe()
    owner = os.getpid()
    if os.fork() != 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        process = Worker(worker)
        area.map.close()
        os.write(writing, b"x")
        gone = wait_until(lambda: not exists(owner))
        process.go()
        return {**process.report(), "owner_gone": gone}


def parent_itself(options: argparse.Namespace) -> Report:
    """The parent asks what it wrote itself; the witness is its own child and does not blind it."""
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)
        area.write(mine, 2)
        return judged(area, witness, _core.WorkerAudit(witness), area.addresses(mine))


def siblings(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:

        def worker(seed: int) -> Report:
            audit = _core.WorkerAudit(witness)
            mine = area.some(seed, 500)
            area.write(mine, seed)
            wait_for_go()
            return judged(area, witness, audit, area.addresses(mine))

        workers = [Worker(lambda seed=seed: worker(seed)) for seed in (2, 3, 4)]  # type: ignore[misc]
        for process in workers:
            process.go()
        reports = [process.report() for process in workers]
        return max(reports, key=lambda r: r["false_positives"] + r["false_negatives"])


# ---- rights --------------------------------------------------------------------------------


def drop_to(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def worker_with(options: argparse.Namespace, steps: str) -> Report:
    """A worker that drops its rights ("u"), allows looking ("d"), forbids it ("n"), begins ("a")."""
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = None
            for step in steps:
                if step == "a":
                    audit = _core.WorkerAudit(witness)
                elif step == "u":
                    drop_to(65534)
                else:
                    prctl(PR_SET_DUMPABLE, int(step == "d"))
            assert audit is not None
            area.write(mine, 2)
            report: Report = {"truth": len(mine), "record": record_of(audit)}
            if "d" in steps:
                copied = area.copied(witness)
                truth = area.addresses(mine)
                report["false_positives"] = len(copied - truth)
                report["false_negatives"] = len(truth - copied)
            return report

        return Worker(worker).report()


def worker_drops_rights_later(options: argparse.Namespace) -> Report:
    return worker_with(options, "au")


def worker_drops_rights_first(options: argparse.Namespace) -> Report:
    return worker_with(options, "ua")


def worker_drops_rights_dumpable(options: argparse.Namespace) -> Report:
    return worker_with(options, "uda")


def worker_not_dumpable(options: argparse.Namespace) -> Report:
    return worker_with(options, "na")


def parent_not_dumpable(options: argparse.Namespace) -> Report:
    prctl(PR_SET_DUMPABLE, 0)
    with _core.Witness() as witness:
        return Worker(lambda: {"record": record_of(_core.WorkerAudit(witness))}).report()


# ---- descendants of the worker -------------------------------------------------------------


def with_child(options: argparse.Namespace, child: Callable[[], None], orphan: bool = False) -> Report:
    """The worker writes, and measures while a child of its own lives; then again without it."""
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            ready, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(ready)
                if orphan and os.fork() != 0:
                    os._exit(0)
                os.write(tell, b"%08d" % os.getpid())
                child()
                os._exit(0)
            os.close(tell)
            pid = int(os.read(ready, 8))
            if orphan:
                os.wait()
            wait_until(lambda: os.read(ready, 1) == b"", 0.01)
            truth = area.addresses(mine)
            report = judged(area, witness, audit, truth)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while True:  # and what else there is
                try:
                    os.wait()
                except ChildProcessError:
                    break
            return {**report, "child": pid, "after": judged(area, witness, audit, truth)}

        return Worker(worker).report()


def sleep_long() -> None:
    os.closerange(3, 64)
    time.sleep(60)


def live_child(options: argparse.Namespace) -> Report:
    return with_child(options, sleep_long)


def live_orphan(options: argparse.Namespace) -> Report:
    return with_child(options, sleep_long, orphan=True)


def child_with_exec(options: argparse.Namespace) -> Report:
    return with_child(options, lambda: os.execv("/bin/sleep", ["sleep", "60"]))


def live_grandchild_below_exec(options: argparse.Namespace) -> Report:
    """The child calls exec, but its own child was forked before and has the worker's memory."""

    def child() -> None:
        if os.fork() == 0:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            sleep_long()
        os.execv("/bin/sleep", ["sleep", "60"])

    return with_child(options, child)


def zombie_child(options: argparse.Namespace) -> Report:
    """An ended child that nobody waited for holds no memory."""
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            wait_until(lambda: not exists(pid))
            return judged(area, witness, audit, area.addresses(mine))

        return Worker(worker).report()


def subprocess_child(options: argparse.Namespace) -> Report:
    area = Area(options.huge)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            with subprocess.Popen(["/bin/sleep", "60"]) as process:
                report = judged(area, witness, audit, area.addresses(mine))
                process.kill()
            return report

        return Worker(worker).report()


def measured_in_child(options: argparse.Namespace) -> Report:
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            return Worker(lambda: {"record": record_of(audit)}).report()

        return Worker(worker).report()


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


# ---- kinds of memory -----------------------------------------------------------------------


def memfd(options: argparse.Namespace, child: bool = False) -> Report:
    """A private mapping of a file: some pages the parent had written before the fork."""
    fd = os.memfd_create("area")
    os.ftruncate(fd, PAGES * PAGE)
    os.pwrite(fd, b"x" * (PAGES * PAGE // 2), 0)
    area = Area(fd=fd, fill=False)
    parents = area.some(5, 400)
    area.write(parents, 7)
    with _core.Witness() as witness:
        mine = area.some(1, 700) + parents[:50]

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            own = Area(fd=fd, fill=False)  # a mapping that the witness does not have: new pages
            own.write(range(200), 3)
            report = judged(area, witness, audit, area.addresses(mine))
            return {**report, "own": len(own.copied(witness))}

        return Worker(worker).report()


def zero_page(options: argparse.Namespace) -> Report:
    """Memory that was read but never written has no page that could be copied."""
    area = Area(fill=False)
    sum(area.map[page * PAGE] for page in range(area.pages))
    area.write(range(100), 1)
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            area.write(range(50, 1000), 2)
            report = judged(area, witness, audit, area.addresses(range(50, 100)))
            return {**report, "new": report["record"]["new_pages"] - before["new_pages"]}

        return Worker(worker).report()


def new_memory(options: argparse.Namespace) -> Report:
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            area = Area(pages=1000)
            after = record_of(audit)
            return {
                "before": before,
                "after": after,
                "copied_in_area": len(area.copied(witness)),
            }

        return Worker(worker).report()


def vast_hole(options: argparse.Namespace) -> Report:
    """64 GiB of reserved addresses with one page at the end."""
    size = 64 << 30
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    address = int(LIBC.mmap(None, size, 3, flags, -1, 0))
    last = address + size - PAGE
    ctypes.c_char.from_address(last).value = b"x"
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            ctypes.c_char.from_address(last).value = b"y"
            copied = _core.copied_addresses(witness)
            record = record_of(audit)
            inside = [a for a in copied if address <= a < address + size]
            return {"found": inside == [last], "record": record}

        return Worker(worker).report()


def frozen_pages(options: argparse.Namespace) -> Report:
    """Pages of frozen objects are written past the interpreter: each must be counted as frozen."""
    import cowfreeze

    data = [float(number) + 0.5 for number in range(200_000)]
    cowfreeze.freeze(data)
    pages = sorted({id(item) // PAGE for item in data})
    chosen = random.Random(1).sample(pages, 300)
    # The value of the first object that begins in each page; the last may reach into the next.
    first: dict[int, int] = {}
    for address in sorted(id(item) for item in data):
        first.setdefault(address // PAGE, address + 16)
    targets = [first[page] for page in chosen]
    with _core.Witness() as witness:

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            before = record_of(audit)
            for address in targets:
                ctypes.c_ubyte.from_address(address).value ^= 0
            after = record_of(audit)
            copied = {address // PAGE for address in _core.copied_addresses(witness)}
            return {"before": before, "after": after, "missed": len(set(chosen) - copied)}

        return Worker(worker).report()


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--huge", action="store_true")
    options = parser.parse_args()
    if options.uid is not None:
        drop_to(options.uid)
        # A change of user takes the right to look at oneself; a process started by that user
        # has it.
        prctl(PR_SET_DUMPABLE, 1)
    scenario: Callable[[argparse.Namespace], Report] = globals()[options.name]
    os.write(1, json.dumps(scenario(options)).encode())


if __name__ == "__main__":
    main()
