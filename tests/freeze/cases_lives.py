"""Types whose size or life is not what a flag says."""

from __future__ import annotations

import ctypes
import importlib
import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import cowfreeze
from freeze.cases_builds import build
from helpers.cases import PAGE, Skip, is_marked


def _lives() -> Any:
    return build("lives", Path(__file__).with_suffix(".c").read_text())


def sizes(whole: bool) -> dict[str, Any]:
    """Bytes that are counted for each of them; a limit on memory for a walk that believes too much."""
    import resource

    lives = _lives()
    things = [lives.Raw(), lives.Short(100_000), lives.Long(50), lives.Long(5000)]
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    report = cowfreeze.freeze() if whole else cowfreeze.freeze(things)
    by_type = {kind.__name__: size for kind, _, size in report._counts.by_type if kind.__module__ == "lives"}
    return {"bytes": by_type, "unbelieved": report._counts.unbelieved, "marked": [is_marked(one) for one in things]}


def lives(whole: bool) -> dict[str, Any]:
    """What is left as it is dies as ever, also under a class of Python."""
    made = _lives()

    class Derived(made.Connection):  # type: ignore[misc]
        pass

    class Closing(made.Record):  # type: ignore[misc]
        def close(self) -> None:
            """Of Python: tells nothing about the C type's end."""

    data = {
        "connection": made.Connection(),
        "derived": Derived(),
        "record": made.Record(),
        "closing": Closing(),
        "capsule": made.capsule(False),
        "ended capsule": made.capsule(True),
    }
    names = list(data)
    report = cowfreeze.freeze() if whole else cowfreeze.freeze(data)
    marked = [name for name in names if is_marked(data[name])]
    before = made.count_ended()
    for name in names:
        data[name] = None
    return {"marked": marked, "ended": made.count_ended() - before, "skipped": dict(report.skipped)}


def several_mappings() -> bool:
    """The code of the interpreter in several mappings, as with a part of it on huge pages."""
    code = [_word(kind, 48) for kind in (list, pickle.PickleBuffer)]
    page = sum(code) // 2 & ~(PAGE - 1)
    if not min(code) < page < max(code) - PAGE:
        raise Skip("both on one page")
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert madvise(page, PAGE, 16) == 0  # MADV_DONTDUMP, which parts a mapping and does nothing else
    data = [pickle.PickleBuffer(b"text")]
    cowfreeze.freeze(data)
    return is_marked(data[0])


def interpreter_ids() -> bool:
    """One that never died kept its interpreter, and the exit was an abort."""
    try:
        interpreters = importlib.import_module("_xxsubinterpreters")
    except ImportError:
        raise Skip("interpreter ids are plain ints here") from None
    one = interpreters.create()
    interpreters.destroy(one)  # what holds its id is left; while it lives, nothing is frozen
    cowfreeze.freeze(threads="allow")
    return is_marked(one)


def executors() -> str:
    """The JIT takes its executors apart when what they depend on changes."""
    jit = getattr(sys, "_jit", None)
    if jit is None or not jit.is_enabled():
        raise Skip("this build has no JIT")

    def make(i: int) -> Any:
        names: dict[str, Any] = {"C": C}
        exec(
            f"def f(n):\n g = C({i}); t = 0\n for i in range(n):\n  t += g.get() + g.v\n  g.w = [i]\n"
            f"  d = {{'k': i, 's': t}}\n  t += len(d)\n return t\n",
            names,
        )
        return names["f"]

    class C:
        def __init__(self, v: int) -> None:
            self.v, self.w = v, [v]

        def get(self) -> int:
            return self.v

    functions = [make(i) for i in range(20)]
    for f in functions:
        f(10000)
    cowfreeze.freeze()
    for r in range(3):
        C.extra = r  # type: ignore[attr-defined]
        for f in functions:
            f(5000)
        sys.settrace(lambda *args: None)
        functions[0](10)
        sys.settrace(None)
        functions = [make(100 + r) for _ in range(20)]
        for f in functions:
            f(10000)
    return "fine"


# -- the list in csrc/objects/life.c ----------------------------------------------

# Looked at, and left as they are. What a new version brings is in neither list: read its tp_dealloc.
LEFT = """
InterpreterID uop_executor ChannelID CrossInterpreterBufferView _buffer_wrapper PickleBuffer FrameLocalsProxy
InstructionSequence window panel dbm gdbm oss_audio_device oss_mixer_device Tcl_Obj tkapp tktimertoken
Profiler profiler_entry xmlparser BinaryReader BinaryWriter GCMonitor RemoteUnwinder
async_generator_wrapped_value anext_awaitable lazy_import FutureIter TaskStepMethWrapper _RunningLoopHolder
managedbuffer memoryview frame traceback generator coroutine async_generator _BufferedIOMixin BufferedRWPair
BufferedRandom BufferedReader BufferedWriter BytesIO FileIO StringIO TextIOWrapper _BytesIOBuffer
_ThreadHandle
""".split()


def _word(kind: type, offset: int) -> int:
    return ctypes.c_void_p.from_address(id(kind) + offset).value or 0


def _ended_by(kind: type) -> type | None:
    """As ended_by() of life.c; tp_dealloc is the word at 48."""
    one: type | None = kind
    while one is not None and _word(one, 48) == _word(type("Probe", (), {}), 48):
        one = one.__base__
    if one is None or _word(one, 48) in (0, _word(object, 48)):
        return None
    while one.__base__ is not None and _word(one.__base__, 48) == _word(one, 48):
        one = one.__base__
    return one


def unread(source: str) -> list[str]:
    """tp_names of the interpreter's and its library's types that nobody has looked at."""
    warnings.simplefilter("ignore")
    for module in sorted(sys.stdlib_module_names):
        # What they import prints, opens a browser, or is not there.
        if not module.startswith(("test", "idlelib", "antigravity", "this", "turtle", "__main__", "_test", "_xxtest")):
            try:
                importlib.import_module(module)
            except BaseException:  # noqa: S110 - built without it
                pass
    text = Path(source).read_text()
    table = text[text.index("harmless[] = {") : text.index("};", text.index("harmless[] = {"))]
    known = set(re.findall(r'"([^"]+)"', table))
    known |= set(re.findall(r'\{"([^"]+)", CF_SKIP', (Path(source).parent / "type_info.c").read_text()))
    kinds, todo = {object}, [object]
    while todo:
        for kind in type.__subclasses__(todo.pop()):
            if kind not in kinds:
                kinds.add(kind)
                todo.append(kind)
    missing = set()
    for kind in kinds:
        end = _ended_by(kind)
        if end is None or end.__flags__ >> 24 & 0xFF or end.__module__.partition(".")[0] not in (
            *sys.stdlib_module_names,
            "builtins",
        ):
            continue
        name = ctypes.string_at(_word(end, 24)).decode()
        if name not in known and name.rpartition(".")[2] not in LEFT:
            missing.add(name)
    return sorted(missing)
