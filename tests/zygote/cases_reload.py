"""Programs that replace a zygote's data: what is old, what is new, and what is left behind."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import zygote_case

import cowfreeze


def load(stamp: int = 0, number: int = 100) -> dict[str, int]:
    return {f"key {i}": stamp for i in range(number)}


def stamps(data: dict[str, int]) -> list[int]:
    return sorted(set(data.values()))


def generations() -> Any:
    """A pool keeps its generation's data, whichever handle it gets; a new one has the new."""
    with cowfreeze.Zygote(load, 1) as zygote:
        first = zygote.data
        with zygote.context.Pool(2) as old:
            before = old.map(stamps, [first] * 2)
            old_pid = zygote.pid
            report = zygote.reload(2)
            after = old.map(stamps, [first, zygote.data])
            lives = os.path.exists(f"/proc/{old_pid}")
            with zygote.context.Pool(1) as new:
                fresh = new.map(stamps, [first, zygote.data])
            old.close()
            old.join()
        zygote.reload()
        return {
            "before": before, "after": after, "fresh": fresh, "lives": lives, "gone": not os.path.exists(f"/proc/{old_pid}"),
            "generation": (report.generation, zygote.generation), "same arguments": start(zygote, stamps_status),
        }  # fmt: skip


def stamps_status(data: dict[str, int]) -> None:
    sys.exit(stamps(data)[0])


def start(zygote: Any, target: Any) -> Any:
    process = zygote.context.Process(target=target, args=(zygote.data,))
    process.start()
    process.join()
    return process.exitcode


def exit_later(seconds: float, status: int) -> None:
    time.sleep(seconds)
    sys.exit(status)


def last_worker() -> Any:
    """The exit status of the last worker of an old generation arrives, and its process ends with it."""
    found = []
    with cowfreeze.Zygote(load) as zygote:
        for status in (3, 4, 5):
            process = zygote.context.Process(target=exit_later, args=(0.3, status))
            process.start()
            old = zygote.pid
            zygote.reload()
            process.join()
            found.append(process.exitcode)
            deadline = time.monotonic() + 5
            while psutil.pid_exists(old) and time.monotonic() < deadline:
                time.sleep(0.01)
                zygote.context.Process(target=abs, args=(1,)).start()  # also looks after old generations
            found.append(psutil.pid_exists(old))
    return found


def load_or_fail(how: str = "") -> dict[str, str]:
    if how == "raise":
        raise FileNotFoundError(2, "no such table", "table.csv")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "os._exit":
        os._exit(3)
    if how == "exit":
        sys.exit("no data today")
    if how == "hang":
        time.sleep(1000)
    if how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        return {"": " " * (4 << 30)}
    if how == "unpicklable":
        raise Unpicklable("told all the same", lambda: None)
    return {"good": how}


class Unpicklable(Exception):
    pass


def look(data: dict[str, str]) -> None:
    sys.exit(0 if data == {"good": ""} else 1)


def failures() -> Any:
    """Whatever goes wrong, the old generation serves on."""
    found = {}
    with cowfreeze.Zygote(load_or_fail, timeout=2, name="table") as zygote:
        pid = zygote.pid
        for how in ("raise", "kill", "os._exit", "exit", "hang", "memory", "unpicklable"):
            try:
                zygote.reload(how)
            except cowfreeze.ZygoteFailed as error:
                found[how] = (
                    str(error).partition("\n")[0], error.signal, error.status, type(error.__cause__).__name__,
                    "in load_or_fail" in (error.traceback or ""),
                )  # fmt: skip
            found[how] += (zygote.pid == pid, zygote.generation, start(zygote, look))
        zygote.reload()
        found["last"] = (zygote.pid == pid, zygote.generation, start(zygote, look))
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def many(number: int) -> Any:
    """What NUMBER reloads leave: descriptors, processes, files."""
    folder = Path(os.environ["TMPDIR"])
    with cowfreeze.Zygote(load) as zygote:
        start(zygote, stamps)
        zygote.reload()

        def state() -> Any:
            return (
                descriptors(), len(psutil.Process().children(recursive=True)), len(list(folder.rglob("*"))),
                len(threading.enumerate()), len(os.listdir(f"/proc/{zygote.pid}/fd")),
            )  # fmt: skip

        before = state()
        for round_ in range(number):
            zygote.reload(round_)
            if round_ % 10 == 0:
                start(zygote, stamps)
        return before, state(), zygote.generation


def task(data: dict[str, int], number: int) -> tuple[int, list[int]]:
    return number, stamps(data)


def under_load(tasks: int, reloads: int, workers: int) -> Any:
    """A service: threads submit tasks, at least so many and during all reloads; after each the pool is swapped."""
    with cowfreeze.Zygote(load, 1, 1000) as zygote:
        lock = threading.Lock()
        pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=zygote.context)
        answers: list[tuple[int, list[int]]] = []
        errors: list[str] = []
        numbers = itertools.count()
        issued = 0
        done = threading.Event()

        def submit() -> None:
            nonlocal issued
            while True:
                with lock:
                    if issued >= tasks and done.is_set():
                        return
                    number = next(numbers)
                    issued += 1
                    future = pool.submit(task, zygote.data, number)
                try:
                    answers.append(future.result(60))
                except BaseException as error:
                    errors.append(repr(error))

        def replace() -> None:
            nonlocal pool
            for stamp in range(2, reloads + 2):
                zygote.reload(stamp, 1000)
                new = concurrent.futures.ProcessPoolExecutor(workers, mp_context=zygote.context)
                with lock:
                    old, pool = pool, new
                old.shutdown(wait=True)
            done.set()

        threads = [threading.Thread(target=submit) for _ in range(4)]
        replacing = threading.Thread(target=replace)
        for thread in [*threads, replacing]:
            thread.start()
        for thread in threads:
            thread.join()
        replacing.join()
        pool.shutdown()
        return {
            "errors": errors[:3],
            "lost": sorted(set(range(issued)) - {number for number, _ in answers})[:3],
            "twice": len(answers) - len({number for number, _ in answers}),
            "mixed": sum(len(seen) != 1 for _, seen in answers),
            "issued": issued, "generations": len({seen[0] for _, seen in answers}),
        }


def big(number: int) -> dict[str, list[Any]]:
    return {f"key {i}": [i, str(i), {"a": i}] for i in range(number)}


def read(data: dict[str, list[Any]], event: Any) -> None:
    sum(len(item[1]) for item in data.values())
    event.wait()


def tree_pss() -> int:
    """Bytes, of this process and all below it; a process that is ending counts until it is gone."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def memory(number: int, reloads: int) -> Any:
    """PSS of the tree after each reload: with two workers of the new generation, the old ones' ended."""
    figures = []
    with cowfreeze.Zygote(big, number) as zygote:
        old: list[Any] = []
        ended: Any = None
        for round_ in range(reloads):
            if round_:
                zygote.reload()
            event = zygote.context.Event()
            new = [zygote.context.Process(target=read, args=(zygote.data, event)) for _ in range(2)]
            for process in new:
                process.start()
            if ended is not None:
                ended.set()
            for process in old:
                process.join()
            old, ended = new, event
            zygote.report  # noqa: B018
            deadline = time.monotonic() + 20
            while len(psutil.Process().children(recursive=True)) > 4 and time.monotonic() < deadline:
                zygote._reap()
                time.sleep(0.05)  # the tracker, one zygote, two workers
            figures.append(tree_pss())
        ended.set()
        for process in old:
            process.join()
    return figures


if __name__ == "__main__":
    zygote_case.main(globals())
