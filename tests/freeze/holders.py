"""Every place in which the interpreter keeps references of frames, each with a frame that stores one.

A holder stores the frozen object as often as it is told, from a variable of a frame that was there
during the freeze: on 3.14 and later the store adds one to the count without a check if the frame's
reference was not tagged. So the count of the object tells who was forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import threading
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

from helpers.cases import needs


class Box:
    x: Any = None


class Holder:
    """`store(n)` resumes it; it stores its variable n times and waits again."""

    def __init__(self, store: Callable[[int], object], end: Callable[[], object] = lambda: None) -> None:
        self.store = store
        self.end = end


# -- threads ----------------------------------------------------------------


class _Thread:
    """A thread that waits for a number, and says when it is done."""

    def __init__(self, target: Callable[[_Thread], None]) -> None:
        self._todo, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._n = 0
        self._thread = threading.Thread(target=target, args=(self,))
        self._thread.start()
        self._done.acquire()

    def wait(self) -> int:
        """Called by the thread: how many stores are wanted."""
        self._done.release()
        self._todo.acquire()
        return self._n

    def holder(self) -> Holder:
        return Holder(self._store, self._end)

    def _store(self, n: int) -> None:
        self._n = n
        self._todo.release()
        self._done.acquire()

    def _end(self) -> None:
        self._n = -1
        self._todo.release()
        self._thread.join()


def _thread(data: Any) -> Holder:
    def run(me: _Thread, mine: Any = None) -> None:
        mine = data
        box = Box()
        while (n := me.wait()) >= 0:
            for _ in range(n):
                box.x = mine

    return _Thread(run).holder()


def _deep_in_a_thread(data: Any) -> Holder:
    def run(me: _Thread) -> None:
        def deeper(level: int, mine: Any) -> int:
            box = Box()
            n = deeper(level - 1, [mine][0]) if level else me.wait()
            while n >= 0:
                for _ in range(n):
                    box.x = mine
                n = me.wait()
            return n

        deeper(50, data)

    return _Thread(run).holder()


def _through_c_code_in_a_thread(data: Any) -> Holder:
    """The eval loop is entered again: by sorted(), by ctypes."""

    def run(me: _Thread) -> None:
        def key(mine: Any) -> int:
            box = Box()
            while (n := me.wait()) >= 0:
                for _ in range(n):
                    box.x = mine
            return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object)(key)
        sorted([data], key=callback)

    return _Thread(run).holder()


def _generator_that_runs_in_a_thread(data: Any) -> Holder:
    def run(me: _Thread) -> None:
        def generate(mine: Any) -> Iterator[int]:
            box = Box()
            while (n := me.wait()) >= 0:
                for _ in range(n):
                    box.x = mine
            yield 0

        list(generate(data))

    return _Thread(run).holder()


def _thread_of_c_code(data: Any) -> Holder:
    """A thread that Python did not start: its state is made by PyGILState_Ensure."""
    todo, done = threading.Semaphore(0), threading.Semaphore(0)
    n = 0

    def run(_: Any) -> int:
        mine = data
        box = Box()
        while n >= 0:
            for _ in range(n):
                box.x = mine
            done.release()
            todo.acquire()
        done.release()
        return 0

    function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(run)
    thread = ctypes.c_ulong()
    assert ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, function, None) == 0
    done.acquire()

    def store(count: int) -> None:
        nonlocal n
        n = count
        todo.release()
        done.acquire()

    def end() -> None:
        store(-1)
        ctypes.CDLL(None).pthread_join(thread, None)
        assert function is not None

    return Holder(store, end)


# -- generators -------------------------------------------------------------


def _generate(mine: Any) -> Generator[None, int, None]:
    box = Box()
    while True:
        n = yield
        for _ in range(n):
            box.x = mine


def _sent(generator: Any, keep: Any = None) -> Holder:
    generator.send(None)
    return Holder(lambda n: generator.send(n), lambda: keep)


def _generator(data: Any) -> Holder:
    return _sent(_generate(data))


def _delegated(data: Any) -> Holder:
    def outer(mine: Any) -> Generator[None, int, None]:
        yield from _generate([mine][0])

    return _sent(outer(data))


def _coroutine(data: Any) -> Holder:
    async def wait(mine: Any) -> None:
        await types.coroutine(_generate)(mine)  # type: ignore[misc]

    async def outer(mine: Any) -> None:
        box = Box()
        box.x = mine
        await wait(mine)

    return _sent(outer(data))


def _in_a_variable_of_a_frame(data: Any) -> Holder:
    """Nothing but another suspended frame refers to the generator."""

    def outer(mine: Any) -> Generator[None, int, None]:
        inner = _generate(mine)
        inner.send(None)
        del mine
        while True:
            inner.send((yield))

    return _sent(outer(data))


def _put_away(data: Any) -> Holder:
    """gc.freeze() hides a generator from the collector, and from who asks it."""
    holder = _generator(data)
    gc.freeze()
    return holder


def _async_generator(data: Any) -> Holder:
    async def generate(mine: Any) -> AsyncIterator[None]:
        box = Box()
        n = 0
        while True:
            for _ in range(n):
                box.x = mine
            n = yield  # type: ignore[misc]

    suspended = generate(data)

    def send(n: int | None) -> None:
        with contextlib.suppress(StopIteration):
            suspended.asend(n).send(None)  # type: ignore[attr-defined]

    send(None)
    return Holder(send)


def _task(data: Any) -> Holder:
    """A task of asyncio that waits; the coroutine is held by C code."""
    loop = asyncio.new_event_loop()
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def run(mine: Any) -> None:
        box = Box()
        while (n := await queue.get()) >= 0:
            for _ in range(n):
                box.x = mine

    task = loop.create_task(run(data))
    step = asyncio.sleep
    loop.run_until_complete(step(0))

    def store(n: int) -> None:
        queue.put_nowait(n)
        loop.run_until_complete(step(0.001))

    def end() -> None:
        queue.put_nowait(-1)
        loop.run_until_complete(task)
        loop.close()

    return Holder(store, end)


# -- greenlets --------------------------------------------------------------


def greenlets() -> Any:
    try:
        import greenlet
    except ImportError:
        needs(False, "greenlet is not installed")
    return greenlet


def _serve(mine: Any) -> None:
    box = Box()
    current = greenlets().getcurrent()
    while True:
        n = current.parent.switch()
        for _ in range(n):
            box.x = mine


def _greenlet(data: Any) -> Holder:
    waiting = greenlets().greenlet(_serve)
    waiting.switch(data)
    return Holder(waiting.switch, lambda: waiting.throw())


def _subclass_of_greenlet(data: Any) -> Holder:
    class Mine(greenlets().greenlet):  # type: ignore[misc]
        gr_frame = "hidden"

    waiting = Mine(_serve)
    waiting.switch(data)
    return Holder(waiting.switch, lambda: waiting.throw())


def _deep_in_a_greenlet(data: Any) -> Holder:
    """Between its frames lie C frames, whose memory other greenlets use meanwhile."""

    def run(mine: Any) -> None:
        def key(inner: Any) -> int:
            next(generate(inner))
            return 0

        def generate(inner: Any) -> Iterator[int]:
            _serve(inner)
            yield 0

        box = Box()
        box.x = mine
        sorted([mine], key=key)

    waiting = greenlets().greenlet(run)
    waiting.switch(data)
    return Holder(waiting.switch, lambda: waiting.throw())


def _greenlet_of_another_thread(data: Any) -> Holder:
    def run(me: _Thread) -> None:
        waiting = greenlets().greenlet(_serve)
        waiting.switch(data)
        while (n := me.wait()) >= 0:
            waiting.switch(n)
        waiting.throw()

    return _Thread(run).holder()


def _frame_below_a_greenlet_of_another_thread(data: Any) -> Holder:
    """The thread runs a greenlet; its main one, which holds the variable, is suspended."""

    def run(me: _Thread) -> None:
        mine = data
        box = Box()

        def wait() -> None:
            while True:
                current.parent.switch(me.wait())

        current = greenlets().greenlet(wait)
        while (n := current.switch()) >= 0:
            for _ in range(n):
                box.x = mine
        current.throw()

    return _Thread(run).holder()


HOLDERS: dict[str, Callable[[Any], Holder]] = {
    maker.__name__.strip("_").replace("_", " "): maker
    for maker in (
        _thread,
        _deep_in_a_thread,
        _through_c_code_in_a_thread,
        _generator_that_runs_in_a_thread,
        _thread_of_c_code,
        _generator,
        _delegated,
        _coroutine,
        _in_a_variable_of_a_frame,
        _put_away,
        _async_generator,
        _task,
        _greenlet,
        _subclass_of_greenlet,
        _deep_in_a_greenlet,
        _greenlet_of_another_thread,
        _frame_below_a_greenlet_of_another_thread,
    )
}
