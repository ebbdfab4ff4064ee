"""What is whose to finish: cases_whose.py plain|frozen CASE FOLDER. With `plain` nothing is frozen.

A parent has things that a freeze leaves, and a worker makes its own. Each says when it is finalised, and where.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
import types
from typing import Any

import cowfreeze
from cowfreeze import _core

mode, case, folder = sys.argv[1:]
where = [b"the parent\n"]


class Tells:
    def __init__(self, name: str) -> None:
        self.text = f"{name} is finalised in ".encode()

    def __del__(self, write: Any = os.write, where: list[bytes] = where) -> None:
        write(1, self.text + where[0])


class Bare:
    """The collector does not know it, and it can have no weak reference."""

    __slots__ = ()
    text = b"a bare object is finalised in "
    __del__ = Tells.__del__


class OwnBare(Bare):
    __slots__ = ()
    text = b"its own bare object is finalised in "


def inherit() -> None:
    """Things of the parent: a file that its finalizer deletes, and objects that tell."""
    module.inherited = [tempfile.NamedTemporaryFile(dir=folder, prefix="temporary"), Tells("an object"), Bare()]


def is_there() -> None:
    print("temporary file:", any(name.startswith("temporary") for name in os.listdir(folder)), flush=True)


def make_own() -> None:
    module.own = Tells("its own object")
    module.elements.add(Tells("its own element"))
    module.values = {"bare": OwnBare(), "told": Tells("its own value")}


def replace() -> None:
    """One after another, where the one before has just died."""
    for i in range(9):
        module.own = Tells(f"its own number {i}")


def be_refused() -> None:
    def callback(phase: str, info: object) -> None:
        gc.callbacks.clear()
        try:
            cowfreeze.freeze(allow_forked=True)
        except cowfreeze.CowfreezeError as error:
            print("refused:", "collector" in str(error))

    gc.callbacks.append(callback)
    gc.collect()


def pack() -> None:
    class Record:
        pass

    record = Record()
    record.values = ["packed"]  # type: ignore[attr-defined]
    print(cowfreeze.pack([record])[0].values)


def run_out_of_memory() -> None:
    """For book-keeping: in the first worker at once, in the next one a little later."""
    make_own()
    _core.fail_allocation(1 + number)


def unshare() -> None:
    """The next child is process 1, as a container's first one is."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


WORK: dict[str, Any] = {
    "as ever": make_own,
    "same pid": lambda: (make_own(), print("inherited:", cowfreeze.status().inherited)),
    "gc.freeze": lambda: (make_own(), gc.freeze()),
    "gc.unfreeze": lambda: (gc.unfreeze(), make_own()),
    "no gc_freeze": make_own,
    "replaced": replace,
    "refused": lambda: (make_own(), be_refused()),
    "pack": lambda: (make_own(), pack()),
    "no memory": run_out_of_memory,
}

if case == "same pid":  # the parent is process 1, and so is its worker
    unshare()
    if (pid := os.fork()) != 0:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
module: Any = types.ModuleType("planted")
sys.modules["planted"] = module
module.elements = set()
if case != "replaced":
    inherit()
else:
    module.own = Tells("an object")
if mode == "frozen":
    cowfreeze.freeze(gc_freeze=case != "no gc_freeze", allow_forked=case == "same pid")
for number in range(8 if case == "no memory" else 1):
    sys.stdout.flush()
    if case == "same pid":
        unshare()
    if os.fork() == 0:
        where[0] = b"a worker\n"
        WORK[case]()
        sys.exit(3)
    print("worker:", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    is_there()
