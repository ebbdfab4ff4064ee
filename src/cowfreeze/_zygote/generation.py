"""One process of a zygote, as its parent sees it: started, loaded, asked for forks, retired."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import connection, context, forkserver, popen_spawn_posix, reduction, resource_tracker, spawn, util
from typing import Any

from cowfreeze._errors import ZygoteFailed
from cowfreeze._zygote.report import ZygoteReport
from cowfreeze._zygote.server import Server
from cowfreeze._zygote.worker import Here

ANSWERS_WITHIN = 10.0  # seconds; the server answers at once unless it is stopped
_LOOK = 0.1  # seconds between two looks at a loading process
# Since 3.14 client and server of a fork server prove to each other that they know a key.
_HAS_AUTHKEY = hasattr(forkserver.ForkServer(), "_forkserver_authkey")


class _Spawn(popen_spawn_posix.Popen):
    """Starts the server as a process of the start method spawn is started: exec, nothing inherited.

    But the main module is imported by the server itself, so that its errors can be told, and the
    pipe that tells of the end is the connection that the server has anyway.
    """

    def _launch(self, server: Server) -> None:
        tracker = resource_tracker.getfd()
        server.prepared = spawn.get_preparation_data(server._name)
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump({"sys_path": server.prepared["sys_path"]}, buffer)
            reduction.dump(server, buffer)
        finally:
            context.set_spawning_popen(None)
        reader, writer = os.pipe()
        try:
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=reader)
            # Ctrl-C goes to the whole process group: not before the server has its handler.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                handed_on: Any = [*self._fds, tracker, reader]  # type: ignore[attr-defined]
                self.pid = util.spawnv_passfds(spawn.get_executable(), command, handed_on)  # type: ignore[arg-type]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        with contextlib.suppress(BrokenPipeError), open(writer, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())  # it may be dead already, which wait_until_ready will tell


class Generation(forkserver.ForkServer):
    """A client of one server.

    Attributes:
        number: 1 for the zygote's first.
        report: what it loaded and froze, once it is ready.
        retired: forks no more.
    """

    report: ZygoteReport

    def __init__(self, known: Here, how: str, relocate_code: bool, work: tuple[Any, ...], door: Any = None) -> None:
        super().__init__()
        self.number = known.generation
        self.name = known.name
        self.retired = False
        self._owner = os.getpid()
        if _HAS_AUTHKEY:
            known.authkey = self._forkserver_authkey = os.urandom(32)
        self._forkserver_address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        self._control, theirs = connection.Pipe()
        try:
            with theirs, socket.socket(socket.AF_UNIX) as listener:
                listener.bind(self._forkserver_address)
                os.chmod(self._forkserver_address, 0o600)
                listener.listen(1024)
                server: Any = Server(known, how, relocate_code, work, listener, theirs, door)  # all that Popen asks of a process
                self._popen: Any = _Spawn(server)
        except BaseException:
            self._control.close()
            self._remove_socket()
            raise
        # Handed to each worker by the protocol; ours keeps no server alive.
        self._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._forkserver_pid = self._popen.pid

    @property
    def pid(self) -> int:
        return int(self._popen.pid)

    # -- loading --

    def wait_until_ready(self, timeout: float | None, progress: Callable[[float], object] | None) -> None:
        """Wait for the end of the load. The process is gone if this raises.

        Raises:
            ZygoteFailed: it failed, was killed or took too long.
            BaseException: what PROGRESS or a signal handler raises.
        """
        start = time.monotonic()
        told = start
        try:
            while not self._control.poll(_LOOK):
                if self.has_ended() and not self._control.poll(0):
                    raise self._death()
                now = time.monotonic()
                if timeout is not None and now - start >= timeout:
                    raise ZygoteFailed(f"{self.name}: load took longer than {timeout:g} s and was ended")
                if progress is not None and now - told >= 1:
                    told = now
                    progress(now - start)
            self._take_result()
        except BaseException:
            self.kill()
            raise

    def _take_result(self) -> None:
        try:
            word, *rest = self._control.recv()
        except (EOFError, OSError):
            with contextlib.suppress(ChildProcessError):
                self._popen.poll(0)
            raise self._death() from None
        if word == "ready":
            self.report = ZygoteReport(**rest[0])
            return
        line, text, pickled = rest
        failure = ZygoteFailed(f"{self.name}: {line}\n\nIn the zygote's process:\n{text.rstrip()}", traceback=text)
        cause = None
        if pickled:
            with contextlib.suppress(Exception):
                cause = pickle.loads(pickled)
        raise failure from cause

    def _death(self) -> ZygoteFailed:
        status = self._popen.returncode
        when = "while it loaded" if not hasattr(self, "report") else "and forks no more"
        if status is None:
            return ZygoteFailed(f"{self.name}: its process ended {when}; how is not known")
        if status < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-status).name
                hint = " (out of memory?)" if -status == signal.SIGKILL else ""
                return ZygoteFailed(f"{self.name}: its process was killed by {name} {when}{hint}", signal=-status)
        return ZygoteFailed(
            f"{self.name}: its process ended with exit status {status} {when}; what it printed tells more", status=status
        )

    # -- forks --

    def has_ended(self) -> bool:
        """Is the process gone? Known only to the process that started it."""
        if os.getpid() != self._owner:
            return False
        if self._popen.poll() is not None:
            return True
        try:
            os.kill(self.pid, 0)  # not a zombie of ours: somebody else may have waited for it (SIGCHLD ignored)
        except ProcessLookupError:
            return True
        return False

    def ensure_running(self) -> None:
        """Called by connect_to_new_process: a zygote that died is not started again unasked."""
        resource_tracker.ensure_running()
        if self.has_ended():
            raise self.death_of_running()

    def death_of_running(self) -> ZygoteFailed:
        """It has hung up: what a person should know, after a moment in which its status arrives."""
        for _ in range(20):
            if self.has_ended():
                break
            time.sleep(0.05)
        failure = self._death()
        return ZygoteFailed(
            f"{failure}. zygote.reload() starts another", signal=failure.signal, status=failure.status
        )

    # -- the end --

    def retire(self) -> bool:
        """Fork no more: the process ends with its last worker. True if it has ended already.

        In a fork of the program that made the zygote: forget it.
        """
        if os.getpid() != self._owner:
            self._let_go()
            return True
        left = 1
        if not self.retired:
            self.retired = True
            try:
                self._control.send("retire")
                left = self._control.recv() if self._control.poll(ANSWERS_WITHIN) else 1
            except (EOFError, OSError):
                left = 0  # it is dead
        return self.reap(wait=left == 0)

    def reap(self, *, wait: bool = False) -> bool:
        """Has the process ended? Then nothing of it is left.

        Until then the connection stays open: its end would mean that this process has died.
        """
        if os.getpid() != self._owner:
            return True
        if wait:
            self._popen.poll(0)
        if not self.has_ended():
            return False
        self._let_go()
        self._remove_socket()
        return True

    def kill(self) -> None:
        """End it, whatever it does."""
        self.retired = True
        self._popen.kill()
        self.reap(wait=True)

    def _let_go(self) -> None:
        if not self._control.closed:
            self._control.close()
            os.close(self._forkserver_alive_fd)

    def _remove_socket(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._forkserver_address)
