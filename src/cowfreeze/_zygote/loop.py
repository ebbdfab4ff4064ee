"""The loop of a zygote's server: it forks whoever is asked for, and passes on how they ended.

    listener   a ForkServer's request: descriptors, then on a pipe the pickled process; the answers
               on a pipe: its id, or minus an errno, and later its exit status
    door       `cowfreeze zygote run`: see door.py; the answers on the connection
    control    the parent: "retire", answered by the number of workers; its end is the parent's
    wakeup     SIGCHLD
    notes      ids of forked processes that are programs, written by them

What a request can do wrong must not end the server: a client that vanishes or stalls, a fork that
fails, too many descriptors. In what it forks, `serve` does not return, but for a program, which
runs from the bottom of the stack.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
from multiprocessing import AuthenticationError, connection, forkserver, reduction, resource_tracker, util
from typing import Any

from cowfreeze._zygote import context, door, program, worker
from cowfreeze._zygote.program import Program

STALLED = 10  # seconds that a client has to hand over its request
_MODULES: Any = forkserver  # its private names have no types


class Loop:
    """The part of a server that runs after the load. The other part sets these attributes."""

    known: worker.Here
    listener: socket.socket
    control: connection.Connection
    door: socket.socket | None
    handlers: dict[signal.Signals, Any]
    tracker: int
    orphaned: bool

    def send(self, what: object) -> None:
        """To the parent; the other part's."""
        raise NotImplementedError

    def prepare_loop(self) -> None:
        """All that the loop needs is made before the freeze."""
        self.wakeup, self.wakeup_writer = os.pipe()
        self.notes, self.notes_writer = os.pipe()
        for descriptor in (self.wakeup, self.wakeup_writer, self.notes, self.notes_writer):
            os.set_blocking(descriptor, False)
        self.listener.setblocking(False)
        self.children: dict[int, int] = {}  # process -> where its exit status is written
        self.programs: set[int] = set()
        self.runs: dict[int, int] = {}  # connection of a `zygote run` -> its process
        self.retired = False
        self.poller = select.poll()
        if self.door is not None:
            self.door.setblocking(False)
            self.poller.register(self.door.fileno(), select.POLLIN)
        for descriptor in (self.wakeup, self.notes, self.listener.fileno(), self.control.fileno()):
            self.poller.register(descriptor, select.POLLIN)

    def serve(self) -> Program | None:
        """Fork until there is nobody left to fork for. Returns in a child what program it is."""
        signal.set_wakeup_fd(self.wakeup_writer, warn_on_full_buffer=False)
        while self.children or not self.retired:
            ready = {descriptor for descriptor, _ in self.poller.poll()}
            # First: what follows may give these numbers to others.
            for descriptor in ready & self.runs.keys():
                # Who stood for the program has been killed, as the program would have been.
                self.poller.unregister(descriptor)
                os.kill(self.runs.pop(descriptor), signal.SIGKILL)
            if self.notes in ready:
                data = os.read(self.notes, 4096)
                self.programs.update(number for (number,) in struct.iter_unpack("i", data))
            if self.wakeup in ready:
                os.read(self.wakeup, 65536)
                self.reap()
            # Before `control`: who asks before the parent retires this generation gets a worker of it.
            if self.listener.fileno() in ready:
                wanted = self.accept_all(self.listener)
                if wanted is not None:
                    return wanted
            if self.door is not None and self.door.fileno() in ready:
                wanted = self.accept_all(self.door)
                if wanted is not None:
                    return wanted
            if self.control.fileno() in ready:
                self.obey()
        return None

    def obey(self) -> None:
        try:
            told = self.control.recv()
        except (EOFError, OSError):
            told = None
            self.orphaned = True
            self.poller.unregister(self.control.fileno())
            for pid in self.children.keys() - self.programs:
                os.kill(pid, signal.SIGTERM)
        self.retired = True
        if self.door is not None:
            self.poller.unregister(self.door.fileno())
            self.door.close()
            self.door = None
        if told is not None:
            self.reap()
            self.send(len(self.children))

    def reap(self) -> None:
        """Pass on how workers ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            writer = self.children.pop(pid, None)
            self.programs.discard(pid)
            if writer in self.runs:
                self.poller.unregister(writer)
                del self.runs[writer]
            if writer is not None:  # else a process that `load` has started
                self.answer(writer, os.waitstatus_to_exitcode(status))
                os.close(writer)

    @staticmethod
    def answer(writer: int, number: int) -> None:
        try:
            _MODULES.write_signed(writer, number)
        except OSError:
            pass  # the client has vanished

    def accept_all(self, listener: socket.socket) -> Program | None:
        while True:
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return None
            except OSError:
                time.sleep(0.01)  # no descriptors or memory: not for ever, one hopes, and not busily
                return None
            with client:
                _limit(client)
                if listener is self.door:
                    wanted = self.fork_program(client)
                else:
                    descriptors = self.request_of(client)
                    wanted = self.fork(*descriptors) if descriptors else None
            if wanted is not None:
                return wanted

    def fork_program(self, client: socket.socket) -> Program | None:
        if not door.is_welcome(client):
            return None
        try:
            pid = os.fork()
        except OSError:
            return None  # it starts its program the ordinary way, and will tell why it cannot
        if pid == 0:
            return self.become_program(client)
        writer = client.detach()
        self.answer(writer, pid)
        self.children[pid] = writer
        self.programs.add(pid)
        self.runs[writer] = pid
        self.poller.register(writer, select.POLLRDHUP)
        return None

    def request_of(self, client: socket.socket) -> list[int]:
        """The descriptors that CLIENT sends; none if it does not keep to the protocol."""
        try:
            if self.known.authkey:
                wrapped = connection.Connection(client.fileno())
                try:
                    connection.deliver_challenge(wrapped, self.known.authkey)
                    connection.answer_challenge(wrapped, self.known.authkey)
                finally:
                    wrapped._detach()  # type: ignore[attr-defined]
            descriptors: list[int] = reduction.recvfds(client, _MODULES.MAXFDS_TO_SEND + 1)
        except (EOFError, OSError, RuntimeError, AuthenticationError):
            return []
        if len(descriptors) < 4 or len(descriptors) > _MODULES.MAXFDS_TO_SEND:
            util.close_fds(*descriptors)  # type: ignore[attr-defined]
            return []
        return descriptors

    def fork(self, reader: int, writer: int, *descriptors: int) -> Program | None:
        try:
            pid = os.fork()
        except OSError as error:
            self.answer(writer, -(error.errno or 1))
            util.close_fds(reader, writer, *descriptors)  # type: ignore[attr-defined]
            return None
        if pid == 0:
            return self.become_worker(reader, writer, descriptors)
        self.answer(writer, pid)
        self.children[pid] = writer
        util.close_fds(reader, *descriptors)  # type: ignore[attr-defined]
        return None

    # -- in a worker --

    def descriptors(self) -> list[int]:
        """The server's own, which are no business of what it forks."""
        self.listener.close()
        if self.door is not None:
            self.door.close()
        ours = [self.wakeup, self.wakeup_writer, self.notes, self.control.fileno()]
        return [*ours, *self.children.values()]

    def become_program(self, client: socket.socket) -> Program:
        """The request is read here, not in the server. CLIENT stays open as `writer` does in become_worker."""
        try:
            signal.set_wakeup_fd(-1)  # its number is somebody else's soon
            util.close_fds(self.notes_writer, *self.descriptors())  # type: ignore[attr-defined]
            try:
                wanted, sent = door.receive(client)
            except (EOFError, OSError, ValueError):
                os._exit(1)  # it only looked whether somebody listens, or has vanished
            program.become(wanted, sent, client.detach())
            return wanted
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def become_worker(self, reader: int, writer: int, descriptors: tuple[int, ...]) -> Program | None:
        """Run what was asked for, as forkserver.main does in its child. Returns only if it is a program.

        WRITER stays open: if the zygote dies, the client's end must not look as if the worker had.
        """
        code = 1
        wanted = None
        try:
            unused = self.descriptors()
            context.for_programs.append(self.notes_writer)
            if resource_tracker._resource_tracker._fd == self.tracker:  # type: ignore[attr-defined]
                unused.append(self.tracker)  # each worker gets it anew; since 3.15 it is closed already
            code = _MODULES._serve_one(reader, descriptors, unused, self.handlers)
            asked = program.take()
            if asked is not None:
                code = 1
                os.write(self.notes_writer, struct.pack("i", os.getpid()))
                os.close(self.notes_writer)
                program.become(asked, _MODULES.get_inherited_fds(), writer)
                wanted = asked
                return wanted
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            if wanted is None:
                context.end_worker(code)
        context.end_worker(code)


def _limit(client: socket.socket) -> None:
    limit = struct.pack("ll", STALLED, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
