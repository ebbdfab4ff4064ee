"""Scenarios: rights, and descendants of the worker."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable

from areas import (
    LIBC,
    PR_SET_DUMPABLE,
    Area,
    Report,
    Worker,
    drop_to,
    exists,
    judged,
    prctl,
    record_of,
    wait_until,
)

from cowfreeze import _core

CLONE_NEWPID = 0x20000000
CLONE_PARENT = 0x8000
PR_SET_CHILD_SUBREAPER = 36

# ---- rights --------------------------------------------------------------------------------


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


def stranger(options: argparse.Namespace, fork: Callable[[], int]) -> Report:
    """Somebody who was forked from the worker and stands beside it, not below it, is alive."""
    area = Area(options.huge)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    with _core.Witness() as witness:
        mine = area.some(1, 700)

        def worker() -> Report:
            audit = _core.WorkerAudit(witness)
            area.write(mine, 2)
            pid = fork()
            report: Report = {"record": record_of(audit), "truth": len(mine)}
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not exists(pid))
            return {**report, "after": judged(area, witness, audit, area.addresses(mine))}

        return Worker(worker).report()


def clone_parent(options: argparse.Namespace) -> Report:
    def fork() -> int:
        number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        pid = int(LIBC.syscall(number, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
        if pid == 0:
            sleep_long()
        return pid

    return stranger(options, fork)


def reaper_retired(options: argparse.Namespace) -> Report:
    """The worker gives up that its orphans come to it."""

    def fork() -> int:
        prctl(PR_SET_CHILD_SUBREAPER, 0)
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            pid = os.fork()
            if pid == 0:
                sleep_long()
            os.write(tell, b"%08d" % pid)
            os._exit(0)
        os.waitpid(child, 0)
        return int(os.read(ready, 8))

    return stranger(options, fork)


def same_pid(options: argparse.Namespace) -> Report:
    """The worker is process 1 of a PID namespace, and its child is process 1 of another one."""
    reading, writing = os.pipe()
    LIBC.unshare(CLONE_NEWPID)  # as root
    middle = os.fork()  # process 1
    if middle == 0:
        with _core.Witness() as witness:
            audit = _core.WorkerAudit(witness)
            LIBC.unshare(CLONE_NEWPID)
            child = os.fork()
            if child == 0:
                report = {"record": record_of(audit), "pid": os.getpid(), "id": _core.process_id()}
                del audit
                witness.close()
                os.write(writing, json.dumps(report).encode())
                os._exit(0)
            os.waitpid(child, 0)
            alive = witness.alive()
        last = {"id": _core.process_id(), "pid": os.getpid(), "alive": alive}
        os.write(writing, b"\n" + json.dumps(last).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    child_text, parent_text = os.read(reading, 8192).split(b"\n")
    return {"child": json.loads(child_text), "parent": json.loads(parent_text)}


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
