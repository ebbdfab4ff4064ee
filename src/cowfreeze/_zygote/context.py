"""The multiprocessing context of a zygote: as the fork server's, but the zygote forks."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import threading
from multiprocessing import connection, context, forkserver, popen_forkserver, process, reduction, spawn, util
from typing import Any, NoReturn, Protocol

from cowfreeze._errors import ZygoteFailed
from cowfreeze._zygote import worker
from cowfreeze._zygote.data import made_here


class Forks(Protocol):
    """Who is asked for a fork: a Zygote, or in a worker its own generation."""

    def connect(self, fds: list[int]) -> tuple[int, int, int]:
        """As ForkServer.connect_to_new_process: (status to read, data to write); and the generation."""
        ...

    def end_of(self, number: int) -> ZygoteFailed:
        """Why generation NUMBER has hung up."""
        ...


class Popen(popen_forkserver.Popen):
    """A worker of a zygote, as the process that started it sees it.

    Attributes:
        generation: which one it was forked from.
    """

    def __init__(self, process_obj: Any, zygote: Forks) -> None:
        self._zygote: Forks | None = zygote
        self._reading = threading.Lock()
        super().__init__(process_obj)

    def _launch(self, process_obj: Any) -> None:
        # popen_forkserver's, but for whom it asks, and for answers that are no process.
        prepared = self._preparation(process_obj)
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(prepared, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        assert self._zygote is not None
        forks, self._zygote = self._zygote, None
        self.sentinel, writer, self.generation = forks.connect(self._fds)  # type: ignore[attr-defined]
        parent_writer = os.dup(writer)
        self.finalizer = util.Finalize(self, util.close_fds, (parent_writer, self.sentinel))  # type: ignore[attr-defined]
        # A zygote that cannot fork hangs up here, too; its answer says why.
        with contextlib.suppress(BrokenPipeError), open(writer, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        try:
            answer = forkserver.read_signed(self.sentinel)
        except EOFError:
            self.finalizer()
            raise forks.end_of(self.generation) from None
        if answer < 0:
            self.finalizer()
            raise OSError(-answer, f"the zygote cannot fork: {os.strerror(-answer)}")
        self.pid = answer

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """As in popen_forkserver, but two threads that ask at once (Process.start asks all) get one answer.

        The end of the pipe without a status: zygote and worker are gone, and nobody knows how it
        ended. 255, as in the stdlib.
        """
        if self.returncode is None:
            if not connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
                return None
            with self._reading:
                if self.returncode is None:
                    try:
                        self.returncode: int | None = forkserver.read_signed(self.sentinel)
                    except (OSError, EOFError):
                        self.returncode = 255
        return self.returncode

    def _preparation(self, process_obj: Any) -> dict[str, Any]:
        return spawn.get_preparation_data(process_obj._name)


class ZygoteProcess(context.ForkServerProcess):
    """A process that a zygote forks. `zygote.context.Process` is a subclass that knows its zygote."""

    _forks: Any = None

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:
        return Popen(process_obj, process_obj._forks or _own_generation())

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        _begin_worker()
        return int(super()._bootstrap(parent_sentinel))  # type: ignore[misc]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A worker cannot import the subclass of a context, which is made at run time.
        reduced: Any = super().__reduce_ex__(protocol)
        return (_blank_process, (), *reduced[2:]) if "_is_bound" in vars(type(self)) else reduced


# Since 3.13 a fork server runs atexit handlers in its children (gh-83856), but not those that it inherited.
_ENDS_BY_ATEXIT = hasattr(forkserver, "atexit")
_has_begun = False
# Descriptors of the server that only a program needs, until it is one.
for_programs: list[int] = []


def _begin_worker() -> None:
    """Forget inherited handlers: not at the fork, because a program keeps them, but before a worker imports anything."""
    global _has_begun
    if _has_begun:
        return
    _has_begun = True
    util.close_fds(*for_programs)  # type: ignore[attr-defined]
    if _ENDS_BY_ATEXIT:
        atexit._clear()
        atexit.register(util._exit_function)  # type: ignore[attr-defined]


def end_worker(status: int) -> NoReturn:
    """The end of a process of multiprocessing, as forkserver.main has it."""
    _begin_worker()
    if _ENDS_BY_ATEXIT:
        atexit._run_exitfuncs()
    os._exit(status)


def _blank_process() -> ZygoteProcess:
    if getattr(process.current_process(), "_inheriting", False):
        _begin_worker()
    return ZygoteProcess.__new__(ZygoteProcess)


class ZygoteContext(context.ForkServerContext):
    """`zygote.context`: give it wherever a multiprocessing context is taken.

    In a worker, unpickled from an argument, it forks from the worker's own generation.
    """

    def __init__(self, forks: Any, key: str, name: str) -> None:
        self._key = key
        self._zygote_name = name
        # A class, because Process(...) is called without the context.
        self.Process: Any = type(  # type: ignore[misc]
            "ZygoteProcess", (ZygoteProcess,), {"_forks": forks, "_is_bound": True, "__module__": __name__}
        )

    def set_forkserver_preload(self, module_names: Any, **options: Any) -> None:
        """Not for a zygote: what `load` imports is what it has.

        Raises:
            ZygoteFailed: always.
        """
        raise ZygoteFailed("a zygote preloads what its load function imports: import the modules there")

    def __reduce__(self) -> tuple[Any, ...]:
        return _context_here, (self._key, self._zygote_name)


def _context_here(key: str, name: str) -> ZygoteContext:
    zygote = made_here.get(key)
    if zygote is not None:
        made: ZygoteContext = zygote.context
        return made
    worker.inherited_data(key, name)  # raises elsewhere than in a worker
    return ZygoteContext(_own_generation(), key, name)


class _OwnGeneration:
    def connect(self, fds: list[int]) -> tuple[int, int, int]:
        assert worker.here is not None
        sibling = worker.Sibling(worker.here)
        try:
            return (*sibling.connect_to_new_process(fds), sibling.number)
        except (ConnectionError, FileNotFoundError, EOFError):
            raise self.end_of(sibling.number) from None

    def end_of(self, number: int) -> ZygoteFailed:
        assert worker.here is not None
        return ZygoteFailed(f"{worker.here.name}, generation {number}, has ended: this worker cannot fork others")


def _own_generation() -> _OwnGeneration:
    if worker.here is None or worker.here.loading:
        raise ZygoteFailed("this process was not forked from a zygote, and cannot ask it for another")
    return _OwnGeneration()


# What workers of Pool and executors run; the server imports it before it freezes.
PRELOAD = (
    "concurrent.futures.process",
    "multiprocessing.connection",
    "multiprocessing.pool",
    "multiprocessing.queues",
    "multiprocessing.synchronize",
    "traceback",
)
