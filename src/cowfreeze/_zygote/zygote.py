"""Zygote: frozen data that can be replaced, and a warm process to fork from."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cowfreeze import _support
from cowfreeze._errors import CowfreezeError, UnsupportedError, ZygoteFailed
from cowfreeze._zygote import worker
from cowfreeze._zygote.context import ZygoteContext
from cowfreeze._zygote.data import DataHandle, made_here
from cowfreeze._zygote.generation import Generation
from cowfreeze._zygote.report import ZygoteReport

if TYPE_CHECKING:
    from cowfreeze._zygote.popen import ZygotePopen

_log = logging.getLogger("cowfreeze")


class Zygote:
    """A process of its own that loads, freezes and forks workers; its data can be replaced.

        with cowfreeze.Zygote(load, "2026-11-29") as zygote:
            pool = ProcessPoolExecutor(8, mp_context=zygote.context)
            pool.map(work, [(zygote.data, i) for i in range(8)])  # the object itself in a worker
            zygote.reload("2026-11-30")

    A fresh interpreter calls ``load(*args, **kwargs)`` and freezes. It inherits what the start
    method spawn hands on: path, main module, environment. So a program that makes one needs
    ``if __name__ == "__main__":`` like any that spawns. Workers share all that is loaded there.

    Frozen memory is never freed, but the process that holds it ends: `reload` starts another, from
    its return on new workers see the new data, and the old process ends with its last worker.

    Args:
        load: a function that the fresh interpreter can import, or something else that can be
            pickled. What it returns is `data`. It must leave no thread running.
        args: for `load`, pickled.
        how: "heap" freezes all of the zygote's heap; "pack" packs what `load` returned before that,
            which is needed to share it on Python 3.10 and 3.11; "auto" takes what fits the version.
        warmup: called with what `load` returned (twice or three times), before the freeze: let it
            do what workers will do. Caches that it fills are frozen full.
        relocate_code: move code that has run (with a warm-up: that it runs) onto pages of its own, as
            `freeze` does it.
        timeout: seconds that a load may take; None for any time.
        name: in messages and logs; the name of `load` if not given.
        progress: called once a second during a load, in this process, with the seconds so far.
        kwargs: for `load`, pickled.

    Raises:
        ZygoteFailed: `load` raised (the message has its traceback, ``__cause__`` the exception if it
            can be pickled), ended the process, was killed, or took too long.
        TypeError, ValueError: a wrong argument; `load` cannot be pickled.
        CowfreezeError: called by the load function of a zygote.
        UnsupportedError: this platform cannot freeze.
    """

    def __init__(
        self,
        load: Callable[..., Any],
        /,
        *args: Any,
        how: str = "auto",
        warmup: Callable[[Any], object] | None = None,
        relocate_code: bool = True,
        timeout: float | None = None,
        name: str | None = None,
        progress: Callable[[float], object] | None = None,
        _door: Any = None,
        **kwargs: Any,
    ) -> None:
        if not callable(load):
            raise TypeError(f"load is a function that a fresh interpreter calls, not {load!r}")
        if how not in ("auto", "heap", "pack"):
            raise ValueError(f'how= takes "auto", "heap" or "pack", not {how!r}')
        if warmup is not None and not callable(warmup):
            raise TypeError(f"warmup= takes a function of the loaded data, not {warmup!r}")
        if worker.is_loading():
            raise CowfreezeError(
                "Zygote() was called while a zygote loads, by its load function or a module that this imports. Make "
                'it in the main program, below `if __name__ == "__main__":`'
            )
        why_not = _support.why_not_this_build()
        if why_not:
            raise UnsupportedError(f"a zygote forks workers that share frozen memory: {why_not}")
        from cowfreeze import _core

        if not _core.is_main_interpreter():
            raise UnsupportedError("Zygote() was called in a sub-interpreter. Make it in the main interpreter.")
        self._load = load
        # On 3.10 and 3.11 nothing is immortal, and only packed data are shared.
        self._how = how if how != "auto" else "heap" if _core.HAS_IMMORTAL else "pack"
        self._warmup = warmup
        self._relocate_code = relocate_code
        self._timeout = timeout
        self._progress = progress
        self._door = _door  # a socket at which `cowfreeze zygote run` asks for programs
        self._name = name or f"zygote of {getattr(load, '__qualname__', type(load).__qualname__)}"
        self._key = os.urandom(8).hex()
        self._arguments = (args, kwargs)
        self._lock = threading.Lock()  # held while a generation is asked for a fork, and to replace it
        self._loading = threading.Lock()  # one load after the other
        self._generations: list[Generation] = []  # all whose process may still run; the finalizer has it, too
        self._current: Generation | None = None
        self._count = 0
        self._closed = False
        # Also at the end of the program. If that does not come (SIGKILL), the process ends by itself.
        self._finalizer = weakref.finalize(self, _retire_all, self._generations)
        self._context = ZygoteContext(self, self._key, self._name)
        made_here[self._key] = self
        self._current = self._start(args, kwargs)

    # -- what it is --

    @property
    def context(self) -> ZygoteContext:
        """A multiprocessing context: Process, Pool, Queue, Manager, and mp_context= of executors."""
        return self._context

    @property
    def data(self) -> DataHandle:
        """A handle of the loaded data, a few bytes when pickled; the object itself in a worker."""
        return DataHandle(self)

    @property
    def report(self) -> ZygoteReport:
        """What the current generation loaded and froze."""
        return self._running().report

    @property
    def generation(self) -> int:
        """1 at first; `reload` counts on. A load that failed takes a number, too."""
        return self._running().number

    @property
    def pid(self) -> int:
        """The process that new workers are forked from."""
        return self._running().pid

    @property
    def name(self) -> str:
        """In messages and logs."""
        return self._name

    def __repr__(self) -> str:
        if self._closed:
            return f"<Zygote {self._name!r}, closed>"
        return f"<Zygote {self._name!r}, generation {self.generation}, process {self.pid}>"

    # -- generations --

    def reload(self, *args: Any, **kwargs: Any) -> ZygoteReport:
        """Load again, in a new process; the old one serves until it is ready.

        Workers that are started after the return see the new data, running ones keep theirs. The
        old process ends with its last worker. So renew a pool, or let it renew its workers
        (``maxtasksperchild``, ``max_tasks_per_child``).

        Args:
            args: for `load`; without any arguments, those of the last load that succeeded.
            kwargs: for `load`.

        Returns:
            The report of the new generation.

        Raises:
            ZygoteFailed: as for `Zygote`. The old generation stays.
            CowfreezeError: the zygote is closed.
        """
        if not args and not kwargs:
            args, kwargs = self._arguments
        with self._loading:
            self._check_open()
            new = self._start(args, kwargs)
            with self._lock:
                old, self._current = self._current, new
                closed = self._closed
            if closed:
                new.retire()
                self._check_open()
            self._arguments = (args, kwargs)
            if old is not None and not old.retire():
                _log.info("%s: generation %d ends with its last worker", self._name, old.number)
            self._reap()
            return new.report

    def close(self) -> None:
        """Fork no more. The process ends with its last worker: now, if there is none."""
        with self._lock:
            self._closed = True
            self._current = None
        _retire_all(self._generations)
        self._reap()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def popen(self, args: Sequence[str], **options: Any) -> ZygotePopen:
        """Start a program as ``python ARGS`` would, but forked from the zygote: its imports are there already.

        It has arguments, environment, folder, streams, signals and ``__main__`` as a fresh interpreter
        has them. What differs: modules that are loaded (and what loading them has set), the hash
        seed, flags of the interpreter, the process id of its parent.

        Args:
            args: ``["-m", "package.module", ...]``, ``["-c", "code", ...]`` or ``["script.py", ...]``.
            options: as subprocess.Popen takes them: stdin, stdout, stderr, cwd, env, pass_fds,
                start_new_session, process_group, umask, text, encoding, errors, bufsize.

        Raises:
            ZygoteFailed: the zygote has died.
            TypeError, ValueError: wrong arguments.
            OSError: `cwd` does not exist, or the zygote cannot fork.
        """
        from cowfreeze._zygote.popen import OPTIONS, ZygotePopen

        wrong = sorted(options.keys() - OPTIONS)
        if wrong:
            raise TypeError(f"popen() does not take {', '.join(wrong)}: the process is forked, not started")
        return ZygotePopen(self, args, **options)

    def connect(self, fds: list[int]) -> tuple[int, int, int]:
        """For `Popen`: ask the current generation for a fork. (status to read, data to write, generation)"""
        with self._lock:
            self._reap()
            generation = self._running()
            try:
                return (*generation.connect_to_new_process(fds), generation.number)
            except (ConnectionError, EOFError, FileNotFoundError):
                raise generation.death_of_running() from None

    def check(self) -> None:
        """Raise ZygoteFailed if the process of the current generation has died."""
        self._reap()
        generation = self._running()
        if generation.has_ended():
            raise generation.death_of_running()

    def end_of(self, number: int) -> ZygoteFailed:
        """Why generation NUMBER did not fork."""
        for generation in self._generations:
            if generation.number == number:
                return generation.death_of_running()
        return ZygoteFailed(f"{self._name}: generation {number} ended while it was asked for a process")

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generation:
        self._count += 1
        known = worker.Here(self._key, self._name, self._count)
        new = Generation(known, self._how, self._relocate_code, (self._load, args, kwargs, self._warmup), self._door)
        new.wait_until_ready(self._timeout, self._tell)
        self._generations.append(new)
        _log.info("%s", new.report)
        return new

    def _tell(self, seconds: float) -> None:
        if round(seconds) % 10 == 0:
            _log.info("%s: generation %d has been loading for %.0f s", self._name, self._count, seconds)
        if self._progress is not None:
            self._progress(seconds)

    def _running(self) -> Generation:
        current = self._current
        if current is None:
            self._check_open()
            raise ZygoteFailed(f"{self._name}: nothing is loaded yet")
        return current

    def _check_open(self) -> None:
        if self._closed:
            raise CowfreezeError(f"{self._name} is closed; make another Zygote")

    def _reap(self) -> None:
        for generation in [one for one in self._generations if one.retired]:
            if generation.reap() and generation in self._generations:
                self._generations.remove(generation)


def _retire_all(generations: list[Generation]) -> None:
    for generation in list(generations):
        generation.retire()


def _after_fork_in_child() -> None:
    """Another thread may have held them."""
    for zygote in list(made_here.values()):
        zygote._lock = threading.Lock()
        zygote._loading = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
