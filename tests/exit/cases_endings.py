"""Programs that end in every way a program can end, once as they are and once with a frozen heap.

    cases_endings.py MODE FOLDER [NAMES [LIBRARY]]     MODE: plain, data, heap or code; NAMES with | between them

Each ending runs twice: in the process that froze ("parent") and in a worker forked from it ("worker").
Its child leaves the loop and runs to the end of this script, as under a process manager, so that all of
CPython's finalisation follows. Prints JSON: per ending and role the wait status, stdout, stderr and the
files that were written.

`before` of an ending runs before the freeze, in the process that freezes; `end` is the end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import cowfreeze
from endings import held, shared, statuses  # noqa: F401
from endings import streams as _streams  # noqa: F401
from endings.shared import ENDINGS, app, data, path, queue, registry, row, slots

mode, folder = sys.argv[1:3]
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads


with open(os.path.join(folder, "this_is_younger.py"), "w") as file:
    file.write("def function(): pass\nthing = None\n")
sys.path.append(folder)
registry.clear()
names = sys.argv[3].split("|") if len(sys.argv) > 3 and sys.argv[3] else list(ENDINGS)


def freeze() -> None:
    if mode == "plain":
        gc.collect()  # as a freeze does: in which generation an object lies decides on the order of finalizers
    elif mode == "data":
        cowfreeze.freeze(data, app, registry, row, queue, slots, threads="allow", allow_forked=True)
    elif mode == "heap":
        cowfreeze.freeze(threads="allow", allow_forked=True)
    elif mode == "code":
        cowfreeze.freeze(threads="allow", allow_forked=True, relocate_code=True, warmup=functools.partial(json.dumps, [1]))


def read_all(streams: list[int]) -> list[str]:
    texts = []
    for stream in streams:
        os.lseek(stream, 0, os.SEEK_SET)
        with open(stream, "rb") as file:
            texts.append(file.read().decode(errors="replace"))
    return texts


def wait(pid: int) -> int | str:
    """A child that hangs is an answer, too."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


def content(name: str) -> str:
    """A database of Berkeley DB has a number of its own in its head; what matters is that the value is there."""
    if name.startswith("temporary"):
        return "is there"
    with open(path(name), "rb") as file:
        data = file.read()
    if not name.startswith("shelf"):
        return data.hex()
    complete = b"K\x01." in data  # the pickle of 1
    return f"{len(data)} bytes, with the value: {complete}"


def begin(name: str, role: str, report: int) -> Callable[[], object] | None:
    """In a child: what is left to do at the end of this script; None: another process has done it."""
    chosen = ENDINGS[name]
    chosen.before()
    freeze()
    if role == "parent":
        return chosen.end
    pid = os.fork()
    if pid == 0:
        return chosen.end
    os.write(report, json.dumps(wait(pid)).encode())
    if "go" in registry:
        registry["go"].set()
        registry["writer"].join()
    return None


gc.set_threshold(100_000)  # no collection but those that are asked for
results: dict[str, Any] = {}
last = None
for name, role in [(name, role) for name in names for role in ENDINGS[name].roles]:
    shared.place = os.path.join(folder, f"{len(results)}")
    os.mkdir(shared.place)
    streams = [os.open(path(f".{i}"), os.O_RDWR | os.O_CREAT | os.O_APPEND) for i in range(2)]
    report = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(report[0])
        for stream, target in zip(streams, (1, 2)):
            os.dup2(stream, target)
            os.close(stream)
        atexit.register(os.write, 1, b"handler of the parent\n")
        last = begin(name, role, report[1])
        if last is None:
            os._exit(0)
        os.close(report[1])
        break
    os.close(report[1])
    status = wait(pid)
    with open(report[0]) as pipe:
        found = pipe.read()
    files = {one: content(one) for one in sorted(os.listdir(shared.place)) if not one.startswith(".")}
    out, err = read_all(streams)
    results[f"{name} / {role}"] = [json.loads(found) if role == "worker" and found else status, out, err, files]
else:
    print(json.dumps(results))
if last is not None:
    del results, pid, report, streams, name, role, begin, wait, freeze, read_all
    last()
