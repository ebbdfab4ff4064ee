"""Workers that end in every way a program can end, under a parent that calls bare os.fork.

    cases_ends.py plain|freeze|guard|fast FOLDER     prints JSON: per ending the wait status and what was written

The children leave the loop and run to the end of this script, as they do under a process manager.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cowfreeze

mode, folder = sys.argv[1:]


class Special(SystemExit):
    """A subclass may compute its code when it is asked for."""

    @property
    def code(self) -> int:  # type: ignore[override]
        return 9


class Tells:
    """A mortal object whose finalizer can be seen."""

    def __init__(self, text: bytes) -> None:
        self.text, self.write = text, os.write
        self.file = os.open(os.path.join(folder, "told"), os.O_WRONLY | os.O_CREAT)

    def __del__(self) -> None:
        self.write(self.file, self.text)


def leave(status: object) -> Callable[[], None]:
    return lambda: sys.exit(status)  # type: ignore[arg-type]


def caught() -> None:
    with contextlib.suppress(SystemExit):
        sys.exit(5)


def kept() -> None:
    global keep
    try:
        sys.exit(5)
    except SystemExit as error:
        keep = error


def in_thread() -> None:
    thread = threading.Thread(target=sys.exit, args=(5,))
    thread.start()
    thread.join()


def fail() -> None:
    raise ValueError("planted")


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def raise_special() -> None:
    raise Special


def slow_thread() -> None:
    threading.Thread(target=lambda: (time.sleep(0.05), os.write(1, b"thread done\n"))).start()


def own_handler() -> None:
    atexit.register(os.write, 1, b"own handler\n")
    atexit.register(sys.exit, 4)  # what a handler raises does not change the status


def bad_stdout() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout.write("cannot be written")


def open_file() -> None:
    global log, told
    log = open(os.path.join(folder, "log"), "w")  # noqa: SIM115  # that it is left open is the case
    log.write("flushed")
    told = Tells(b"told")


def from_deep_inside() -> None:
    def deeper(n: int) -> None:
        if n == 0:
            sys.exit(8)
        deeper(n - 1)

    deeper(100)


def leave_and_keep() -> None:
    """The exception and its traceback are a cycle, which is there when the status has been taken."""
    try:
        sys.exit(3)
    except SystemExit as error:
        saved = error  # noqa: F841
        raise


def leave_by_a_global() -> None:
    global keep
    keep = SystemExit(3)
    raise keep


def leave_in_a_task() -> None:
    import asyncio

    async def task() -> None:
        sys.exit(3)

    async def main() -> None:
        await asyncio.create_task(task())

    asyncio.run(main())


def leave_instead(first: int) -> Callable[[], None]:
    def end() -> None:
        try:
            sys.exit(first)
        except SystemExit:
            sys.exit(3)

    return end


def leave_finally() -> None:
    try:
        sys.exit(0)
    finally:
        sys.exit(3)


def leave_with_an_old_one() -> None:
    raise made_before


def files_of_frozen_objects() -> None:
    holder.before.write("before")  # opened before the freeze
    holder.after = open(os.path.join(folder, "after"), "w")
    holder.after.write("after")


def in_a_subinterpreter(end: Callable[[], None]) -> Callable[[], None]:
    """One that dies in another interpreter has another status than the process."""

    def ending() -> None:
        name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        try:
            interpreters = __import__(name)
        except ImportError:  # before 3.12 nothing is watched
            return end()
        made = interpreters.create()
        with contextlib.suppress(Exception):  # 3.12 raises what the program raised
            interpreters.run_string(made, "import sys\nkeep = SystemExit(7)\nsys.exit(5)")
        interpreters.destroy(made)
        end()

    return ending


class Holder:
    before: Any
    after: Any


ENDS: dict[str, Callable[[], None]] = {
    "falls off": lambda: None,
    "None": leave(None),
    "zero": leave(0),
    "three": leave(3),
    "negative": leave(-1),
    "large": leave(0x1FF),
    "huge": leave(1 << 70),
    "text": leave("planted text"),
    "bool": leave(True),
    "caught": caught,
    "kept": kept,
    "in thread": in_thread,
    "fails": fail,
    "interrupt": interrupt,
    "terminated": terminate,
    "special": raise_special,
    "slow thread": slow_thread,
    "own handler": own_handler,
    "bad stdout": bad_stdout,
    "open file": open_file,
    "deep": from_deep_inside,
    "in a cycle": leave_and_keep,
    "a global": leave_by_a_global,
    "in a task": leave_in_a_task,
    "instead of 4": leave_instead(4),
    "instead of 0": leave_instead(0),
    "finally": leave_finally,
    "made before": leave_with_an_old_one,
    "files": files_of_frozen_objects,
    "subinterpreter": in_a_subinterpreter(lambda: None),
    "subinterpreter, 4": in_a_subinterpreter(leave(4)),
}

holder = Holder()
holder.before = open(os.path.join(folder, "before"), "w")  # noqa: SIM115
made_before = SystemExit(3)
atexit.register(os.write, 2, b"handler of the parent\n")
if mode != "plain":
    cowfreeze.freeze(threads="refuse")
results = {}
ending = None
for name in ENDS:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(read_end)
        os.close(write_end)
        ending = ENDS[name]
        break
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        text = pipe.read().decode()
    results[name] = (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text)
else:
    print(json.dumps(results), flush=True)
if ending is not None:
    sys.stdout.write("buffered\n")
    if mode == "guard":
        with cowfreeze.fast_exit_guard():
            ending()
    elif mode == "fast":
        try:
            ending()
        except SystemExit as error:
            cowfreeze.fast_exit(error.code)
        cowfreeze.fast_exit()
    else:
        ending()
