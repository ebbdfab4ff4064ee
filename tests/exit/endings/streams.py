"""Streams, the collector, logging, a file of the parent's, other interpreters, C."""

from __future__ import annotations

import ctypes
import gc
import io
import logging
import logging.handlers
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from endings.held import Cycle
from endings.shared import ending, say, path, Tells, app, registry, stream_lock


# -- streams -------------------------------------------------------------------


@ending("buffered output")
def _() -> None:
    sys.stdout.write("no end of line")


@ending("much output")
def _() -> None:
    sys.stdout.write("a line of output\n" * 20000)


@ending("full stdout")
def _() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout.write("cannot be written")


@ending("full stdout, exit 3")
def _() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout.write("cannot be written")
    sys.exit(3)


@ending("closed stdout")
def _() -> None:
    sys.stdout.close()


@ending("closed descriptor")
def _() -> None:
    sys.stdout.write("cannot be written")
    os.close(1)


@ending("stdout is None")
def _() -> None:
    sys.stdout = None  # type: ignore[assignment]
    registry["tells"] = Tells("without a stdout")


class Out:
    """A stream in Python whose flush needs a lock of its module."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def write(self, text: str) -> Any:
        with stream_lock:
            return self.raw.write(text)

    def flush(self) -> None:
        with stream_lock:
            self.raw.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@ending("own stdout", lambda: setattr(sys, "stdout", Out(sys.stdout)))
def _() -> None:
    print("hello")


@ending("own stdout since the fork")
def _() -> None:
    sys.stdout = Out(sys.stdout)  # type: ignore[assignment]
    print("hello")


@ending("stdout is a memory file")
def _() -> None:
    sys.stdout = io.StringIO()
    print("lost")


@ending("a finalizer prints")
def _() -> None:
    class Prints:
        def __del__(self) -> None:
            print("printed by a finalizer")
            print("and to stderr", file=sys.stderr)

    registry["prints"] = Prints()


@ending("a finalizer fails")
def _() -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError("planted")

    registry["fails"] = Fails()


@ending("own unraisablehook")
def _() -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError("planted")

    sys.unraisablehook = lambda what: say(f"unraisable: {what.exc_value}")
    registry["fails"] = Fails()


# -- the collector ---------------------------------------------------------------


@ending("no collector")
def _() -> None:
    gc.disable()
    registry["tells"] = Tells("without a collector")
    registry["cycle"] = Cycle(Tells("in a cycle"))


@ending("garbage")
def _() -> None:
    gc.disable()
    Cycle(Tells("garbage"))


@ending("collected in between")
def _() -> None:
    registry["a"] = Tells("a")
    gc.collect()
    registry["b"] = Tells("b")
    gc.collect()
    registry["c"] = Tells("c")


@ending("callbacks of the collector")
def _() -> None:
    gc.callbacks.append(lambda phase, _: say(f"gc: {phase}") if phase == "none" else None)


seen = 0


def _note(*_: object) -> None:
    global seen
    with stream_lock:
        seen += 1


ending("callbacks of the collector need a lock", lambda: gc.callbacks.append(_note))(lambda: None)


# -- logging ---------------------------------------------------------------------


def _logs() -> None:
    handler = logging.FileHandler(path("log"))
    memory = logging.handlers.MemoryHandler(100, target=handler)
    logging.getLogger("planted").addHandler(memory)
    logging.getLogger().addHandler(logging.StreamHandler())


@ending("logging before", _logs)
def _() -> None:
    logging.getLogger("planted").error("a record")
    registry["logs"] = Logs()


@ending("logging since")
def _() -> None:
    _logs()
    logging.getLogger("planted").error("a record")
    registry["logs"] = Logs()


class Logs:
    def __del__(self) -> None:
        logging.getLogger("planted").error("from a finalizer")


# -- a file of the parent's --------------------------------------------------------


def _open() -> None:
    app.log = open(path("inherited"), "a")  # type: ignore[attr-defined]


@ending("a worker writes to the parent's file", _open)
def _() -> None:
    app.log.write("line of the one that ends\n")  # type: ignore[attr-defined]


# -- C -----------------------------------------------------------------------------


def _interpreters() -> tuple[Callable[[], Any], Callable[[Any, str], Any], Callable[[Any], Any]]:
    warnings.simplefilter("ignore")
    if sys.version_info >= (3, 13):
        import _interpreters as module
    else:
        import _xxsubinterpreters as module  # type: ignore[no-redef]
    legacy = (lambda: module.create("legacy")) if hasattr(module, "new_config") else (lambda: module.create(isolated=False))
    return legacy, getattr(module, "exec", module.run_string), module.destroy


MANY = "import sys, json\nkept = [sys.intern('sub %d' % i) for i in range(1000)]"


def _one_interpreter() -> None:
    create, run, _ = _interpreters()
    registry["interpreter"] = create()
    run(registry["interpreter"], MANY)


@ending("an interpreter is alive", roles=("parent",))
def _() -> None:
    _one_interpreter()  # a freeze beside one is refused
    registry["tells"] = Tells("beside an interpreter")


@ending("an interpreter is alive, another has ended", roles=("parent",))
def _() -> None:
    _one_interpreter()
    create, run, destroy = _interpreters()
    other = create()
    run(other, MANY)
    destroy(registry.pop("interpreter"))
    registry["other"] = other


@ending("an interpreter has ended")
def _() -> None:
    create, run, destroy = _interpreters()
    made = create()
    run(made, MANY)
    destroy(made)
    sys.exit(4)


if len(sys.argv) > 4:

    @ending("Py_AtExit")
    def _() -> None:
        library = ctypes.CDLL(sys.argv[4])
        assert ctypes.pythonapi.Py_AtExit(ctypes.cast(library.last, ctypes.c_void_p)) == 0
        registry["tells"] = Tells("before Py_AtExit")
        sys.exit(2)
