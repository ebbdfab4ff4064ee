"""Scenarios: rights, and descendants of the worker."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Callable

from areas import PR_SET_DUMPABLE, Area, Report, Worker, drop_to, exists, judged, prctl, record_of, wait_until

from cowfreeze import _core

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
