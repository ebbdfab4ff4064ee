"""`cowfreeze zygote serve`: a zygote that programs are started from by `cowfreeze zygote run`.

This process only looks after it: SIGHUP loads again, SIGTERM and SIGINT end it, and if the zygote
dies, so does this one, for a supervisor to see.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from cowfreeze._errors import CowfreezeError, ZygoteFailed
from cowfreeze._zygote.zygote import Zygote


def preload(names: Sequence[str], path: Sequence[str]) -> None:
    """The load function: import modules."""
    sys.path[:0] = [one for one in path if one not in sys.path]
    for name in names:
        importlib.import_module(name)


class Service:
    """A zygote with a socket at PATH.

    Args:
        path: where the socket is made, when the modules are loaded; a file that is there is replaced if
            nobody listens at it.
        names: modules to import.
        timeout: seconds that this may take.
    """

    def __init__(self, path: str, names: Sequence[str], timeout: float | None) -> None:
        self.path = os.path.abspath(path)
        self.orders: list[int] = []
        if _somebody_listens(self.path):
            raise CowfreezeError(f"somebody serves at {path} already")
        if os.path.lexists(self.path) and not stat.S_ISSOCK(os.lstat(self.path).st_mode):
            raise CowfreezeError(f"{path} exists and is no socket: choose another path, or remove it")
        self.new = f"{self.path}.{os.getpid()}"
        if not _somebody_listens(self.new):
            with contextlib.suppress(OSError):
                os.unlink(self.new)  # of a process of this number that was killed while it loaded
        self.door = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            self.door.bind(self.new)
        except OSError as error:
            raise CowfreezeError(f"no socket can be made at {path}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        try:
            self.door.listen(1024)
            self.zygote = Zygote(preload, names, [os.getcwd()], timeout=timeout, name="zygote of programs", _door=self.door)
            # Until now programs are started the ordinary way.
            self.made = os.stat(self.new).st_ino
            os.rename(self.new, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self.new)
            raise

    def run(self) -> None:
        """Until a signal ends it.

        Raises:
            ZygoteFailed: the zygote has died.
        """
        wakeup, writer = os.pipe()
        os.set_blocking(writer, False)
        handlers = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            while True:
                self.zygote.check()
                if select.select([wakeup], [], [], 1.0)[0]:
                    os.read(wakeup, 4096)
                while self.orders:
                    if self.orders.pop(0) != signal.SIGHUP:
                        return
                    self.reload()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.close()

    def reload(self) -> None:
        try:
            self.zygote.reload()
            self.say()
        except ZygoteFailed as error:
            print(f"cowfreeze: {error}", file=sys.stderr, flush=True)

    def say(self) -> None:
        """One line about what is loaded; the notes of the report are in the log."""
        print(str(self.zygote.report).partition("\n")[0], file=sys.stderr, flush=True)

    def note(self, number: int, frame: FrameType | None) -> Any:
        self.orders.append(number)

    def close(self) -> None:
        """Programs that run go on; new ones are started the ordinary way."""
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self.made:  # else another one serves there by now
                os.unlink(self.path)
        self.door.close()
        self.zygote.close()


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True
