"""Fails the n-th call of the C library in a process of its own, and looks at what is left.

    this process          armed for n                       disarmed
    imports, warms up --- fork --> child: operation ----->  what is left? once more, without a fault
                          fork --> child (n + 1) ...

A child is forked for each n, because freezing cannot be undone. It sends one line of JSON: how the
operation ended, whether a call failed at all, and what it left behind. The driver ends with the
first n at which none failed.

Run as ``faults.py OPERATION KINDS WHOSE FIRST LAST STEP`` under LD_PRELOAD of shim.c.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import cowfreeze
from cowfreeze import _core

KINDS = ("malloc", "mmap", "fork", "pipe", "open", "read", "memfd", "fcntl", "syscall", "mprotect", "ioctl")
WALL = 0x40000000  # __WALL: children of clone() too, such as a witness
LABEL = "/memfd:cowfreeze frozen="  # the one mapping that every freeze replaces (csrc/proc/label.c)
SECONDS = 30  # one operation that takes longer hangs

shim = ctypes.CDLL(None)
for name in ("fault_hits", "fault_kind", "fault_calls"):
    getattr(shim, name).restype = ctypes.c_long
shim.fault_arm.argtypes = [ctypes.c_uint, ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t]


def code_of_extension() -> tuple[int, int]:
    """Where the machine code of cowfreeze._core lies."""
    ranges = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith(os.path.realpath(_core.__file__)):
                low, high = line.split()[0].split("-")
                ranges.append((int(low, 16), int(high, 16)))
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def descriptors() -> list[str]:
    """What the descriptors are, without the numbers of inodes and the listing's own."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{number} {os.readlink('/proc/self/fd/' + number)}")
        except OSError:
            continue
    return sorted(found)


def mappings() -> list[str]:
    """All mappings but the label, libraries and private anonymous ones, which malloc and pymalloc keep as
    they like. Neighbours that are one thing count as one: advice about huge pages, which a freeze on
    3.15 gives for whole regions, splits what lies in between."""
    found: list[tuple[str, str, str]] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            name = fields[5] if len(fields) > 5 else ""
            if LABEL in line or name.startswith("[") or ".so" in name or (name == "" and fields[1].endswith("p")):
                continue
            start, end = fields[0].split("-")
            what = f"{fields[1]} {name}"
            if found and found[-1][1:] == (start, what):
                start = found.pop()[0]
            found.append((start, end, what))
    return [f"{start}-{end} {what}" for start, end, what in found]


def labels() -> int:
    with open("/proc/self/maps") as maps:
        return sum(LABEL in line for line in maps)


def signals() -> list[str]:
    with open("/proc/self/status") as status:
        return [line.strip() for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]


def children() -> str:
    try:
        return f"child {os.waitpid(-1, os.WNOHANG | WALL)}"
    except ChildProcessError:
        return ""


def all_end() -> bool:
    """Wait for the children that nobody knows; do they end?"""
    deadline = time.monotonic() + SECONDS / 3
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG | WALL)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return True
    return False


def state() -> dict[str, Any]:
    return {
        "descriptors": descriptors(),
        "mappings": mappings(),
        "labels": labels(),
        "signals": signals(),
        "children": children(),
        "bookkeeping": _core.bookkeeping_bytes(),
        "collector": gc.isenabled(),
        "trap": _core.trap_is_armed(),
    }


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in before.items():
        if value == after[key]:
            continue
        if isinstance(value, list):
            found[key] = [f"- {e}" for e in value if e not in after[key]]
            found[key] += [f"+ {e}" for e in after[key] if e not in value]
        else:
            found[key] = [str(value), str(after[key])]
    return found


class Operation:
    """One operation under test. ``run`` is armed; ``check`` is not.

    check(outcome, value) returns what is wrong: OUTCOME is "returned" or the exception's name.
    kept: keys of state() that a success may change (a packed arena is a mapping).
    """

    def __init__(
        self,
        run: Callable[[], Any],
        check: Callable[[str, Any], str],
        kept: tuple[str, ...] = (),
    ) -> None:
        self.run, self.check, self.kept = run, check, kept


# What an operation may raise when the machine refuses something.
CLEAN = (cowfreeze.CowfreezeError, OSError, MemoryError)


def attempt(operation: Operation, kinds: int, n: int, whose: str) -> dict[str, Any]:
    modules = set(sys.modules)
    low, high = code_of_extension() if whose == "core" else (0, 0)
    before = state()
    value: Any = None
    outcome = "returned"
    failure: BaseException | None = None
    shim.fault_arm(kinds, n, int(whose == "forever"), low, high)
    try:
        value = operation.run()
    except BaseException as error:
        failure = error
    shim.fault_disarm()
    answer: dict[str, Any] = {"n": n, "hits": shim.fault_hits(), "kind": shim.fault_kind()}
    problems = []
    if failure is not None:
        outcome = type(failure).__name__
        # CPython's word for a lock without memory is a RuntimeError.
        if not isinstance(failure, CLEAN) and "lock" not in str(failure):
            problems.append("".join(traceback.format_exception(type(failure), failure, failure.__traceback__))[-1500:])
        failure = None  # and with it the frames of the operation
    wrong = operation.check(outcome, value)
    if wrong:
        problems.append(wrong)
    value = None
    gc.collect()
    after = state()
    left = difference(before, after)
    if after["labels"] > 1:
        problems.append(f"{after['labels']} labels, where each freeze replaces the one before")
    if outcome == "returned":
        for key in operation.kept:
            left.pop(key, None)
    elif left.pop("bookkeeping", None) and after["bookkeeping"] > before["bookkeeping"]:
        # Room that is kept for the next time is fine; it must not grow with every failure. Once the
        # operation succeeds, because it makes fewer calls by now, what it keeps is no failure's.
        sizes = [after["bookkeeping"]]
        for _ in range(6):
            shim.fault_arm(kinds, n, int(whose == "forever"), low, high)
            try:
                operation.run()
            except BaseException:
                shim.fault_disarm()
                sizes.append(_core.bookkeeping_bytes())
            else:
                shim.fault_disarm()
                if "bookkeeping" in operation.kept:
                    break
                sizes.append(_core.bookkeeping_bytes())
        if len(sizes) > 2 and sizes[-1] > sizes[-3]:
            left["bookkeeping"] = [str(size) for size in sizes]
    if whose == "forever" and outcome == "MemoryError" and left.get("children", [""])[0] == "" and all_end():
        # os.fork() forks first, and has no memory for the number of the child afterwards: nobody
        # knows which child to wait for. That it ends is all that can be asked for.
        left.pop("children", None)
    if left:
        problems.append(f"left behind: {left}")
    answer["outcome"] = outcome
    try:
        wrong = operation.check("returned", operation.run())
    except BaseException as error:
        wrong = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-1500:]
    if wrong:
        problems.append(f"once more, without a fault: {wrong}")
    answer["problems"] = problems
    answer["modules"] = sorted(set(sys.modules) - modules)
    return answer


def in_child(operation: Operation, kinds: int, n: int, whose: str) -> dict[str, Any]:
    """attempt() in a forked process; a crash or a process that hangs is a problem too."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            os.close(read_end)
            os.write(write_end, json.dumps(attempt(operation, kinds, n, whose)).encode() + b"\n")
            status = 0
        except BaseException:
            shim.fault_disarm()
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    data = b""
    deadline = time.monotonic() + SECONDS
    while not data.endswith(b"\n"):
        if not select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.killpg(pid, signal.SIGABRT)  # faulthandler says where it hangs
            break
        more = os.read(read_end, 65536)
        if not more:
            break
        data += more
    os.close(read_end)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if not data.endswith(b"\n") or code != 0:
        problem = f"ended with status {code}"
        return {"n": n, "hits": 1, "kind": shim.fault_kind(), "outcome": problem, "problems": [problem], "modules": []}
    answer: dict[str, Any] = json.loads(data)
    return answer


def main() -> None:
    from operations import OPERATIONS  # which imports this file

    faulthandler.enable()
    name, kinds, whose, first, last, step = sys.argv[1:7]
    mask = sum(1 << KINDS.index(kind) for kind in kinds.split(","))
    if shim.fault_init() < 0:
        raise SystemExit("no shared page for the shim")
    operation = OPERATIONS[name]()
    # What an operation imports late is imported here, or each child would.
    warm = in_child(operation, 0, 1, whose)
    for module in warm["modules"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    operation = OPERATIONS[name]()
    outcomes: dict[str, int] = {}
    problems = [f"without a fault: {problem}" for problem in warm["problems"]]
    n, tried, untouched = int(first), 0, False
    while n <= int(last) and not problems[5:]:
        answer = in_child(operation, mask, n, whose)
        if answer["hits"] == 0:
            untouched = True
        else:
            tried += 1
        outcomes[answer["outcome"]] = outcomes.get(answer["outcome"], 0) + 1
        kind = KINDS[answer["kind"]] if answer["kind"] >= 0 else "?"
        problems += [f"call {n} ({kind}), {answer['outcome']}: {problem}" for problem in answer["problems"]]
        if untouched:
            break
        n += int(step)
    print(json.dumps({"tried": tried, "untouched": untouched, "outcomes": outcomes, "problems": problems}))


if __name__ == "__main__":
    main()
