"""Programs that use a zygote's context in every way that multiprocessing's fork server is used."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import time
from typing import Any

import zygote_case

import cowfreeze


def load(number: int = 1000) -> dict[str, int]:
    return {f"key {i}": i for i in range(number)}


class Reader:
    """Holds the data as an attribute, as a Dataset does."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __call__(self, key: str) -> tuple[int, bool]:
        return self.data[key], cowfreeze.is_frozen(self.data)


def look_up(data: dict[str, int], key: str) -> int:
    return data[key]


def everywhere() -> Any:
    """The data as an argument, in an attribute, inside containers, in an initializer, beside itself."""
    with cowfreeze.Zygote(load, 1000) as zygote:
        with zygote.context.Pool(2, initializer=remember, initargs=(zygote.data,)) as pool:
            return {
                "argument": pool.starmap(look_up, [(zygote.data, f"key {i}") for i in range(20)]) == [*range(20)],
                "attribute": pool.map(Reader(zygote.data), ["key 7"]),
                "container": pool.apply(nested, ([{"a": (zygote.data,)}, zygote.data],)),
                "initializer": pool.map(remembered, ["key 3"]),
            }


def nested(box: Any) -> bool:
    return box[0]["a"][0] is box[1] and isinstance(box[1], dict)


kept: Any = None


def remember(data: Any) -> None:
    global kept
    kept = data


def remembered(key: str) -> int:
    return int(kept[key])


def handle() -> Any:
    import copy
    import pickle

    with cowfreeze.Zygote(load, 1000, name="words") as zygote:
        data = zygote.data
        here = copy.deepcopy(data)
        before = (len(data), data.type_name, repr(data))
        zygote.reload(5)
        return {
            "bytes": len(pickle.dumps(data)), "before": before, "after": len(data), "copied": type(here).__name__,
            "context": pickle.loads(pickle.dumps(zygote.context)) is zygote.context,
        }  # fmt: skip


def no_length() -> Any:
    with cowfreeze.Zygote(complex, 1, 2) as zygote:
        try:
            return len(zygote.data)
        except TypeError as error:
            return str(error), bool(zygote.data), zygote.data.type_name


def exit_with(how: Any) -> None:
    if how == "raise":
        raise KeyError("in a worker")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "os._exit":
        os._exit(9)
    sys.exit(how)


def exit_codes() -> Any:
    with cowfreeze.Zygote(load) as zygote:
        found = []
        for how in (None, 3, "text", "raise", "kill", "os._exit"):
            process = zygote.context.Process(target=exit_with, args=(how,))
            process.start()
            process.join()
            found.append(process.exitcode)
        stopped = zygote.context.Process(target=time.sleep, args=(100,))
        stopped.start()
        alive = stopped.is_alive(), stopped.exitcode
        stopped.terminate()
        stopped.join()
        return found, alive, stopped.exitcode


def fail(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def executor() -> Any:
    """Results, exceptions with their remote traceback, initializers, workers that are renewed, a broken pool."""
    with cowfreeze.Zygote(load) as zygote:
        options: dict[str, Any] = {"mp_context": zygote.context, "initializer": remember, "initargs": (zygote.data,)}
        if sys.version_info >= (3, 11):
            options["max_tasks_per_child"] = 2
        # One task after the other: two workers that are renewed can wait for ever (gh-115634).
        with concurrent.futures.ProcessPoolExecutor(1, **options) as pool:
            values = [pool.submit(remembered, f"key {i}").result() for i in range(10)]
            error = pool.submit(fail, 3).exception()
        assert error is not None
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=zygote.context) as pool:
            broken = pool.submit(exit_with, "os._exit").exception()
        return values, repr(error), "fail" in str(error.__cause__), type(broken).__name__


def add(queue: Any, lock: Any, shared: Any, event: Any) -> None:
    event.wait()
    with lock:
        shared.value += 1
    queue.put(os.getpid())


def primitives() -> Any:
    with cowfreeze.Zygote(load) as zygote:
        context = zygote.context
        queue, lock, shared, event = context.Queue(), context.Lock(), context.Value("i", 0), context.Event()
        processes = [context.Process(target=add, args=(queue, lock, shared, event)) for _ in range(3)]
        for process in processes:
            process.start()
        event.set()
        pids = {queue.get(timeout=20) for _ in processes}
        for process in processes:
            process.join()
        with context.Manager() as manager:
            table = manager.dict()
            process = context.Process(target=put, args=(table, "key", "value"))
            process.start()
            process.join()
            kept = dict(table)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=sender_of, args=(sender,))
        process.start()
        sender.close()
        received = receiver.recv()
        process.join()
        return len(pids), shared.value, kept, received


def put(table: Any, key: str, value: str) -> None:
    table[key] = value


def sender_of(sender: Any) -> None:
    sender.send("through a pipe")


def daemon_state(queue: Any) -> None:
    import multiprocessing

    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    assert parent is not None
    queue.put((process.name, process.daemon, parent.is_alive(), parent.pid))


def identity() -> Any:
    with cowfreeze.Zygote(load) as zygote:
        queue = zygote.context.Queue()
        process = zygote.context.Process(target=daemon_state, args=(queue,), name="reader", daemon=True)
        process.start()
        name, daemon, alive, parent = queue.get(timeout=20)
        process.join()
        return name, daemon, alive, parent == os.getpid(), process.exitcode


def inner(context: Any, data: Any, queue: Any) -> None:
    """In a worker: a pool of the same generation, and one of the default fork server."""
    import multiprocessing

    with context.Pool(2) as pool:
        first = pool.map(double, [1, 2, 3])
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        second = pool.map(double, [4])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        third = executor.submit(double, 5).result()
    queue.put((first, second, third, len(data)))


def double(number: int) -> int:
    return 2 * number


def nesting() -> Any:
    with cowfreeze.Zygote(load) as zygote:
        queue = zygote.context.Queue()
        process = zygote.context.Process(target=inner, args=(zygote.context, zygote.data, queue))
        process.start()
        result = queue.get(timeout=40)
        process.join()
        return result, process.exitcode


def foreign(data: Any, queue: Any) -> None:
    queue.put(len(data))


def elsewhere() -> Any:
    """The handle in a process that another zygote, or nobody's, forked."""
    import multiprocessing
    import pickle

    with cowfreeze.Zygote(load, 3) as one, cowfreeze.Zygote(load, 4) as other:
        found = []
        for context in (one.context, other.context, multiprocessing.get_context("spawn")):
            queue: Any = context.Queue()
            process = context.Process(target=foreign, args=(one.data, queue))
            process.start()
            process.join()
            found.append((process.exitcode, queue.get(timeout=5) if process.exitcode == 0 else None))
        pickled = pickle.dumps(one.data)
    return found, pickle.loads(pickled) is not None


def threads_start() -> Any:
    """Many threads start processes at once."""
    with cowfreeze.Zygote(load) as zygote:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            return sorted(threads.map(lambda number: start_one(zygote, number), range(24))) == [*range(24)]


def start_one(zygote: Any, number: int) -> int:
    process = zygote.context.Process(target=sys.exit, args=(number,))
    process.start()
    process.join()
    return int(process.exitcode)


def forked_parent() -> Any:
    """A plain fork of the program uses the zygote, and its end does not end it."""
    with cowfreeze.Zygote(load) as zygote:
        pid = os.fork()
        if pid == 0:
            os._exit(start_one(zygote, 5))
        _, status = os.waitpid(pid, 0)
        child = os.waitstatus_to_exitcode(status)
        pid = os.fork()
        if pid == 0:
            zygote.close()
            os._exit(0)
        os.waitpid(pid, 0)
        # A fork that stays holds what it inherited, and yet the old process ends.
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        old = zygote.pid
        zygote.reload()
        gone = not os.path.exists(f"/proc/{old}")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return child, start_one(zygote, 6), gone


if __name__ == "__main__":
    zygote_case.main(globals())
