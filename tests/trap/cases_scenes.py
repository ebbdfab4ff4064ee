"""Scenes of cowfreeze.trap(), each in a process of its own: cases_scenes.py SCENE,SCENE,... BACKEND.

Prints what they saw as JSON. Assertions inside are about this process (its mappings, its handlers);
what the scene is about is asserted by the tests that run it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import no_perf

import cowfreeze

BACKEND = sys.argv[2]
PAGE = os.sysconf("SC_PAGE_SIZE")
PATTERN = b"cowfreez"
data = [[number] for number in range(20000)]
block = PATTERN * (4 * PAGE // 8)
signal_memory = bytes(64 * PAGE)
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
libc.sigaltstack.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]


def trap(**options: Any) -> cowfreeze.Trap:
    return cowfreeze.trap(backend=BACKEND, **options)


def in_worker(scene: Callable[[], Any]) -> Any:
    """Run SCENE in a forked child, whose pages are shared with this process. Its end is ours."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            made = scene()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        with os.fdopen(write_end, "w") as file:
            json.dump(made, file)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(text) if status == 0 else {"status": status}


def plain(trapped: cowfreeze.Trap) -> dict[str, Any]:
    made = trapped.to_dict()
    made["text"] = str(trapped)
    made["ids"] = {"block": id(block), "item": id(data[12345]), "thread": threading.get_native_id()}
    return made


def read_only_mappings() -> list[str]:
    """Private anonymous memory that cannot be written."""
    with open("/proc/self/maps") as file:
        return [line for line in file if " r--p 00000000 00:00 0" in line]


def caught_signals() -> str:
    with open("/proc/self/status") as file:
        return next(line for line in file if line.startswith("SigCgt"))


def write_block(page: int) -> None:
    """By a C function, into the middle of the frozen block."""
    ctypes.memset(id(block) + page * PAGE + PAGE // 2, 0x41, 8)


def change(number: int) -> None:
    data[number].append(None)  # plant: change


def writes() -> Any:
    before, signals = read_only_mappings(), caught_signals()
    with trap() as trapped:
        change(12345)
        write_block(1)
        during = caught_signals()
    assert read_only_mappings() == before
    assert caught_signals() == signals != during
    return plain(trapped)


def twice() -> Any:
    with trap() as first:
        change(12345)
    with trap() as second:
        write_block(2)
    return {"first": plain(first), "second": plain(second)}


def read_all() -> Any:
    def only_reads() -> int:
        total = 0
        for item in data:
            total += len(item)
        return total

    only_reads()
    with trap() as trapped:
        only_reads()
    return plain(trapped)


def threads() -> Any:
    go, ids = threading.Event(), {}

    def early() -> None:
        ids["early"] = threading.get_native_id()
        go.wait()
        write_block(1)  # plant: early

    def late() -> None:
        ids["late"] = threading.get_native_id()
        write_block(2)  # plant: late

    first = threading.Thread(target=early)
    first.start()
    with trap() as trapped:
        go.set()
        first.join()
        second = threading.Thread(target=late)
        second.start()
        second.join()
    return {**plain(trapped), **ids}


def fork_inside() -> Any:
    signals = caught_signals()
    with trap() as trapped:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write_block(1)
                change(12345)
                trapped.__exit__(None, None, None)
                mine = read_only_mappings()
                if caught_signals() == signals and not any(str(hex(id(block)))[2:8] in m for m in mine):
                    with trap() as inner:  # a trap of its own
                        ctypes.memset(id(block) + 2 * PAGE + 64, 1, 1)
                    status = 0 if inner.pages else 3
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        write_block(3)
    return plain(trapped)


def overflow() -> Any:
    with trap(room=3, owners=False) as trapped:
        for number in range(0, len(data), 100):
            change(number)
    return plain(trapped)


def stops_at_exception() -> Any:
    before = read_only_mappings()
    try:
        with trap() as trapped:
            write_block(1)
            raise KeyError("in the block")
    except KeyError:
        pass
    assert read_only_mappings() == before
    return plain(trapped)


def deep() -> Any:
    names: dict[str, Any] = {"change": write_block}
    source = "def größe_данные(n):\n    return change(1) if n == 0 else größe_данные(n - 1)\n"
    exec(compile(source, "/tmp/ünïcode/файл.py", "exec"), names)
    with trap() as trapped:
        names["größe_данные"](30)
    return plain(trapped)


def fault_in_block() -> Any:
    with trap():
        write_block(1)
        ctypes.string_at(8)  # plant: fault
    return None


def fault_with_faulthandler() -> Any:
    faulthandler.enable()
    return fault_in_block()


def fault_after() -> Any:
    faulthandler.enable()
    with trap():
        write_block(1)
    ctypes.string_at(8)
    return None


class SignalStack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> Any:
    """It lies among frozen objects, as faulthandler's may, which malloc made."""
    ours = SignalStack(id(signal_memory) + PAGE, 0, 48 * PAGE)
    before = SignalStack()
    assert libc.sigaltstack(ctypes.byref(ours), ctypes.byref(before)) == 0
    with trap() as trapped:
        change(12345)
    assert libc.sigaltstack(ctypes.byref(before), None) == 0
    return plain(trapped)


def sent_signal() -> Any:
    with trap():
        write_block(1)
        os.kill(os.getpid(), signal.SIGSEGV)
    return None


def system_call() -> Any:
    """The kernel stores into a frozen page."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"x" * 16)
    with trap() as trapped:
        got = libc.read(read_end, id(block) + PAGE + PAGE // 2, 8)
        error = ctypes.get_errno()
    again = libc.read(read_end, id(block) + PAGE + PAGE // 2, 8)
    return {**plain(trapped), "got": got, "error": error, "again": again}


def blocked() -> Any:
    with trap() as trapped:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP})
        for number in range(0, len(data), 5):
            change(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTRAP})
    return plain(trapped)


def use_mappings_up(leave: int) -> None:
    """Split one mapping into as many as the process may have."""
    with open("/proc/sys/vm/max_map_count") as file:
        most = int(file.read())
    with open("/proc/self/maps") as file:
        used = sum(1 for _ in file)
    wanted = most - used - leave
    area = libc.mmap(None, (wanted + 2) * PAGE, 3, 0x4022, -1, 0)
    for number in range(1, wanted - 1, 2):
        if libc.mprotect(area + number * PAGE, PAGE, 1) != 0:
            break


def no_mappings() -> Any:
    use_mappings_up(14)
    before = read_only_mappings()
    try:
        with trap():
            raise AssertionError("it must not be armed")
    except cowfreeze.CowfreezeError as error:
        text = str(error)
    change(12345)
    write_block(1)
    return {"text": text, "same": read_only_mappings() == before}


def mappings_run_out() -> Any:
    use_mappings_up(900)
    with trap() as trapped:
        use_mappings_up(6)
        for number in range(0, len(data), 150):
            change(number)
        write_block(1)
    return plain(trapped)


def everything() -> Any:
    target = bytearray(8 * PAGE)

    def fill() -> Any:
        with cowfreeze.trap(backend=BACKEND, pages="all") as trapped:
            target[:] = b"y" * len(target)  # plant: fill
        made = plain(trapped)
        made["filled"] = [
            write["line"] for write in made["writes"] if write["old_value"] == 0 and write["field"] == "buffer"
        ]
        return made

    return in_worker(fill)


def already() -> Any:
    texts = []
    with trap():
        try:
            with cowfreeze.trap():
                raise AssertionError("two traps run")
        except cowfreeze.CowfreezeError as error:
            texts.append(str(error))
        write_block(1)
    return texts


def forbidden() -> Any:
    no_perf.forbid()
    with cowfreeze.trap() as trapped:
        write_block(1)
    try:
        with cowfreeze.trap(backend="perf"):
            raise AssertionError("perf is forbidden")
    except cowfreeze.CowfreezeError as error:
        return {**plain(trapped), "error": str(error)}


def main() -> None:
    if sys.argv[1] == "nothing_frozen":
        try:
            with cowfreeze.trap(backend=BACKEND):
                raise AssertionError("there is nothing to watch")
        except cowfreeze.CowfreezeError as error:
            print(json.dumps(str(error)))
        return
    cowfreeze.freeze(data, block, signal_memory)
    made = {}
    for name in sys.argv[1].split(","):
        scene = globals()[name]
        # "everything" forks by itself: what it fills must not be frozen and must be shared.
        made[name] = scene() if scene is everything else in_worker(scene)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
