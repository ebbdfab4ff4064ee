"""The parent's side of fork_workers: forks, waits, reads memory, reaps."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cowfreeze import _core
from cowfreeze._errors import CowfreezeError
from cowfreeze._workers.channel import GO, RELEASE, Mailbox
from cowfreeze._workers.child import work
from cowfreeze._workers.endings import make_report
from cowfreeze._workers.explaining import Explaining, Wants
from cowfreeze._workers.processes import (
    BLOCKABLE,
    POLL_SECONDS,
    descendants,
    end_family,
    error_text,
    flush_streams,
    fork,
    handlers_later,
    open_pidfd,
    read_memory,
    room_for_pages,
    thread_count,
)
from cowfreeze._workers.report import WorkersResult
from cowfreeze._workers.state import State
from cowfreeze._workers.worker import Worker


class Run:
    """One call of fork_workers. Leaving the context upholds W5."""

    def __init__(
        self,
        target: Callable[..., Any],
        calls: list[tuple[Any, ...]],
        timeout: float | None,
        grace: float,
        wants_explanation: Wants | None = None,
        trap: str | None = None,
    ) -> None:
        self.explaining = Explaining(wants_explanation, trap)
        self.state = State(target, calls, timeout, grace)
        self.cluster_pss: int | None = None
        self.inherited: int | None = None
        self.threads = 1
        self.forked: list[int] = []  # pids, whatever came between a fork and worker.pid
        self.started = self.finished = 0.0
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Run:
        try:
            self._prepare()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: object) -> None:
        # A second Ctrl-C must not interrupt this: it waits for SIGKILL only, so it is short.
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
        try:
            with handlers_later(self.threads):
                self._cleanup.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.state.mask)

    def _prepare(self) -> None:
        """Everything that can be done before the witness is forked."""
        self.threads = thread_count()
        if self.threads > 1:
            self.state.notes.append(
                f"this process has {self.threads - 1} more threads: only the one that forks "
                "lives on in a worker, and locks that others hold at that moment stay locked "
                "there. Fork before threads are started"
            )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self._take_over_sigchld()
        self.state.mailbox = Mailbox(len(self.state.calls))
        self._cleanup.callback(self.state.mailbox.close)
        self.selector = selectors.DefaultSelector()
        self._cleanup.callback(self.selector.close)
        self._cleanup.callback(self._end_all)
        try:
            for index, call in enumerate(self.state.calls):
                self.state.workers.append(Worker(index, call))
        except OSError as error:
            raise CowfreezeError(
                f"no channel to worker {len(self.state.workers)} of {len(self.state.calls)} could be made: "
                f"{error}. Nothing was started. Each worker takes three descriptors here: "
                "raise the limit (ulimit -n) or start fewer workers"
            ) from error
        self.state.ends = [(w.here.fileno(), w.there.fileno()) for w in self.state.workers]
        self._make_page_lists()
        self.explaining.prepare(self.state)
        # What is still buffered here would be written once more by every worker.
        flushed = flush_streams()
        if flushed:
            self.state.notes.append(f"before the fork, the parent {flushed}")
        self._read_inherited()

    def _make_page_lists(self) -> None:
        """Room for each worker to note what is not its target's doing, see judge.c."""
        try:
            room = room_for_pages()
            for worker in self.state.workers:
                worker.pages = _core.PageList(room, self.explaining.wants is not None)
        except (OSError, MemoryError) as error:
            self.state.no_witness = f"There is no room to note the copied pages in: {error_text(error)}."

    def _take_over_sigchld(self) -> None:
        """Where SIGCHLD is ignored, the kernel reaps children itself and their exit status
        is gone. The default keeps it; only the main thread may change that."""
        if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
            return
        if threading.current_thread() is not threading.main_thread():
            self.state.notes.append(
                "SIGCHLD is ignored, and only the main thread can change that: exit statuses "
                "are unknown. Call fork_workers in the main thread"
            )
            return
        self.state.children_ignored = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._cleanup.callback(self._give_back_sigchld)

    def _give_back_sigchld(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        # Other children that ended meanwhile: the kernel would have reaped them.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass

    def _read_inherited(self) -> None:
        try:
            with open("/proc/self/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith(b"Anonymous:"):
                        # What freeze(remap=True) has moved is this process's memory, too.
                        self.inherited = int(line.split()[1]) * 1024 + _core.remapped_bytes()
        except OSError as error:
            self.state.notes.append(f"inherited memory is unknown: {error}")

    def fork(self) -> None:
        """Fork the witness and all workers, then let the workers start."""
        self.started = time.monotonic()
        # No handler may run between a fork and the note of its pid: the child would be
        # lost. The workers inherit the mask and take it back before the target.
        before = signal.pthread_sigmask(signal.SIG_SETMASK, BLOCKABLE)
        try:
            self._fork_witness()
            for worker in self.state.workers:
                worker.pid = self._fork_worker(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for worker in self.state.workers:
            worker.there.close()
            worker.pidfd = open_pidfd(worker.pid)
            self.selector.register(worker.here, selectors.EVENT_READ, (worker, True))
            if worker.pidfd is not None:
                self.selector.register(worker.pidfd, selectors.EVENT_READ, (worker, False))
        self.explaining.open(self.state)
        for worker in self.state.workers:
            worker.send(GO)

    def _fork_witness(self) -> None:
        if self.state.no_witness:
            return
        try:
            self.state.witness = _core.Witness()
        except OSError as error:
            self.state.no_witness = (
                f"No witness could be forked ({error}), so nothing tells which pages were "
                "copied. Check the limits on processes and memory."
            )

    def _fork_worker(self, worker: Worker) -> int:
        try:
            pid = fork(self.threads, self.forked)
        except OSError as error:
            raise CowfreezeError(
                f"worker {worker.index} of {len(self.state.workers)} could not be forked: {error}. "
                f"The {worker.index} before it were ended; no target has run. Check the limits "
                "on processes (ulimit -u, the pids cgroup) and memory (overcommit), or start "
                "fewer workers"
            ) from error
        if pid == 0:
            work(self.state, worker)
        return pid

    def wait_until_measured(self) -> None:
        """Until every worker has measured its pages or has ended."""
        deadline = None if self.state.timeout is None else time.monotonic() + self.state.timeout
        self._wait(lambda worker: worker.is_measured or worker.ended, deadline, "target")

    def read_memory(self) -> None:
        """USS and PSS of all, while all are alive and wait.

        PSS divides a page by the number of its owners, so the sum over parent, workers and
        witness counts each page once. What only the witness still holds (pages that everybody
        else has replaced by copies) exists because of the audit alone: without a witness the
        kernel would have freed it. Subtracting the witness's USS leaves what this cluster of
        processes would take on its own.
        """
        total = 0
        missing = []
        for worker in self.state.workers:
            if worker.ended:
                missing.append(f"worker {worker.index} had ended")
                continue
            memory, why = read_memory(worker.pid)
            if memory is None:
                missing.append(f"worker {worker.index}: {why}")
                continue
            worker.uss, worker.pss = memory
            total += worker.pss
            if self.state.mailbox.get(worker.index).children:
                worker.family = descendants(worker.pid)
        memory, why = read_memory(self.state.parent)
        if memory is None:
            missing.append(f"the parent: {why}")
        else:
            total += memory.pss
        if self.state.witness is not None:
            memory, why = read_memory(self.state.witness.pid)
            if memory is None:
                missing.append(f"the witness: {why}")
            else:
                total += memory.pss - memory.uss
        if missing:
            self.state.notes.append(
                "cluster PSS is unknown, it needs all processes at once: " + "; ".join(missing)
            )
        else:
            self.cluster_pss = total

    def explain(self) -> None:
        """After read_memory, because the index of objects would count as the parent's memory."""
        self.explaining.explain(self.state)

    def collect(self) -> None:
        """Let the workers send their results and end; reap them."""
        for worker in self.state.workers:
            worker.send(RELEASE)
        deadline = None if self.state.timeout is None else time.monotonic() + self.state.timeout
        self._wait(lambda worker: worker.ended, deadline, "result")
        self.finished = time.monotonic()
        for worker in self.state.workers:
            left = end_family(worker.family, 0 if worker.timed_out_in else self.state.grace)
            if left:
                self.state.notes.append(
                    f"worker {worker.index} left {left} processes running that its target "
                    "had started; they were killed. Wait for them in the target"
                )

    def _wait(self, settled: Callable[[Worker], bool], deadline: float | None, phase: str) -> None:
        while True:
            waiting = [worker for worker in self.state.workers if not settled(worker)]
            if not waiting:
                return
            pause = self._expire(waiting, deadline, phase)
            if any(worker.pidfd is None for worker in waiting):
                pause = POLL_SECONDS if pause is None else min(pause, POLL_SECONDS)
            for key, _ in self.selector.select(pause):
                worker, is_socket = key.data
                if is_socket and not worker.receive():
                    self.selector.unregister(key.fileobj)
                elif not is_socket:
                    self._reap(worker)
            for worker in waiting:
                if worker.pidfd is None:
                    self._reap(worker)

    def _reap(self, worker: Worker) -> None:
        if worker.ended or not worker.reap():
            return
        if worker.pidfd is not None:
            self.selector.unregister(worker.pidfd)
        # Its last words are in the socket's buffer. The end of the stream may never come:
        # a process that the target forked can hold the other end.
        worker.receive()

    def _expire(self, waiting: list[Worker], deadline: float | None, phase: str) -> float | None:
        """Signal who is too late; return the seconds until there is something to do."""
        if deadline is None:
            return None
        now = time.monotonic()
        if now < deadline:
            return deadline - now
        pause: float | None = None
        for worker in waiting:
            if worker.terminated_at is None:
                worker.timed_out_in = phase
                worker.terminated_at = now
                worker.family = descendants(worker.pid)
                worker.signal(signal.SIGTERM)
            left = worker.terminated_at + self.state.grace - now
            if left > 0:
                pause = left if pause is None else min(pause, left)
            elif not worker.sigkilled:
                worker.sigkilled = True
                worker.signal(signal.SIGKILL)
        return pause

    def _end_all(self) -> None:
        """Kill and reap what is left: nothing after a result, all after an exception."""
        for worker, pid in zip(self.state.workers, self.forked, strict=False):
            worker.pid = pid
        try:
            for worker in self.state.workers:
                if not worker.ended and worker.pid != 0:
                    worker.family += descendants(worker.pid)
                    worker.signal(signal.SIGKILL)
            for worker in self.state.workers:
                worker.reap(block=True)
                end_family(worker.family, 0)
        finally:
            for worker in self.state.workers:
                worker.close()
            self.explaining.close()
            if self.state.witness is not None:
                self.state.witness.close()

    def result(self) -> WorkersResult:
        reports = [make_report(self.state, worker) for worker in self.state.workers]
        methods = dict.fromkeys(method for _, method in reports if method)
        return WorkersResult(
            workers=tuple(report for report, _ in reports),
            method=", ".join(methods) or None,
            page_size=os.sysconf("SC_PAGE_SIZE"),
            seconds=self.finished - self.started,
            inherited=self.inherited,
            cluster_pss=self.cluster_pss,
            notes=tuple(self.state.notes),
            explanations=self.explaining.in_order(),
        )
