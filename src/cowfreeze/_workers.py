"""fork_workers: fork, run, measure, collect, and leave nothing behind.

    parent                              witness      worker 0 .. N-1
    ------                              -------      ---------------
    flush streams, make channels
    fork ------------------------------> pauses
    fork N times --------------------------------->  audit starts, waits
    "go" ----------------------------------------->  audit measures: start figures
                                                     target(...)
                                                     audit measures: end figures -> mailbox
    <---------------------------------------------- "measured"
    reads PSS and USS of everybody                   waits
    "release" ------------------------------------>  pickles and sends its result
    <---------------------------------------------- outcome, result
    reaps it                                         flushes, os._exit
    kills and reaps the witness

Each worker has two ways to the parent. A socket pair carries go, measured, release and
the result. A slot of one shared anonymous mapping, the mailbox, carries what must not
get lost: the audit's record and one line of text. It needs no descriptor, so it still
works when the target has closed all of them.

Why it measures twice: os.fork itself makes the child write to some hundred pages of the
interpreter (thread states, locks, the at-fork functions of threading, random, logging)
before any line of the target runs. That price is the same for every program and nobody
can avoid it by keeping data shared, so it is told apart ("startup"), and what the target
copied is the difference. Both scans use one witness; pages stay copied, so the difference
is exact unless the target unmaps pages that were copied at the start.

What must hold:
 W1  Nothing is imported, logged or formatted in a worker between the fork and the end of
     its measuring: each would write to pages that the parent shares with it.
 W2  Pickling a result writes reference counts of what it reaches, and so does reading
     memory the worker's own state; both come after measuring. All workers are alive and
     none pickles while the parent reads PSS.
 W3  No target starts before the last fork: an error midway finds workers that have done
     nothing yet.
 W4  A worker never returns from _work, and no process but the worker itself (the target
     may fork) writes to its channels: every path ends in os._exit.
 W5  Whatever leaves fork_workers, a result or an exception: all children are reaped, all
     descriptors closed, signal mask and SIGCHLD as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import pickle
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import psutil

# The function behind signal.pthread_sigmask. The public one turns the old mask into enum
# members, which writes to dozens of pages; that is too much for a worker (W1).
from _signal import pthread_sigmask as _set_signal_mask  # type: ignore[import-not-found]

from cowfreeze import _core
from cowfreeze import _report as report
from cowfreeze._errors import CowfreezeError
from cowfreeze._report import WorkerReport, WorkersResult, check_count
from cowfreeze._sizes import parse_size

_GO = b"G"
_RELEASE = b"R"

# A message from a worker: tag, length of the payload, payload.
_HEADER = struct.Struct("=cQ")
_MEASURED = b"M"  # empty: the figures are in the mailbox
_VALUE = b"V"  # pickled result or exception, if there is one
_END = b"E"  # pickled dict: how the target ended; the last message

_RECV_BYTES = 1 << 20
_POLL_SECONDS = 0.02  # between looks at a child where the kernel has no pidfd (before 5.3)
_ABOVE_STDIO = 3
_OUT_OF_THE_WAY = 200  # above what targets usually close in a loop (closerange(3, 64))
_BROKEN = 70  # exit status of a worker that failed in our code (EX_SOFTWARE)
_FLUSH_FAILED = 120  # what Python itself exits with when it cannot flush


def fork_workers(
    target: Callable[..., Any],
    workers: int | Iterable[Sequence[Any]] | None = None,
    *,
    args: Iterable[Sequence[Any]] | None = None,
    timeout: float | None = None,
    grace: float = 2.0,
) -> WorkersResult:
    """Fork workers from this process, run TARGET in each, and count the pages they copy.

    Worker i runs ``target(i)``, or ``target(*args[i])`` when argument tuples are given.
    It ends with its streams flushed and without tearing the interpreter down: atexit
    functions and non-daemon threads of the parent are not run or waited for in it.
    Arguments are inherited, not pickled; results are pickled.

    While it runs, SIGCHLD is blocked in the calling thread (and is set to the default
    where the application ignores it), so that the application's own handling cannot take
    the exit status of a worker. It arrives afterwards.

    Args:
        target: what to run. It may raise, exit, fork or be killed; the result tells.
        workers: how many (default 2), or the argument tuples themselves, one per worker.
        args: argument tuples, one per worker; ``workers`` may then be left out.
        timeout: seconds that all targets together may take (and once more the sending of
            results). Who takes longer gets SIGTERM, and SIGKILL after ``grace`` seconds.
            None: as long as they like.
        grace: seconds between SIGTERM and SIGKILL, and for what the target left running.

    Returns:
        Outcomes, results and figures of all workers. A worker's failure is no exception
        here: see WorkerReport.outcome, WorkersResult.results and .assert_shared().

    Raises:
        TypeError, ValueError: an argument of the wrong kind; the text names the right form.
        CowfreezeError: a worker could not be forked; those already forked have ended.
        BaseException: whatever interrupts the calling thread (KeyboardInterrupt); all
            workers have been killed and reaped by then.
    """
    calls = _calls(target, workers, args)
    timeout = None if timeout is None else _seconds(timeout, "timeout", above=0)
    grace = _seconds(grace, "grace", above=None)
    with _Run(target, calls, timeout, grace) as run:
        run.fork()
        run.wait_until_measured()
        run.read_memory()
        run.collect()
        return run.result()


def assert_shared(
    target: Callable[..., Any],
    workers: int | Iterable[Sequence[Any]] | None = None,
    *,
    args: Iterable[Sequence[Any]] | None = None,
    max_copied: int | str = "256 KiB",
    max_frozen: int = 16,
    timeout: float | None = None,
    grace: float = 2.0,
) -> WorkersResult:
    """fork_workers and WorkersResult.assert_shared in one, for tests.

    Limits are checked before anything is forked.

    Raises:
        PagesCopied: a worker copied more than the limits, or its figures are unknown.
        WorkerFailed: a worker did not return.
        TypeError, ValueError, CowfreezeError: as fork_workers.
    """
    parse_size(max_copied, "max_copied")
    check_count(max_frozen, "max_frozen")
    result = fork_workers(target, workers, args=args, timeout=timeout, grace=grace)
    return result.assert_shared(max_copied, max_frozen)


# --- arguments ----------------------------------------------------------------------


def _calls(
    target: object,
    workers: int | Iterable[Sequence[Any]] | None,
    args: Iterable[Sequence[Any]] | None,
) -> list[tuple[Any, ...]]:
    """The argument tuple of each worker."""
    form = "give the number of workers (workers=4) or argument tuples (args=[(1,), (2,)])"
    if not callable(target):
        raise TypeError(f"target={target!r} cannot be called: give a function")
    count: int | None = None
    if isinstance(workers, int):
        count = check_count(workers, "workers", least=1)
    elif workers is not None:
        if args is not None:
            raise TypeError(f"both workers and args give argument tuples: {form}")
        if isinstance(workers, (str, bytes)) or not isinstance(workers, Iterable):
            raise TypeError(f"workers={workers!r} is no number of workers: {form}")
        args = workers
    if args is None:
        return [(index,) for index in range(2 if count is None else count)]
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise TypeError(f"args={args!r} are no argument tuples: {form}")
    calls = []
    for entry in args:
        if not isinstance(entry, (tuple, list)):
            raise TypeError(f"args holds {entry!r}, which is no tuple of arguments: {form}")
        calls.append(tuple(entry))
    if not calls:
        raise ValueError(f"args is empty, so there is no worker: {form}")
    if count is not None and count != len(calls):
        raise ValueError(f"workers={count} but {len(calls)} argument tuples: leave workers out")
    return calls


def _seconds(value: float, name: str, above: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is no time: give seconds as a number")
    if not math.isfinite(value) or value < 0 or (above is not None and value <= above):
        least = "above 0" if above is not None else "of at least 0"
        none = ", or None for no limit" if name == "timeout" else ""
        raise ValueError(f"{name}={value!r} is no time to wait: give seconds {least}{none}")
    return float(value)


# --- the channels -------------------------------------------------------------------


class _Mailbox:
    """One slot per worker in shared memory; written by the worker, read by the parent.

    slot:  stage u8 | children u8 | records u16 | text u16 | minflt i64 | seconds f64 |
           record bytes | text bytes

    The mapping is MAP_SHARED, so a write to it is seen by the parent and copies no page,
    and the audit does not scan it.
    """

    # What the worker has reached. TOLD: the channel is gone, `text` is "outcome: status".
    WAITING, RUNNING, MEASURED, TOLD, BROKEN = range(5)
    _HEAD = struct.Struct("=BBHHqd")
    _TEXT = 2000  # bytes
    _RECORDS = 2 * _core.RECORD_SIZE

    def __init__(self, workers: int) -> None:
        self._slot = self._HEAD.size + self._RECORDS + self._TEXT
        self._memory = mmap.mmap(-1, self._slot * workers)

    def start(self, index: int) -> None:
        self._memory[index * self._slot] = self.RUNNING

    def put(self, index: int, figures: _Figures) -> None:
        text = figures.text.encode("utf-8", "replace")[: self._TEXT]
        head = self._HEAD.pack(
            figures.stage, figures.children, len(figures.records), len(text),
            figures.minor_faults, figures.seconds,
        )  # fmt: skip
        slot = head + figures.records + text
        start = index * self._slot
        self._memory[start : start + len(slot)] = slot

    def get(self, index: int) -> _Figures:
        start = index * self._slot
        stage, children, records, text, faults, seconds = self._HEAD.unpack_from(
            self._memory, start
        )
        middle = start + self._HEAD.size + records
        return _Figures(
            stage,
            bool(children),
            self._memory[middle - records : middle],
            self._memory[middle : middle + text].decode("utf-8", "replace"),
            faults,
            seconds,
        )

    def close(self) -> None:
        self._memory.close()


class _Figures(NamedTuple):
    stage: int
    children: bool  # has the worker child processes, also orphaned ones of its children?
    records: bytes  # the audit's two, start and end; empty when it could not measure
    text: str  # why not, or what broke
    minor_faults: int  # counted here when there is no record; -1 unknown
    seconds: float


class _Worker:
    """The parent's side of one worker; its end of the channel is used after the fork."""

    def __init__(self, index: int, call: tuple[Any, ...]) -> None:
        self.index = index
        self.call = call
        self.here, self.there = _channel()
        there = os.fstat(self.there.fileno())
        self.identity = (there.st_dev, there.st_ino)
        self.pid = 0
        self.pidfd: int | None = None
        self.buffer = bytearray()
        self.parsed = 0
        self.messages: dict[bytes, bytes] = {}
        self.ended = False
        self.exitcode: int | None = None
        self.core_dumped = False
        self.terminated_at: float | None = None
        self.timed_out_in = ""
        self.sigkilled = False
        self.family: list[psutil.Process] = []  # started by the target, alive after it
        self.uss: int | None = None
        self.pss: int | None = None

    @property
    def is_measured(self) -> bool:
        return _MEASURED in self.messages

    def receive(self) -> bool:
        """Take what has arrived. False at the end of the stream."""
        while True:
            try:
                data = self.here.recv(_RECV_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.buffer += data
            self._parse()

    def _parse(self) -> None:
        while len(self.buffer) - self.parsed >= _HEADER.size and _END not in self.messages:
            tag, length = _HEADER.unpack_from(self.buffer, self.parsed)
            start = self.parsed + _HEADER.size
            if len(self.buffer) - start < length:
                return
            with memoryview(self.buffer) as view:
                # A copy: as long as a view exists, the buffer cannot grow.
                self.messages[tag] = bytes(view[start : start + length])
            self.parsed = start + length

    def send(self, byte: bytes) -> None:
        """To a worker that may be gone; that one is seen elsewhere."""
        with contextlib.suppress(OSError):
            self.here.send(byte, socket.MSG_NOSIGNAL)

    def reap(self, block: bool = False) -> bool:
        """Has the worker ended? Takes its exit status when it has."""
        if self.ended or self.pid == 0:
            return True
        try:
            pid, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
        except ChildProcessError:
            # The application's own handler, or a SIGCHLD that is ignored, was faster.
            self.ended = True
        else:
            if pid != 0:
                self.ended = True
                self.exitcode = os.waitstatus_to_exitcode(status)
                self.core_dumped = os.WIFSIGNALED(status) and os.WCOREDUMP(status)
        return self.ended

    def signal(self, number: signal.Signals) -> None:
        if self.ended or self.pid == 0:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                # Unlike a pid, it never names a stranger after somebody else reaped it.
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)

    def close(self) -> None:
        self.here.close()
        self.there.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def _channel() -> tuple[socket.socket, socket.socket]:
    """A socket pair: the parent's end does not block, the worker's does.

    A socket, because MSG_NOSIGNAL spares a parent that has SIGPIPE at its default. Both
    get high numbers: with stdout closed, a plain pair would become descriptor 1, and the
    target's first print would talk to us.
    """
    here, there = socket.socketpair()
    pair = []
    for end in (here, there):
        with end:
            pair.append(socket.socket(fileno=_raise_descriptor(end.fileno())))
    pair[0].setblocking(False)
    pair[1].setblocking(True)  # whatever socket.setdefaulttimeout says
    fcntl.fcntl(pair[1], fcntl.F_SETSIG, signal.SIGKILL)  # see _die_with_parent
    return pair[0], pair[1]


def _raise_descriptor(descriptor: int) -> int:
    """A copy with a high number, close-on-exec. Raises OSError when there is none free."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    except OSError:  # above the limit of this process, or the upper numbers are taken
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STDIO)


# --- the parent's side --------------------------------------------------------------


class _Run:
    """One call of fork_workers. Leaving the context upholds W5."""

    def __init__(
        self,
        target: Callable[..., Any],
        calls: list[tuple[Any, ...]],
        timeout: float | None,
        grace: float,
    ) -> None:
        self.target = target
        self.calls = calls
        self.timeout = timeout
        self.grace = grace
        self.parent = os.getpid()
        self.witness: _core.Witness | None = None
        self.no_witness = ""
        self.notes: list[str] = []
        self.workers: list[_Worker] = []
        self.cluster_pss: int | None = None
        self.inherited: int | None = None
        self.children_ignored = False
        self.threads = 1
        self.ends: list[tuple[int, int]] = []
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.started = self.finished = 0.0
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> _Run:
        try:
            self._prepare()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: object) -> None:
        # A second Ctrl-C must not interrupt this: it waits for SIGKILL only, so it is short.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._cleanup.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def _prepare(self) -> None:
        """Everything that can be done before the witness is forked."""
        self.threads = _thread_count()
        if self.threads > 1:
            self.notes.append(
                f"this process has {self.threads - 1} more threads: only the one that forks "
                "lives on in a worker, and locks that others hold at that moment stay locked "
                "there. Fork before threads are started"
            )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self._take_over_sigchld()
        self.mailbox = _Mailbox(len(self.calls))
        self._cleanup.callback(self.mailbox.close)
        self.selector = selectors.DefaultSelector()
        self._cleanup.callback(self.selector.close)
        self._cleanup.callback(self._end_all)
        try:
            for index, call in enumerate(self.calls):
                self.workers.append(_Worker(index, call))
        except OSError as error:
            raise CowfreezeError(
                f"no channel to worker {len(self.workers)} of {len(self.calls)} could be made: "
                f"{error}. Nothing was started. Each worker takes three descriptors here: "
                "raise the limit (ulimit -n) or start fewer workers"
            ) from error
        self.ends = [(w.here.fileno(), w.there.fileno()) for w in self.workers]
        # What is still buffered here would be written once more by every worker.
        flushed = _flush_streams()
        if flushed:
            self.notes.append(f"before the fork, the parent {flushed}")
        self._read_inherited()

    def _take_over_sigchld(self) -> None:
        """Where SIGCHLD is ignored, the kernel reaps children itself and their exit status
        is gone. The default keeps it; only the main thread may change that."""
        if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
            return
        if threading.current_thread() is not threading.main_thread():
            self.notes.append(
                "SIGCHLD is ignored, and only the main thread can change that: exit statuses "
                "are unknown. Call fork_workers in the main thread"
            )
            return
        self.children_ignored = True
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
                        self.inherited = int(line.split()[1]) * 1024
        except OSError as error:
            self.notes.append(f"inherited memory is unknown: {error}")

    def fork(self) -> None:
        """Fork the witness and all workers, then let the workers start."""
        self.started = time.monotonic()
        # No handler may run between a fork and the note of its pid: the child would be
        # lost. The workers inherit the mask and take it back before the target.
        before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            self._fork_witness()
            for worker in self.workers:
                worker.pid = self._fork_worker(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for worker in self.workers:
            worker.there.close()
            worker.pidfd = _open_pidfd(worker.pid)
            self.selector.register(worker.here, selectors.EVENT_READ, (worker, True))
            if worker.pidfd is not None:
                self.selector.register(worker.pidfd, selectors.EVENT_READ, (worker, False))
        for worker in self.workers:
            worker.send(_GO)

    def _fork_witness(self) -> None:
        try:
            self.witness = _core.Witness()
        except OSError as error:
            self.no_witness = (
                f"No witness could be forked ({error}), so nothing tells which pages were "
                "copied. Check the limits on processes and memory."
            )

    def _fork_worker(self, worker: _Worker) -> int:
        try:
            pid = _fork(self.threads)
        except OSError as error:
            raise CowfreezeError(
                f"worker {worker.index} of {len(self.workers)} could not be forked: {error}. "
                f"The {worker.index} before it were ended; no target has run. Check the limits "
                "on processes (ulimit -u, the pids cgroup) and memory (overcommit), or start "
                "fewer workers"
            ) from error
        if pid == 0:
            _work(self, worker)
        return pid

    def wait_until_measured(self) -> None:
        """Until every worker has measured its pages or has ended."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
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
        for worker in self.workers:
            if worker.ended:
                missing.append(f"worker {worker.index} had ended")
                continue
            memory, why = _read_memory(worker.pid)
            if memory is None:
                missing.append(f"worker {worker.index}: {why}")
                continue
            worker.uss, worker.pss = memory
            total += worker.pss
            if self.mailbox.get(worker.index).children:
                worker.family = _descendants(worker.pid)
        memory, why = _read_memory(self.parent)
        if memory is None:
            missing.append(f"the parent: {why}")
        else:
            total += memory.pss
        if self.witness is not None:
            memory, why = _read_memory(self.witness.pid)
            if memory is None:
                missing.append(f"the witness: {why}")
            else:
                total += memory.pss - memory.uss
        if missing:
            self.notes.append(
                "cluster PSS is unknown, it needs all processes at once: " + "; ".join(missing)
            )
        else:
            self.cluster_pss = total

    def collect(self) -> None:
        """Let the workers send their results and end; reap them."""
        for worker in self.workers:
            worker.send(_RELEASE)
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        self._wait(lambda worker: worker.ended, deadline, "result")
        self.finished = time.monotonic()
        for worker in self.workers:
            left = _end_family(worker.family, 0 if worker.timed_out_in else self.grace)
            if left:
                self.notes.append(
                    f"worker {worker.index} left {left} processes running that its target "
                    "had started; they were killed. Wait for them in the target"
                )

    def _wait(
        self, settled: Callable[[_Worker], bool], deadline: float | None, phase: str
    ) -> None:
        while True:
            waiting = [worker for worker in self.workers if not settled(worker)]
            if not waiting:
                return
            pause = self._expire(waiting, deadline, phase)
            if any(worker.pidfd is None for worker in waiting):
                pause = _POLL_SECONDS if pause is None else min(pause, _POLL_SECONDS)
            for key, _ in self.selector.select(pause):
                worker, is_socket = key.data
                if is_socket and not worker.receive():
                    self.selector.unregister(key.fileobj)
                elif not is_socket:
                    self._reap(worker)
            for worker in waiting:
                if worker.pidfd is None:
                    self._reap(worker)

    def _reap(self, worker: _Worker) -> None:
        if worker.ended or not worker.reap():
            return
        if worker.pidfd is not None:
            self.selector.unregister(worker.pidfd)
        # Its last words are in the socket's buffer. The end of the stream may never come:
        # a process that the target forked can hold the other end.
        worker.receive()

    def _expire(
        self, waiting: list[_Worker], deadline: float | None, phase: str
    ) -> float | None:
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
                worker.family = _descendants(worker.pid)
                worker.signal(signal.SIGTERM)
            left = worker.terminated_at + self.grace - now
            if left > 0:
                pause = left if pause is None else min(pause, left)
            elif not worker.sigkilled:
                worker.sigkilled = True
                worker.signal(signal.SIGKILL)
        return pause

    def _end_all(self) -> None:
        """Kill and reap what is left: nothing after a result, all after an exception."""
        try:
            for worker in self.workers:
                if not worker.ended and worker.pid != 0:
                    worker.family += _descendants(worker.pid)
                    worker.signal(signal.SIGKILL)
            for worker in self.workers:
                worker.reap(block=True)
                _end_family(worker.family, 0)
        finally:
            for worker in self.workers:
                worker.close()
            if self.witness is not None:
                self.witness.close()

    # --- the result -----------------------------------------------------------------

    def result(self) -> WorkersResult:
        methods: list[str] = []
        workers = tuple(self._report(worker, methods) for worker in self.workers)
        return WorkersResult(
            workers=workers,
            method=", ".join(dict.fromkeys(methods)) or None,
            page_size=os.sysconf("SC_PAGE_SIZE"),
            seconds=self.finished - self.started,
            inherited=self.inherited,
            cluster_pss=self.cluster_pss,
            notes=tuple(self.notes),
        )

    def _report(self, worker: _Worker, methods: list[str]) -> WorkerReport:
        figures = self.mailbox.get(worker.index)
        ending = self._ending(worker, figures)
        reasons: list[str] = []
        pages = _PageFigures()
        if figures.records:
            pages = _page_figures(figures.records)
            methods.append(pages.method)
            reasons += pages.reasons
        elif figures.stage == _Mailbox.MEASURED:
            reasons.append(figures.text)
        elif figures.stage == _Mailbox.TOLD:
            reasons.append("The worker could not measure its pages.")
        else:
            was = "" if ending.status.startswith(_STANDS_ALONE) else "was "
            reasons.append(f"It {was}{ending.status} before it could measure its pages.")
        measured = figures.stage in (_Mailbox.MEASURED, _Mailbox.TOLD)
        faults = pages.minor_faults
        if faults is None and measured and figures.minor_faults >= 0:
            faults = figures.minor_faults
        return WorkerReport(
            index=worker.index,
            pid=worker.pid,
            outcome=ending.outcome,
            status=ending.status,
            exitcode=worker.exitcode,
            result=ending.result,
            error=ending.error,
            traceback=ending.traceback,
            copied_pages=pages.copied_pages,
            frozen_copied_pages=pages.frozen_copied_pages,
            new_pages=pages.new_pages,
            minor_faults=faults,
            major_faults=pages.major_faults,
            copied_by_area=pages.copied_by_area,
            startup_pages=pages.startup_pages,
            startup_frozen_pages=pages.startup_frozen_pages,
            uss=worker.uss,
            pss=worker.pss,
            seconds=figures.seconds if measured else None,
            scan_seconds=pages.scan_seconds,
            reasons=tuple(reasons),
        )

    def _ending(self, worker: _Worker, figures: _Figures) -> _Ending:
        """How the worker ended, from its own words if there are any, else from its status."""
        if worker.timed_out_in == "target" or (
            worker.timed_out_in and _END not in worker.messages
        ):
            return _Ending(report.TIMED_OUT, self._timeout_text(worker))
        if _END in worker.messages:
            return self._told_ending(worker)
        code = worker.exitcode
        if code is not None and code < 0:
            text = f"killed by {_signal_name(-code)}"
            if code == -signal.SIGKILL:
                text += " (which the kernel also sends when memory runs out)"
            return _Ending(report.KILLED, text + (", core dumped" if worker.core_dumped else ""))
        if figures.stage == _Mailbox.TOLD:
            outcome, _, status = figures.text.partition(": ")
            return _Ending(outcome, status)
        if figures.stage == _Mailbox.BROKEN:
            return _Ending(report.VANISHED, f"broke off outside of the target: {figures.text}")
        if code is None:
            return _Ending(
                report.VANISHED,
                "ended without a word, and its exit status was taken by the application's "
                "handling of SIGCHLD",
            )
        return _Ending(report.EXITED, f"exited with status {code} (os._exit in the target)")

    def _told_ending(self, worker: _Worker) -> _Ending:
        told = pickle.loads(worker.messages[_END])
        if told["flush_error"]:
            self.notes.append(f"worker {worker.index} {told['flush_error']}")
        ending = _Ending(told["outcome"], told["status"], traceback=told["traceback"])
        if _VALUE not in worker.messages:
            return ending
        try:
            value = pickle.loads(worker.messages[_VALUE])
        except Exception as error:
            if ending.outcome == report.RETURNED:
                return _Ending(
                    report.RESULT_LOST,
                    "returned a result that cannot be unpickled in the parent: "
                    f"{_error_text(error)}. Return plain data",
                    error=error,
                )
            return ending  # an exception whose class cannot be rebuilt: its text is here
        if ending.outcome == report.RETURNED:
            return ending._replace(result=value)
        return ending._replace(error=value if isinstance(value, BaseException) else None)

    def _timeout_text(self, worker: _Worker) -> str:
        what = "" if worker.timed_out_in == "target" else " while it sent its result"
        text = f"timed out after {self.timeout:g} s{what}"
        if worker.sigkilled:
            return f"{text}; it ignored SIGTERM for {self.grace:g} s and was ended by SIGKILL"
        if worker.exitcode == -signal.SIGTERM:
            return f"{text} and was ended by SIGTERM"
        return f"{text} and ended by itself after SIGTERM"


def _fork(threads: int) -> int:
    if threads <= 1:
        return os.fork()
    # 3.12+ warns when a process with threads forks. The result's notes say it better, and
    # with -W error the warning would cost us the pid. Both processes leave the block, so
    # the target sees the application's filters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class _Ending(NamedTuple):
    outcome: str
    status: str
    result: Any = None
    error: BaseException | None = None
    traceback: str | None = None


_STANDS_ALONE = (report.EXITED, report.TIMED_OUT, "ended", "broke")


class _PageFigures(NamedTuple):
    copied_pages: int | None = None
    frozen_copied_pages: int | None = None
    new_pages: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    startup_pages: int | None = None
    startup_frozen_pages: int | None = None
    copied_by_area: dict[str, int] = {}
    scan_seconds: float | None = None
    method: str = "none"
    reasons: tuple[str, ...] = ()


def _page_figures(records: bytes) -> _PageFigures:
    """What the target did: the audit's record after it minus the one before it."""
    start = _core.decode_record(records[: _core.RECORD_SIZE])
    end = _core.decode_record(records[_core.RECORD_SIZE :])
    before, after = start["by_area"], end["by_area"]
    by_area = {area: _difference(after[area], before[area]) for area in after}
    return _PageFigures(
        copied_pages=_difference(end["copied_pages"], start["copied_pages"]),
        frozen_copied_pages=_difference(
            end["frozen_copied_pages"], start["frozen_copied_pages"]
        ),
        new_pages=_difference(end["new_pages"], start["new_pages"]),
        minor_faults=_difference(end["minor_faults"], start["minor_faults"]),
        major_faults=_difference(end["major_faults"], start["major_faults"]),
        startup_pages=start["copied_pages"],
        startup_frozen_pages=start["frozen_copied_pages"],
        copied_by_area={area: count for area, count in by_area.items() if count},
        scan_seconds=end["scan_seconds"],
        method=end["method"],
        reasons=tuple(dict.fromkeys((*end["reasons"], *start["reasons"]))),
    )


def _difference(end: int | None, start: int | None) -> int | None:
    # Below 0 only if the target unmapped what had been copied at the start.
    return None if end is None or start is None else max(0, end - start)


class _Memory(NamedTuple):
    uss: int
    pss: int


def _read_memory(pid: int) -> tuple[_Memory | None, str]:
    """USS and PSS of a process in bytes, or why not. Reading smaps writes no page of it."""
    try:
        process = psutil.Process(pid)
        # psutil 8 renames memory_full_info and deprecates the old name.
        read = getattr(process, "memory_footprint", None) or process.memory_full_info
        memory = read()
        return _Memory(memory.uss, memory.pss), ""
    except (psutil.Error, OSError) as error:
        return None, _error_text(error)


def _thread_count() -> int:
    """Threads of this process, also those that Python does not know."""
    try:
        return psutil.Process().num_threads()
    except (psutil.Error, OSError):
        return threading.active_count()


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _descendants(pid: int) -> list[psutil.Process]:
    """Processes below a worker. It adopts its children's orphans (the audit makes it a
    subreaper), so a double fork does not hide one while the worker lives."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except (psutil.Error, OSError):
        return []


def _end_family(family: list[psutil.Process], grace: float) -> int:
    """Give processes GRACE seconds to end, then kill them. Returns how many were killed."""
    deadline = time.monotonic() + grace
    while True:
        family = [process for process in family if _is_running(process)]
        if not family or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(family)


def _is_running(process: psutil.Process) -> bool:
    try:
        # A zombie belongs to whoever adopted it.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _error_text(error: BaseException) -> str:
    """One line: type and message."""
    text = traceback.format_exception_only(type(error), error)[-1].strip()
    return text if len(text) <= 300 else text[:297] + "..."


def _flush_streams() -> str:
    """Flush Python's output streams; returns "" or what went wrong, as a sentence's end.

    pytest and others put streams of their own in the place of sys.stdout, so the original
    ones are flushed too. A stream that is closed or missing holds nothing.
    """
    streams = {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}
    problems = []
    for stream in streams.values():
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            problems.append(f"{getattr(stream, 'name', 'a stream')}: {error}")
    if not problems:
        return ""
    return f"could not write its buffered output ({', '.join(problems)}); that output is lost"


# --- the worker's side --------------------------------------------------------------


def _work(run: _Run, worker: _Worker) -> NoReturn:
    """Be the worker. Never returns (W4): the caller's frames belong to the parent."""
    status = _BROKEN
    pid = os.getpid()
    try:
        status = _work_until_exit(run, worker, pid)
    except BaseException as error:
        if os.getpid() == pid:
            figures = _Figures(_Mailbox.BROKEN, False, b"", _error_text(error), -1, 0.0)
            run.mailbox.put(worker.index, figures)
    finally:
        os._exit(status)


def _work_until_exit(run: _Run, worker: _Worker, pid: int) -> int:
    """Returns the exit status."""
    audit, why, faults = _start_audit(run)
    # After this only the parent holds the other end: it hangs up when the parent ends.
    for here, there in run.ends:
        os.close(here)
        if there != worker.there.fileno():
            os.close(there)
    if worker.there.recv(1) != _GO:
        return _BROKEN
    _die_with_parent(worker.there, True)
    if os.getppid() != run.parent:
        return _BROKEN
    before = b""
    if audit is not None:
        before, why = _measure(audit)
    run.mailbox.start(worker.index)
    outcome = report.RETURNED
    value: Any = None
    failure: BaseException | None = None
    started = time.perf_counter()
    try:
        if run.children_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        _set_signal_mask(signal.SIG_SETMASK, run.mask)
        value = run.target(*worker.call)
    except SystemExit as error:
        outcome, failure = report.EXITED, error
    except BaseException as error:
        outcome, failure = report.RAISED, error
    seconds = time.perf_counter() - started
    if os.getpid() != pid:
        return _leave_as_grandchild(failure)

    records = b""
    if audit is not None and before:
        after, why = _measure(audit)
        records = before + after if after else b""
    # From here on pages do not count (W1 ends). A signal would lose the report.
    _set_signal_mask(signal.SIG_BLOCK, signal.valid_signals())
    minor_faults = _minor_faults() - faults
    figures = _Figures(
        _Mailbox.MEASURED, _has_children(), records, why, minor_faults, seconds
    )
    run.mailbox.put(worker.index, figures)
    told = _send(worker, _MEASURED, b"") and _wait_for_release(worker)
    return _tell_and_flush(run, worker, told, figures, outcome, value, failure)


def _start_audit(run: _Run) -> tuple[_core.WorkerAudit | None, str, int]:
    """The audit, or why there is none, and the minor faults so far."""
    faults = _minor_faults()
    if run.witness is None:
        return None, run.no_witness, faults
    try:
        return _core.WorkerAudit(run.witness), "", faults
    except Exception as error:
        return None, f"The audit could not start in the worker: {_error_text(error)}.", faults


def _measure(audit: _core.WorkerAudit) -> tuple[bytes, str]:
    """The audit's record, or why there is none.

    It goes through a pipe that is made only now: the target may have closed, or put
    something else on, any descriptor that was open before. The record fits into an empty
    pipe (PIPE_BUF), so writing it does not block.
    """
    try:
        read_end, write_end = os.pipe()
        try:
            audit.measure_into(write_end)
            return os.read(read_end, _core.RECORD_SIZE), ""
        finally:
            os.close(read_end)
            os.close(write_end)
    except Exception as error:
        return b"", f"The worker could not measure its pages: {_error_text(error)}."


def _die_with_parent(channel: socket.socket, on: bool) -> None:
    """Let the kernel kill this process when the parent's end of CHANNEL closes.

    A parent that is killed cannot end its workers, and a target may run forever. The
    channel is silent while the target runs, so the only event on it then is the hang-up;
    O_ASYNC turns that into the signal set with F_SETSIG, SIGKILL. It must be off before
    the parent writes to the channel again.
    """
    flags = fcntl.fcntl(channel, fcntl.F_GETFL)
    if on:
        fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)
    else:
        fcntl.fcntl(channel, fcntl.F_SETFL, flags & ~os.O_ASYNC)


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _has_children() -> bool:
    """Running or ended; as a subreaper the worker also has its children's orphans."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _is_ours(worker: _Worker) -> bool:
    """Is the channel still there? The target may have closed it and opened a file of its
    own under the same number; a report must not end up in that file."""
    try:
        stat = os.fstat(worker.there.fileno())
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == worker.identity


def _send(worker: _Worker, tag: bytes, payload: bytes) -> bool:
    if not _is_ours(worker):
        return False
    try:
        _die_with_parent(worker.there, False)
        worker.there.setblocking(True)
        worker.there.sendall(_HEADER.pack(tag, len(payload)), socket.MSG_NOSIGNAL)
        worker.there.sendall(payload, socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def _wait_for_release(worker: _Worker) -> bool:
    try:
        return worker.there.recv(1) == _RELEASE
    except OSError:
        return False


def _tell_and_flush(
    run: _Run,
    worker: _Worker,
    told: bool,
    figures: _Figures,
    outcome: str,
    value: Any,
    failure: BaseException | None,
) -> int:
    """Send outcome and result, flush the streams, return the exit status."""
    status, text, trace = _describe(outcome, failure)
    shipped: bytes | None = None
    try:
        if outcome != report.EXITED:
            shipped = pickle.dumps(value if failure is None else failure, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        if failure is None:
            outcome, status = report.RESULT_LOST, 1
            text = (
                f"returned a {type(value).__name__} that cannot be pickled: "
                f"{_error_text(error)}. Return plain data, or None"
            )
            trace = "".join(_format_exception(error))
    flush_error = _flush_streams()
    if flush_error and status == 0:
        status = _FLUSH_FAILED
    end = {"outcome": outcome, "status": text, "traceback": trace, "flush_error": flush_error}
    if told and shipped is not None:
        told = _send(worker, _VALUE, shipped)
    if told:
        told = _send(worker, _END, pickle.dumps(end, pickle.HIGHEST_PROTOCOL))
    if not told:
        # Without a channel the mailbox takes the outcome; "outcome: status".
        if outcome == report.RETURNED:
            outcome, status = report.RESULT_LOST, 1
            text = (
                "returned, but the target had closed the descriptors through which its result "
                "is sent. Leave descriptors alone that the target has not opened"
            )
        run.mailbox.put(
            worker.index, figures._replace(stage=_Mailbox.TOLD, text=f"{outcome}: {text}")
        )
    return status


def _describe(outcome: str, failure: BaseException | None) -> tuple[int, str, str | None]:
    """Exit status, status text and traceback of what the target did."""
    if failure is None:
        return 0, "returned", None
    if outcome == report.EXITED:
        assert isinstance(failure, SystemExit)
        code = failure.code
        if code is None:
            return 0, "exited with status 0 (sys.exit)", None
        if isinstance(code, int):
            return code & 0xFF, f"exited with status {code & 0xFF} (sys.exit)", None
        return 1, f"exited with status 1 (sys.exit): {str(code)[:300]}", None
    return 1, f"raised {_error_text(failure)}", "".join(_format_exception(failure))


def _format_exception(error: BaseException) -> list[str]:
    """The traceback without our own frame, which is the first."""
    frames: types.TracebackType | None = error.__traceback__
    return traceback.format_exception(type(error), error, frames.tb_next if frames else None)


def _leave_as_grandchild(failure: BaseException | None) -> int:
    """The target forked, and its child came back from the target too. It ends as a script
    would: message, flush, status. It reports nothing, the worker does."""
    status = 0
    if isinstance(failure, SystemExit):
        status, text, _ = _describe(report.EXITED, failure)
        if failure.code is not None and not isinstance(failure.code, int):
            print(failure.code, file=sys.stderr)
    elif failure is not None:
        status = 1
        with contextlib.suppress(Exception):
            sys.excepthook(type(failure), failure, failure.__traceback__)
    return _FLUSH_FAILED if _flush_streams() and status == 0 else status
