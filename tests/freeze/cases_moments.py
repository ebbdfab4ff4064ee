"""freeze() at moments that are not the end of a boot: inside of the collector, of handlers, of finalizers."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import cowfreeze
from helpers.cases import is_marked
from freeze.zoo import text


class Node:
    """Dies in a cycle only."""

    def __init__(self) -> None:
        self.me = self


def _freeze(answers: list[str], *roots: Any) -> None:
    try:
        cowfreeze.freeze(*roots, threads="allow", collect=len(answers) % 2 == 0)
        answers.append("frozen")
    except cowfreeze.CowfreezeError as error:
        assert "collector is running" in str(error)
        answers.append("refused")


def weak_callbacks(freeze: bool) -> dict[str, Any]:
    """A freeze in the callback of a weak reference, while others are still to be called."""
    table: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
    keep, answers = [], []  # type: ignore[var-annotated]

    def called(_: Any) -> None:
        if freeze and len(answers) < 2:
            _freeze(answers)

    gc.disable()
    for n in range(200):
        node = Node()
        keep.append(weakref.ref(node, called))
        table[n] = node
    del node
    gc.collect()
    return {"stale": len(table.data), "answers": answers}


def weak_callbacks_without_a_collection(whole: bool) -> dict[str, Any]:
    """The same where the last reference goes: the collector is not running, and nothing is refused.

    An object has three weak references with callbacks, and the second callback freezes.
    """
    table: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    answers: list[str] = []
    called: list[int] = []

    class Plain:
        pass

    def callback(_: Any) -> None:
        called.append(1)
        if len(called) == 2:
            _freeze(answers, *([] if whole else [[text()]]))

    node = table[1] = Plain()
    keep = [weakref.ref(node, callback) for _ in range(3)]
    del node
    return {"stale": len(table.data), "called": len(called), "answers": answers, "kept": len(keep)}


def _in_gc_callback(phase: str) -> Callable[[list[str], Any], None]:
    def run(answers: list[str], data: Any) -> None:
        def callback(now: str, _: Any) -> None:
            if now == phase and not answers:
                _freeze(answers, data)

        gc.callbacks.append(callback)
        gc.collect()
        gc.callbacks.remove(callback)

    return run


def _in_a_finalizer_of_garbage(answers: list[str], data: Any) -> None:
    class Dying(Node):
        def __del__(self) -> None:
            _freeze(answers, data)

    Dying()
    gc.collect()


def _in_a_finalizer(answers: list[str], data: Any) -> None:
    class Dying:
        def __del__(self) -> None:
            _freeze(answers, data)

    Dying()


def _in_a_finalizer_of_a_container(answers: list[str], data: Any) -> None:
    """What holds the dying object is being taken apart."""

    class Dying:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __del__(self) -> None:
            if not answers:
                _freeze(answers)

    deep: Any = Dying([[n] for n in range(100)])
    for _ in range(500):  # deep enough for objects to be put aside until later
        deep = [{"x": (deep, [1])}]
    del deep
    assert is_marked(data)


def _in_a_signal_handler(answers: list[str], data: Any) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: _freeze(answers, data))
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(10_000):
        pass
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def _in_a_trace_function(answers: list[str], data: Any) -> None:
    def trace(*_: Any) -> None:
        sys.settrace(None)
        _freeze(answers, data)

    sys.settrace(trace)
    (lambda: None)()


def _in_a_sort(answers: list[str], data: Any) -> None:
    """The list is empty meanwhile: its items are with sort()."""
    items = [[n] for n in range(100, 0, -1)]

    def key(item: list[int]) -> int:
        if item == [50]:
            _freeze(answers)
        return item[0]

    items.sort(key=key)
    assert [item[0] for item in items] == list(range(1, 101))


def _in_a_comparison(answers: list[str], data: Any) -> None:
    """A dict is being looked up."""

    class Key:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if not answers:
                _freeze(answers)
            return isinstance(other, Key) and other.name == self.name

    table = {Key("a"): 1}
    table[Key("b")] = 2
    table[Key("a")] = 3
    assert sorted(table.values()) == [2, 3]


def _in_an_import(answers: list[str], data: Any) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "planted_name" and not answers:
                _freeze(answers)

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    try:
        import planted_name  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        pass
    import colorsys

    assert colorsys.rgb_to_hsv(1, 1, 1)


MOMENTS: dict[str, Callable[[list[str], Any], None]] = {
    "gc callback, start": _in_gc_callback("start"),
    "gc callback, stop": _in_gc_callback("stop"),
    "finalizer of garbage": _in_a_finalizer_of_garbage,
    "finalizer": _in_a_finalizer,
    "finalizer of a container": _in_a_finalizer_of_a_container,
    "signal handler": _in_a_signal_handler,
    "trace function": _in_a_trace_function,
    "sort": _in_a_sort,
    "comparison": _in_a_comparison,
    "import": _in_an_import,
}


def moment(label: str) -> dict[str, Any]:
    """What a freeze in MOMENT answered, and whether it froze; then the heap is used and collected."""
    data = [text()]
    answers: list[str] = []
    MOMENTS[label](answers, data)
    marked = is_marked(data)
    gc.collect()
    cowfreeze.freeze(data)
    gc.collect()
    return {"answers": answers, "marked": marked, "afterwards": is_marked(data)}


def at_exit() -> list[str]:
    """A freeze in an atexit handler; what is registered before and after it runs all the same."""
    answers: list[str] = []
    data = [text()]
    atexit.register(lambda: os._exit(0 if answers == ["frozen", "second"] and is_marked(data) else 9))
    atexit.register(lambda: answers.append("second"))
    atexit.register(lambda: _freeze(answers, data))
    return []


def at_exit_and_on(whole: bool) -> None:
    """The same, and the interpreter ends in the ordinary way."""
    data = [text()]
    atexit.register(lambda: cowfreeze.freeze(*([] if whole else [data])))


def half_way_through_a_thread() -> dict[str, Any]:
    """Another thread is in a finalizer that the collector has called."""
    import threading

    inside, go = threading.Event(), threading.Event()
    answers: list[str] = []

    class Dying(Node):
        def __del__(self) -> None:
            inside.set()
            go.wait()

    def run() -> None:
        Dying()
        gc.collect()

    thread = threading.Thread(target=run)
    thread.start()
    inside.wait()
    _freeze(answers, [text()])
    go.set()
    thread.join()
    _freeze(answers, [text()])
    return {"answers": answers}


# -- sub-interpreters ---------------------------------------------------------


def _interpreters() -> Any:
    try:
        import _interpreters as module  # 3.13
    except ImportError:
        try:
            import _xxsubinterpreters as module  # type: ignore[import-not-found,no-redef]
        except ImportError:
            from helpers.cases import Skip

            raise Skip("this Python has no module for sub-interpreters") from None
    return module


def _make(kind: str) -> int:
    """A sub-interpreter: "legacy" shares the GIL and the allocator, "isolated" has its own (3.12+)."""
    module = _interpreters()
    if hasattr(module, "new_config"):
        return module.create(kind)
    return module.create(isolated=kind == "isolated")


def _run(interpreter: int, code: str) -> Any:
    module = _interpreters()
    return (getattr(module, "exec", None) or module.run_string)(interpreter, code)


def beside_an_interpreter(kind: str) -> dict[str, Any]:
    """Freeze, pack and a forked freeze while there is another interpreter, and after it has gone."""
    data = [text(), {text(): [1]}]
    interpreter = _make(kind)
    _run(interpreter, "import json\nx = [str(i) for i in range(1000)]")
    answers = []
    for roots in ((data,), ()):
        try:
            cowfreeze.freeze(*roots)
            answers.append("frozen")
        except cowfreeze.UnsupportedError as error:
            assert "sub-interpreters" in str(error)
            answers.append("refused")
    marked = is_marked(data)
    packed = cowfreeze.pack([1, "two", {"three": (4.0,)}]) == [1, "two", {"three": (4.0,)}]
    _interpreters().destroy(interpreter)
    cowfreeze.freeze(data)
    return {"answers": answers, "marked": marked, "packed": packed, "afterwards": is_marked(data)}


def made_afterwards(kind: str) -> dict[str, Any]:
    """A sub-interpreter that is made when the heap is frozen: it runs, and its end frees nothing."""
    names = [sys.intern(f"planted name {n}") for n in range(1000)]
    data = {name: [name] for name in names}
    cowfreeze.freeze()
    before = list(data)
    for _ in range(3):
        interpreter = _make(kind)
        code = (
            "import json, sys, gc\n"
            "mine = {sys.intern(f'planted name {n}'): [n] for n in range(1000)}\n"
            "for name in mine:\n    setattr(sys, name, name)\n    delattr(sys, name)\n"
            "assert json.loads(json.dumps(mine)) == mine\n"
            "del mine; gc.collect()\n"
        )
        failed = _run(interpreter, code)
        assert not failed, failed
        _interpreters().destroy(interpreter)
        gc.collect()
    return {
        "same": list(data) == before and all(data[name] == [name] for name in names),
        "marked": is_marked(data) and all(map(is_marked, names)),
    }


def imported_there(kind: str, first: bool) -> dict[str, str]:
    """What cowfreeze says of itself in a sub-interpreter, before the main one imports it or after."""
    _interpreters()
    source = (
        "import sys\n"
        "try: import _interpreters as I\n"
        "except ImportError: import _xxsubinterpreters as I\n"
        "attempt = 'try:\\n import cowfreeze\\n print(cowfreeze.unsupported_reason or 0)\\nexcept ImportError as e: print(e)\\n'\n"
        "def there():\n"
        f"    i = I.create({kind!r}) if hasattr(I, 'new_config') else I.create(isolated={kind == 'isolated'})\n"
        "    (getattr(I, 'exec', None) or I.run_string)(i, 'import sys\\n' + attempt + 'sys.stdout.flush()')\n"
        "    I.destroy(i)\n"
        "def here():\n    exec(attempt, {})\n    sys.stdout.flush()\n"
        + ("there(); here()" if first else "here(); there()")
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done
    one, two = done.stdout.splitlines()
    return {"there": one, "here": two} if first else {"here": one, "there": two}
