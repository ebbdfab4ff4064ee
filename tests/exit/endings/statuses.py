"""Statuses, signals, handlers of atexit, threads, loops."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time

from endings.shared import BOTH, ending, say, path, Tells, Special, app, registry, row, made_before


# -- statuses ----------------------------------------------------------------

for status in (None, 0, 3, -1, 0x1FF, 1 << 70, "planted text", True, 3.5, ("a", 1)):
    ending(f"sys.exit({status!r})", roles=BOTH if status == 3 else ("worker",))(functools.partial(sys.exit, status))
ending("falls off")(lambda: None)
ending("os._exit")(functools.partial(os._exit, 7))


@ending("caught")
def _() -> None:
    with contextlib.suppress(SystemExit):
        sys.exit(5)


@ending("kept")
def _() -> None:
    try:
        sys.exit(5)
    except SystemExit as error:
        registry["kept"] = error


@ending("in a thread")
def _() -> None:
    thread = threading.Thread(target=sys.exit, args=(5,))
    thread.start()
    thread.join()


@ending("traceback")
def _() -> None:
    raise ValueError("planted")


@ending("chained traceback")
def _() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


@ending("recursion")
def _() -> None:
    def deeper(n: int) -> None:
        if n == 0:
            raise RecursionError("planted")
        deeper(n - 1)

    deeper(200)


@ending("interrupt")
def _() -> None:
    raise KeyboardInterrupt


@ending("handler of SIGTERM exits")
def _() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


ending("SIGTERM")(lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(10))
ending("SIGKILL")(lambda: os.kill(os.getpid(), signal.SIGKILL) or time.sleep(10))


@ending("subclass")
def _() -> None:
    raise Special


@ending("from deep inside")
def _() -> None:
    def deeper(n: int) -> None:
        if n == 0:
            sys.exit(8)
        deeper(n - 1)

    deeper(100)


@ending("in a cycle")
def _() -> None:
    try:
        sys.exit(3)
    except SystemExit as error:
        saved = error  # noqa: F841
        raise


@ending("a global")
def _() -> None:
    global keep
    keep = SystemExit(3)
    raise keep


@ending("made before")
def _() -> None:
    raise made_before


@ending("instead of another")
def _() -> None:
    try:
        sys.exit(4)
    except SystemExit:
        sys.exit(3)


@ending("finally")
def _() -> None:
    try:
        sys.exit(0)
    finally:
        sys.exit(3)


@ending("own excepthook")
def _() -> None:
    sys.excepthook = lambda kind, error, _: say(f"hook: {kind.__name__} {error}")
    raise ValueError("planted")


@ending("excepthook fails")
def _() -> None:
    def hook(*_: object) -> None:
        raise KeyError("in the hook")

    sys.excepthook = hook
    raise ValueError("planted")


@ending("signal while stdout is flushed")
def _() -> None:
    signal.signal(signal.SIGTERM, lambda *_, exit=sys.exit: exit(9))

    class Out:
        closed = False

        def __init__(self) -> None:
            self.n, self.kill, self.pid, self.signal = 0, os.kill, os.getpid(), signal.SIGTERM

        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            self.n += 1
            if self.n == 1:
                self.kill(self.pid, self.signal)

    sys.stdout = Out()  # type: ignore[assignment]


# -- handlers, threads, loops --------------------------------------------------


@ending("atexit")
def _() -> None:
    for i in range(3):
        atexit.register(say, f"handler {i}")


@ending("atexit raises")
def _() -> None:
    atexit.register(say, "first registered")
    atexit.register(int, "no number")


@ending("atexit exits")
def _() -> None:
    atexit.register(say, "first registered")
    atexit.register(sys.exit, 4)


@ending("atexit forks")
def _() -> None:
    def fork() -> None:
        pid = os.fork()
        if pid:
            say(f"waited: {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")

    registry["tells"] = Tells("in the registry")
    atexit.register(say, "first registered")
    atexit.register(fork)


@ending("atexit writes to a frozen object's file", lambda: (setattr(app, "log", open(path("log"), "w")), atexit.register(lambda: app.log.write("bye\n"))))
def _() -> None:
    app.log.write("hello\n")


@ending("atexit with a thread")
def _() -> None:
    def start() -> None:
        thread = threading.Thread(target=say, args=("in a late thread",))
        thread.start()
        thread.join()

    atexit.register(start)


@ending("slow thread")
def _() -> None:
    threading.Thread(target=lambda: (time.sleep(0.05), say("thread done"))).start()


@ending("daemon thread reads")
def _() -> None:
    threading.Thread(target=os.read, args=(os.pipe()[0], 1), daemon=True).start()
    registry["tells"] = Tells("beside a daemon thread")


@ending("daemon thread works")
def _() -> None:
    def work() -> None:
        mine = Tells("held by a frame")  # noqa: F841
        while True:
            time.sleep(0.001)

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.02)


@ending("daemon thread waits for a full pipe")
def _() -> None:
    def feed() -> None:
        file = os.fdopen(os.pipe()[1], "wb")
        file.write(b"x")
        file.write(b"y" * (1 << 20))

    registry["thread"] = threading.Thread(target=feed, daemon=True)
    registry["thread"].start()
    time.sleep(0.1)


@ending("daemon thread with a few bytes for a full pipe")
def _() -> None:
    ready = threading.Event()

    def feed() -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"x" * 4096)
        os.set_blocking(write_end, True)
        file = os.fdopen(write_end, "wb")
        file.write(b"few bytes")
        ready.set()
        time.sleep(1000)

    threading.Thread(target=feed, daemon=True).start()
    ready.wait()


def start_writer() -> None:
    ready = threading.Event()
    registry["go"] = threading.Event()

    def write() -> None:
        file = open(path("record"), "w")
        file.write("record\n")
        ready.set()
        registry["go"].wait()
        file.close()

    registry["writer"] = threading.Thread(target=write)
    registry["writer"].start()
    ready.wait()


@ending("thread of the parent with a file", start_writer)
def _() -> None:
    registry["go"].set()


@ending("asyncio")
def _() -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.sleep(0))
        say("task done")

    asyncio.run(main())


@ending("exit in a task")
def _() -> None:
    async def task() -> None:
        sys.exit(3)

    async def main() -> None:
        await asyncio.create_task(task())

    asyncio.run(main())


@ending("a loop is left open, with a task")
def _() -> None:
    async def never() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            say("the task's finally")

    async def start() -> None:
        registry["task"] = asyncio.ensure_future(never())
        await asyncio.sleep(0)

    loop = app.loop = asyncio.new_event_loop()  # type: ignore[attr-defined]
    loop.run_until_complete(start())


@ending("an executor is left open")
def _() -> None:
    app.pool = concurrent.futures.ThreadPoolExecutor(2)  # type: ignore[attr-defined]
    app.pool.submit(say, "in the pool")  # type: ignore[attr-defined]


@ending("a process is left", lambda: None, ("worker",))
def _() -> None:
    app.process = subprocess.Popen(["sleep", "0.05"])  # type: ignore[attr-defined]
    app.process.wait()  # type: ignore[attr-defined]


@ending("hooks of forks")
def _() -> None:
    registry["hooked"] = Tells("held by a hook")
    os.register_at_fork(before=functools.partial(registry.get, "hooked"))


@ending("nested forks")
def _() -> None:
    registry["outer"] = Tells("of the outer")
    pid = os.fork()
    if pid == 0:
        row.append(Tells("of the inner"))
        sys.exit(5)
    say(f"waited: {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")
