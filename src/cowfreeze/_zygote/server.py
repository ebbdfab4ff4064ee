"""The process of one generation: a fresh interpreter that loads, freezes, and forks workers on request.

    exec -> spawn.prepare (path, main module) -> load -> warm up, freeze -> "ready" -> fork, fork, ... -> end

It listens on a socket for clients of `multiprocessing.forkserver` and has one connection to its
parent, `control`. It ends when the parent has retired it and its last worker's exit status is passed
on. The end of that connection means that the parent has died without a word: while it loads, the
server ends at once; later it asks its workers to end (SIGTERM), for nobody waits for them.

    control    here -> parent   ("ready", figures) | ("failed", text, traceback, exception)
               parent -> here   "retire"; the answer is the number of workers that still run

loop.py has the part that forks.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from multiprocessing import connection, reduction, resource_tracker, spawn, util
from types import FrameType
from typing import Any, NoReturn

from cowfreeze import _core, _support
from cowfreeze._errors import CowfreezeError
from cowfreeze._exit import fast_exit
from cowfreeze._freeze.freeze import freeze, is_frozen
from cowfreeze._pack import PackReport, pack
from cowfreeze._zygote import program, worker
from cowfreeze._zygote.context import PRELOAD
from cowfreeze._zygote.loop import Loop
from cowfreeze._zygote.rehearsal import rehearse

class Server(Loop):
    """What is sent to the fresh interpreter; `spawn` calls its `_bootstrap` there."""

    def __init__(
        self, known: worker.Here, how: str, relocate_code: bool, work: tuple[Any, ...],
        listener: socket.socket, control: connection.Connection, door: socket.socket | None,
    ) -> None:  # fmt: skip
        self._name = known.name
        self.known = known
        self.how = how
        self.relocate_code = relocate_code
        self.work: Any = work
        self.listener = listener
        self.control = control
        self.door = door
        self.prepared: dict[str, Any] = {}
        self.orphaned = False  # the parent ended without a word

    def __getstate__(self) -> dict[str, Any]:
        """The load function in a pickle of its own: what fails when it is opened can be told to the parent."""
        try:
            work = bytes(reduction.ForkingPickler.dumps(self.work))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"load, its arguments and warmup are pickled for a fresh interpreter, which imports load by its name "
                f"(no lambda, no function inside a function): {error}"
            ) from error
        return {**self.__dict__, "work": work}

    def _bootstrap(self, parent_sentinel: int) -> int:
        os.close(parent_sentinel)
        self.prepare_process()
        try:
            figures = self.load()
        except BaseException as error:
            self.tell_failure(error)
        self.send(("ready", figures))
        wanted = self.serve()
        if wanted is not None:
            status: int = program.run(wanted)
            return status
        self.end()

    # -- until the parent is told "ready" --

    def prepare_process(self) -> None:
        """Descriptors are not for programs that workers start; Ctrl-C is the parent's business."""
        worker.here = self.known
        if self.door is not None:
            # Not of the terminal's session that `serve` was started from: the programs of its clients would be
            # background groups there, and stop when they read from it.
            os.setsid()
        self.pid = os.getpid()
        self.tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
        doors = [] if self.door is None else [self.door.fileno()]
        for descriptor in (self.listener.fileno(), self.control.fileno(), self.tracker, *doors):
            os.set_inheritable(descriptor, False)
        self.handlers: dict[signal.Signals, Any] = {}
        self.take_signals()
        signal.signal(signal.SIGIO, self.parent_died)
        fcntl.fcntl(self.control.fileno(), fcntl.F_SETOWN, self.pid)
        self.signal_control(True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        util._close_stdin()  # type: ignore[attr-defined]

    def take_signals(self) -> None:
        """Workers get back what was there before, or what `load` has set, as from the stdlib's fork server."""
        for number in (signal.SIGINT, signal.SIGCHLD):
            before = signal.signal(number, _nothing)
            if before is not _nothing:
                self.handlers[number] = before

    def signal_control(self, on: bool) -> None:
        """Whether SIGIO tells of the end of `control`."""
        flags = fcntl.fcntl(self.control.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(self.control.fileno(), fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)

    def parent_died(self, number: int, frame: FrameType | None) -> None:
        """While `load` runs, which nobody waits for any more."""
        if os.getpid() == self.pid and self.control.poll(0):
            self.orphaned = True
            self.remove_socket()
            os._exit(1)

    def load(self) -> dict[str, Any]:
        """Prepare as spawn does, load, freeze. The figures of the report."""
        spawn.prepare(self.prepared)
        for name in PRELOAD:
            importlib.import_module(name)
        if self.known.authkey:  # of the first request, but before the freeze
            importlib.import_module("hmac").new(self.known.authkey, b"", "sha256").digest()
        load, args, kwargs, warmup = pickle.loads(self.work)
        self.work = b""
        start = time.perf_counter()
        data = load(*args, **kwargs)
        del args, kwargs
        loaded = time.perf_counter()
        self.check_process("load")
        length = _length(data)
        packed_bytes, notes = 0, []
        why_not = _support.why_not()  # COWFREEZE=0: everything works, and nothing is frozen
        if why_not:
            notes.append(f"nothing was frozen: {why_not}")
        elif self.how == "pack":
            reports: list[PackReport] = []
            data = pack(data, report=reports.append)
            packed_bytes = reports[0].bytes
            notes += reports[0].notes
        if warmup is not None:
            # freeze() calls it again to see which code runs; the first call may start threads or fork.
            warmup(data)
            self.check_process("warmup")
        self.known.data = data
        self.known.address = str(self.listener.getsockname())
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.take_signals()
        self.signal_control(False)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        self.prepare_loop()
        report = None
        if not why_not:

            def warm() -> None:
                rehearse(self.prepared)
                if warmup is not None:
                    warmup(data)

            report = freeze(
                warmup=warm,
                relocate_code=self.relocate_code, threads="allow", allow_forked=True,
            )  # fmt: skip
        self.known.loading = False
        if not why_not and self.how == "heap" and not is_frozen(data):
            notes.append(
                f"load returned a {type(data).__name__}, which is not frozen, because it changes by being used. Workers "
                f"have it, and copy what they touch of it."
            )
        util._flush_std_streams()  # type: ignore[attr-defined]
        kind = type(data)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return {
            "name": self.known.name, "generation": self.known.generation, "pid": self.pid, "how": self.how,
            "data_type": name, "data_length": length,
            "load_seconds": loaded - start, "freeze_seconds": time.perf_counter() - loaded,
            "objects": report.objects if report else 0, "bytes": report.bytes if report else 0,
            "pages": report.pages if report else 0, "packed_bytes": packed_bytes,
            "notes": (*notes, *(report.notes if report and _core.HAS_IMMORTAL else ())),
        }  # fmt: skip

    def check_process(self, what: str) -> None:
        """Is this still the process that it was, with one thread?"""
        if os.getpid() != self.pid:
            print(
                f"cowfreeze: {what} of {self.known.name} forked, and the child returned from it: the child ends here, "
                f"the zygote goes on. End a forked child by os._exit()",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            os._exit(1)
        if _core.other_threads():
            names = [one.name for one in threading.enumerate() if one is not threading.current_thread()]
            raise CowfreezeError(
                f"{what} has left threads running ({', '.join(sorted(names)) or 'made by C code'}). A fork copies only "
                f"the thread that forks, and what the others hold stays locked for ever. Start threads in workers"
            )

    def tell_failure(self, error: BaseException) -> NoReturn:
        if os.getpid() == self.pid:
            start = error.__traceback__
            while start is not None and start.tb_frame.f_code.co_filename == __file__:
                start = start.tb_next
            text = "".join(traceback.format_exception(type(error), error, start))
            try:
                pickled = pickle.dumps(error)
                pickle.loads(pickled)
            except Exception:
                pickled = b""
            if isinstance(error, SystemExit):
                line = f"load ended the process by SystemExit({error.code!r})"
            else:
                line = "".join(traceback.format_exception_only(type(error), error)).strip()
            self.send(("failed", line, text, pickled))
        self.end(1)

    def send(self, message: Any) -> None:
        try:
            self.control.send(message)
        except OSError:
            pass  # the parent has gone, which the loop will notice

    def end(self, status: int = 0) -> NoReturn:
        """Not by an ordinary exit, which takes a loaded heap apart object by object."""
        if os.getpid() == self.pid:
            self.remove_socket()
        fast_exit(status)

    def remove_socket(self) -> None:
        """If the parent cannot do it any more, its folder for temporary files, too."""
        try:
            address = self.listener.getsockname()
        except OSError:
            return  # `load` has closed it
        _remove(os.unlink, address)
        if self.orphaned:
            _remove(os.rmdir, os.path.dirname(address))


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handler of SIGCHLD, which wakes the loop, and of SIGINT, which is for parent and workers."""


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except Exception:
        return None


def _remove(how: Any, path: str) -> None:
    try:
        how(path)
    except OSError:
        pass
