"""A forked process of a zygote becomes what `python -m ...` would start.

    server        fork -> _bootstrap of Program (what was asked for) -> become(): descriptors, folder,
                  environment, signals, streams, multiprocessing, a new __main__ -> run() -> the interpreter's
                  own end, from the bottom of the stack, with the program's status

All that a fresh interpreter would have is set; what is different on purpose is what the zygote is
for: modules that are loaded already (and what loading them has set: filters of warnings, handlers of
logging), the hash seed, interpreter flags, the parent process. docs/howto/zygote.md has the list.
"""

from __future__ import annotations

import builtins
import codecs
import contextlib
import dataclasses
import gc
import io
import linecache
import os
import runpy
import signal
import sys
import textwrap
import time
import types
from importlib.machinery import SourceFileLoader
from multiprocessing import context, forkserver, process, resource_tracker, util
from typing import Any, NoReturn

from cowfreeze._zygote import worker

FORMS = (
    "takes what stands behind `python`: ['-m', 'package.module', ...], ['-c', 'code', ...] or ['script.py', ...]; "
    "options of the interpreter are the zygote's"
)
# The status pipe's number: a program opens 3, 4, ... as it would in a fresh interpreter.
_HIGH = 250
asked_for: Program | None = None


@dataclasses.dataclass
class Program:
    """What to run, and the process to run it in.

    Attributes:
        args: as behind `python`.
        environment: all of it, as os.environb has it.
        folder: the working directory.
        path: sys.path without its first entry, which depends on `args` (and on PYTHONSAFEPATH: is not there at all).
        umask: -1 leaves it.
        streams: the descriptors of stdin, stdout, stderr: places in the list of those that were sent,
            None for closed.
        kept: descriptors that it inherits: number and place in that list.
        new_session: call setsid.
        group: for setpgid, -1 leaves it.
        ignored: signals that are to be ignored; SIGPIPE and SIGXFSZ are anyway.
        mask: signals that are blocked.
        limits: resource limits (resource, soft, hard); what is not allowed is left out.
    """

    args: list[str]
    environment: dict[bytes, bytes]
    folder: str
    path: list[str]
    umask: int = -1
    streams: tuple[int | None, int | None, int | None] = (None, None, None)
    kept: tuple[tuple[int, int], ...] = ()
    new_session: bool = False
    group: int = -1
    ignored: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    limits: tuple[tuple[int, int, int], ...] = ()

    _name = "program"

    def check(self) -> None:
        """Raise ValueError if this is nothing to run."""
        first = self.args[0] if self.args else "-"
        if first.startswith("-") and (first not in ("-m", "-c") or len(self.args) < 2):
            raise ValueError(f"a zygote {FORMS}")

    def _bootstrap(self, parent_sentinel: int) -> int:
        """Called where a process of multiprocessing would run: the server runs it when it has unwound."""
        global asked_for
        os.close(parent_sentinel)
        asked_for = self
        return 0


def take() -> Program | None:
    """What this process was forked for, if it is a program."""
    global asked_for
    program, asked_for = asked_for, None
    return program


def become(program: Program, sent: list[int], status: int) -> None:
    """Everything but the code.

    Args:
        sent: the descriptors that came with the request.
        status: the pipe by which the client learns of the end; it stays open, see Server.become_worker.
    """
    _set_descriptors(program, sent, status)
    if program.new_session:
        os.setsid()
    if program.group >= 0:
        os.setpgid(0, program.group)
    if program.umask >= 0:
        os.umask(program.umask)
    os.environ.clear()
    os.environb.update(program.environment)
    time.tzset()
    _set_limits(program.limits)
    os.chdir(program.folder)
    _set_signals(program)
    _set_streams()
    _set_multiprocessing()
    _set_main(program)
    _seed()


def run(program: Program) -> Any:
    """Run the code. Returns the status, or raises SystemExit or KeyboardInterrupt for the interpreter to end by."""
    first, *rest = program.args
    error = None
    try:
        if first == "-m":

            runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
        elif first == "-c":
            _run_text(rest[0])
        else:
            _run_script(first)
    except SystemExit:
        raise
    except BaseException as raised:
        error = raised
    if error is not None:  # outside of the handler: what sys.excepthook raises has nothing before it
        _report(error)
    return 0


def _run_text(text: str) -> None:
    if sys.version_info >= (3, 14):
        text = textwrap.dedent(text)
    code = compile(text, "<string>", "exec")
    lines: Any = linecache
    if hasattr(lines, "_interactive_cache"):  # tracebacks show lines of it: since 3.13, and since 3.13.1 in this way
        lines._register_code(code, text, "<string>")
    elif hasattr(lines, "_register_code"):
        lines._register_code("<string>", text, "<string>")
    exec(code, sys.modules["__main__"].__dict__)


def _run_script(path: str) -> None:
    space = sys.modules["__main__"].__dict__
    try:
        with io.open_code(os.path.abspath(path)) as file:
            text = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    space["__file__"] = path if os.path.isabs(path) else os.path.abspath(path)
    space["__loader__"] = SourceFileLoader("__main__", path)
    space["__cached__"] = None
    exec(compile(text, space["__file__"], "exec"), space)


def _report(error: BaseException) -> NoReturn:
    """The traceback as if the frames of the zygote were not there; then the end that belongs to it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    interrupted = isinstance(error, KeyboardInterrupt)
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit:
        raise
    except BaseException as second:
        print("Error in sys.excepthook:", file=sys.stderr)
        ours = second.__traceback__
        second.__traceback__ = ours.tb_next if ours is not None else None
        sys.__excepthook__(type(second), second, second.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, trace)
    if interrupted:
        sys.excepthook = lambda *_: None  # told already; the interpreter kills itself by SIGINT after its end
        raise error
    sys.exit(1)


# -- what a fresh interpreter has -------------------------------------------


def _set_descriptors(program: Program, sent: list[int], status: int) -> None:
    import fcntl

    wanted = {number: sent[place] for number, place in program.kept}
    wanted.update({number: sent[place] for number, place in enumerate(program.streams) if place is not None})
    # Out of the way of the numbers that are wanted; and not for programs that this one starts.
    floor = max([*wanted, 2]) + 1
    try:
        fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, max(floor, _HIGH))
    except OSError:  # above the limit of open files
        fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, floor)
    moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor) for number, fd in wanted.items()}
    for fd in (*sent, status):
        os.close(fd)
    for number, fd in moved.items():
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for number, place in enumerate(program.streams):
        if place is None:
            with contextlib.suppress(OSError):
                os.close(number)


def _set_limits(limits: tuple[tuple[int, int, int], ...]) -> None:
    if limits:
        import resource

        for which, soft, hard in limits:
            with contextlib.suppress(OSError, ValueError):
                if resource.getrlimit(which) != (soft, hard):
                    resource.setrlimit(which, (soft, hard))


def _set_signals(program: Program) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number in program.ignored or number in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", 0)):
            wanted: Any = signal.SIG_IGN
        elif number == signal.SIGINT:
            wanted = signal.default_int_handler
        else:
            wanted = signal.SIG_DFL
        with contextlib.suppress(OSError, ValueError):  # SIGKILL, SIGSTOP, and the C library's own
            if signal.getsignal(number) != wanted:
                signal.signal(number, wanted)
    signal.pthread_sigmask(signal.SIG_SETMASK, program.mask)


def _set_streams() -> None:
    """As Python/pylifecycle.c makes them."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    raw = bool(os.environ.get("PYTHONUNBUFFERED"))
    usual = "strict"
    for old in (sys.__stdout__, sys.__stdin__):
        if old is not None:
            encoding = encoding or old.encoding
            usual = old.errors or usual
            break
    if sys.stdin is not None and sys.stdin.fileno() > 2:
        os.close(sys.stdin.fileno())  # the server's /dev/null
    encoding = codecs.lookup(encoding or "utf-8").name
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = None
        with contextlib.suppress(OSError):
            os.fstat(number)
            unbuffered = raw and number > 0
            binary: Any = open(number, "rb" if number == 0 else "wb", 0 if unbuffered else -1, closefd=False)
            terminal = binary.isatty()
            (binary if unbuffered else binary.raw).name = f"<{name}>"
            stream = io.TextIOWrapper(
                binary, encoding, "backslashreplace" if number == 2 else errors or usual,
                None if number == 0 else "\n", line_buffering=terminal or raw or number == 2, write_through=unbuffered,
            )  # fmt: skip
            stream.mode = "r" if number == 0 else "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _set_multiprocessing() -> None:
    """This is a main process, of nobody's pool."""
    module: Any = process
    module._current_process = type(module._current_process)()  # the server is a main process, too
    module._parent_process = None
    module._children = set()
    module.ORIGINAL_DIR = os.getcwd()
    any_context: Any = context
    any_context._default_context._actual_context = None
    forkserver_module: Any = forkserver
    tracker: Any = resource_tracker._resource_tracker
    for fd in (tracker._fd, forkserver_module._forkserver._forkserver_alive_fd):
        if fd is not None:
            os.close(fd)
    forkserver_module._forkserver.__init__()
    tracker._fd = tracker._pid = None
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    worker.here = None


def _set_main(program: Program) -> None:
    first, *rest = program.args
    main: Any = types.ModuleType("__main__")
    main.__builtins__ = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    sys.modules.pop("__mp_main__", None)
    sys.argv = [first, *rest[1:]] if first in ("-m", "-c") else [first, *rest]
    sys.orig_argv = [sys.executable, *program.args]
    if first == "-m":
        head = os.getcwd()
    elif first == "-c":
        head = ""
    else:
        head = os.path.dirname(os.path.realpath(first))
    safe = sys.version_info >= (3, 11) and program.environment.get(b"PYTHONSAFEPATH")
    sys.path[:] = program.path if safe else [head, *program.path]
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # TMPDIR may be another
    linecache.clearcache()
    getattr(linecache, "_interactive_cache", {}).clear()
    gc.enable()


def _seed() -> None:
    """`random` does so by itself after a fork."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
