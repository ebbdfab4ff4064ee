"""Small programs, started by `python` and by a zygote: the same status, output, files, effect of signals."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zygote_case

import cowfreeze

# What a program is: its text; or (text, options). Each is run as `python -m NAME ARGUMENTS`.
PROGRAMS: dict[str, Any] = {
    "hello": "print('hello')",
    "arguments": ("import sys; print(sys.argv[1:], len(sys.orig_argv), __name__, __spec__.name)", {"args": ["a", "--b", ""]}),
    "main_module": "import __main__, sys; print(sorted(vars(__main__)), sys.modules['__main__'] is __main__, __file__ == sys.argv[0])",
    "status": "import sys; sys.exit(7)",
    "status_text": "import sys; print('out'); sys.exit('a text')",
    "status_large": "import sys; sys.exit(256 + 3)",
    "status_none": "raise SystemExit",
    "exception": "def f(): raise ValueError('bad')\nf()",
    "chained": "try: 1/0\nexcept Exception as e: raise KeyError('k') from e",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1/0",
    "syntax_error": "print(1\n",
    "interrupt": "raise KeyboardInterrupt",
    "os_exit": "import os; print('lost', end=''); os._exit(4)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('not reached')",
    "aborts": "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "stdin": ("import sys; print(sys.stdin.read().upper())", {"input": "some text\nof two lines"}),
    "input_eof": "input()",
    "binary": ("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])", {"input": "abc"}),
    "streams": (
        "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty(), s.newlines, s.fileno(),\n"
        "          s is getattr(sys, '__' + s.name.strip('<>') + '__'), type(s.buffer).__name__, type(s.buffer.raw).__name__)"
    ),
    "unflushed": "f = open('left.txt', 'w'); f.write('kept by the end of the interpreter')",
    "destructor": "class A:\n    def __del__(self): print('deleted')\na = A()",
    "atexit_order": (
        "import atexit, logging, logging.handlers, sys\natexit.register(print, 'first')\natexit.register(print, 'last')\n"
        "h = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout)); logging.root.addHandler(h)\n"
        "logging.root.warning('flushed at the end')"
    ),
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('thread ends'))).start()\nprint('main ends')",
    "environment": (
        "import os; print(sorted((k, v) for k, v in os.environ.items() if k != '_')); print(os.popen('echo $NEW').read())",
        {"env": {"NEW": "value", "PATH": os.environ["PATH"], "B": "\udcff"}},
    ),
    "folder": ("import os; print(os.getcwd(), os.listdir('.'))", {"cwd": "below"}),
    "umask": ("import os; open('new', 'w'); print(oct(os.stat('new').st_mode))", {"umask": 0o077}),
    "session": ("import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())", {"start_new_session": True}),
    "signals": (
        "import signal\nprint([(s.name, str(signal.getsignal(s))) for s in sorted(signal.valid_signals()) if hasattr(s, 'name')"
        " and 'at 0x' not in str(signal.getsignal(s))], signal.getsignal(signal.SIGINT).__name__, signal.pthread_sigmask(0, ()))"
    ),
    "broken_pipe": ("import sys\nwhile True: print('x' * 1000)", {"close_output": True}),
    "descriptors": ("import os; print([n for n in range(200) if os.path.exists(f'/proc/self/fd/{n}')], os.open('/', 0))", {"pass": 1}),
    "path": "import sys, os; print([p for p in sys.path if os.path.exists(p)])",
    "safe_path": (
        "import sys, os; print([p for p in sys.path if os.path.exists(p)])", {"env": {"PYTHONSAFEPATH": "1", "PYTHONPATH": "."}}
    ),
    "pythonpath": ("import extra; print(extra.X)", {"env": {"PYTHONPATH": "more"}}),
    "multiprocessing": (
        "import multiprocessing as m, sys\ndef f(x): return x * x\nif __name__ == '__main__':\n"
        "    print(m.current_process().name, m.parent_process(), m.get_start_method(), m.active_children())\n"
        "    with m.get_context('spawn').Pool(2) as p: print(p.map(f, range(5)))\n"
        "    with m.get_context('forkserver').Pool(1) as p: print(p.map(f, range(5)))\n"
        "    with m.get_context('fork').Pool(1) as p: print(p.map(f, range(5)))"
    ),
    "subprocess": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(5)']).returncode)",
    "asyncio_run": "import asyncio\nasync def f():\n    p = await asyncio.create_subprocess_exec('true')\n    return await p.wait()\nprint(asyncio.run(f()))",
    "package": "",
    "random_numbers": "import random; print(len({random.random() for _ in range(10)}))",
    "no_module_inside": "import does_not_exist",
    "recursion": "def f(): f()\ntry: f()\nexcept RecursionError as e: print(type(e).__name__)",
    "unbuffered": ("import sys; print('now'); print(sys.stdout.write_through); import os; os._exit(0)", {"env": {"PYTHONUNBUFFERED": "1"}}),
    "encoding": ("import sys; print(sys.stdout.encoding, sys.stdout.errors)", {"env": {"PYTHONIOENCODING": "latin-1:replace"}}),
    "timezone": ("import time; print(time.localtime(0).tm_hour, time.tzname)", {"env": {"TZ": "Asia/Tokyo"}}),
    "gc_state": "import gc; print(gc.isenabled(), gc.get_threshold(), gc.callbacks, gc.get_debug())",
    "limits": "import sys, threading; print(sys.getrecursionlimit(), threading.active_count(), threading.current_thread().name, sys.getswitchinterval())",
    "exit_in_handler": "import atexit, sys\natexit.register(lambda: 1/0)\nprint('x')",
    "excepthook_raises": "import sys\ndef h(*a): raise OSError('hook')\nsys.excepthook = h\n1/0",
}  # fmt: skip
SIGNALS: dict[str, tuple[int, str]] = {
    "int_default": (signal.SIGINT, "import time\nprint('ready', flush=True)\ntry: time.sleep(20)\nfinally: print('cleaned')"),
    "term_handler": (
        signal.SIGTERM,
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(9))\nprint('ready', flush=True)\ntime.sleep(20)",
    ),
    "hup": (signal.SIGHUP, "import time\nprint('ready', flush=True)\ntime.sleep(20)"),
    "quit": (signal.SIGUSR1, "import time\nprint('ready', flush=True)\ntime.sleep(20)"),
}
TERMINALS = {
    "is_a_terminal": "import sys, os; print(sys.stdin.isatty(), sys.stdout.line_buffering, os.get_terminal_size(0))",
    "reads_a_line": "print('got ' + input('name? '))",
    "password": "import getpass; print('got ' + getpass.getpass())",
}


def prepare(folder: Path) -> None:
    for name, program in [*PROGRAMS.items(), *((n, t) for n, (_, t) in SIGNALS.items()), *TERMINALS.items()]:
        (folder / f"p_{name}.py").write_text(program[0] if isinstance(program, tuple) else program)
    (folder / "p_package.py").unlink()
    (folder / "p_package").mkdir()
    (folder / "p_package" / "__init__.py").write_text("print('the package')")
    (folder / "p_package" / "__main__.py").write_text("from . import __name__ as n\nprint(n, __package__, __name__)")
    (folder / "below").mkdir()
    (folder / "below" / "p_folder.py").write_text(PROGRAMS["folder"][0])
    (folder / "more").mkdir()
    (folder / "more" / "extra.py").write_text("X = 'of the path'")
    for name in ("PYTHONUNBUFFERED", "PYTHONIOENCODING"):
        os.environ.pop(name, None)


def options_of(program: Any) -> dict[str, Any]:
    return dict(program[1]) if isinstance(program, tuple) else {}


def run(start: Any, name: str, folder: Path) -> Any:
    options = options_of(PROGRAMS[name])
    arguments = options.pop("args", [])
    text = options.pop("input", "")
    close = options.pop("close_output", False)
    if "cwd" in options:
        options["cwd"] = str(folder / options["cwd"])
    if "env" in options:
        options["env"] = {**os.environ, **options["env"]}
    passed = []
    if options.pop("pass", 0):
        passed = [os.open("/", os.O_RDONLY)]
        os.dup2(passed[0], 77)
        os.close(passed[0])
        options["pass_fds"] = (77,)
    before = set(folder.rglob("*"))
    process = start(
        ["-m", "p_" + name, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **{"cwd": str(folder), **options},
    )  # fmt: skip
    if close:
        process.stdout.close()
        process.stdout = None
    out, errors = process.communicate(text.encode(), timeout=60)
    if passed:
        os.close(77)
    made = {}
    for path in sorted(set(folder.rglob("*")) - before):
        if path.is_file():
            made[path.name] = path.read_text()
            path.unlink()
    # Addresses differ from run to run.
    return process.returncode, str(out), re.sub(r"0x[0-9a-f]+", "0x", str(errors)), made


def by_python(arguments: list[str], **options: Any) -> Any:
    return subprocess.Popen([sys.executable, *arguments], **options)


def signalled(start: Any, name: str, folder: Path) -> Any:
    number = SIGNALS[name][0]
    process = start(["-m", "p_" + name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=str(folder))
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    return process.returncode, str(out), str(errors)


def on_terminal(start: Any, name: str, folder: Path) -> Any:
    ours, theirs = pty.openpty()
    process = start(["-m", "p_" + name], stdin=theirs, stdout=theirs, stderr=theirs, cwd=str(folder), start_new_session=True)
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 20)[0]:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
        if data.endswith((b"? ", b": ")):
            os.write(ours, b"a line\n")
    os.close(ours)
    return process.wait(20), seen.replace(b"\r\n", b"\n").decode()


def imports() -> None:
    """What the zygote has loaded: what many programs import."""
    import argparse  # noqa: F401
    import asyncio  # noqa: F401
    import json  # noqa: F401
    import logging.handlers  # noqa: F401
    import multiprocessing.pool  # noqa: F401
    import random  # noqa: F401
    import tempfile  # noqa: F401


def compare() -> Any:
    """Programs that differ, with both results."""
    with tempfile.TemporaryDirectory() as name, cowfreeze.Zygote(imports) as zygote:
        return differences(zygote.popen, Path(name))


def differences(start: Any, folder: Path, without: tuple[str, ...] = ()) -> Any:
    prepare(folder)
    ways: list[tuple[Any, Any]] = [(run, PROGRAMS), (signalled, SIGNALS), (on_terminal, TERMINALS)]
    number, different = 0, []
    for way, programs in ways:
        for program in programs:
            if program in without:
                continue
            number += 1
            plain = way(by_python, program, folder)
            forked = way(start, program, folder)
            if plain != forked:
                different.append((program, plain, forked))
    return number, different


def scripts() -> Any:
    """`-c` and a path, and what is no program."""
    with tempfile.TemporaryDirectory() as name, cowfreeze.Zygote(imports) as zygote:
        script = Path(name) / "script.py"
        script.write_text("import sys\nprint(sys.argv, sys.path[0], __file__, __spec__)\n1/0")
        different = []
        for arguments in (
            ["-c", "import sys; print(sys.argv, repr(sys.path[0])); 1/0", "a"], ["-c", "  print(1)"], [str(script), "b"],
            [str(Path(name) / "none.py")], ["-m", "no_such_module"], ["-m", "json.no_such"], ["-c", "1 +"],
        ):  # fmt: skip
            results = []
            for start in (by_python, zygote.popen):
                process = start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                results.append((*process.communicate(timeout=30), process.returncode))
            if results[0] != results[1]:
                different.append((arguments, *results))
        errors = []
        for bad, options in (([], {}), (["-u", "x"], {}), ("text", {}), (["-m"], {}), (["x"], {"preexec_fn": print}), (["x"], {"cwd": "/no"})):
            with contextlib.suppress(RuntimeError):
                try:
                    zygote.popen(bad, **options)  # type: ignore[arg-type]
                except Exception as error:
                    errors.append(type(error).__name__)
        return different, errors


def waiting() -> Any:
    """poll, wait with a time limit, terminate, many at once, a zygote that is reloaded meanwhile."""
    with cowfreeze.Zygote(imports) as zygote:
        process = zygote.popen(["-c", "import time; time.sleep(30)"])
        found: list[Any] = [process.poll(), isinstance(process, subprocess.Popen)]
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired as error:
            found.append(type(error).__name__)
        process.terminate()
        found.append(process.wait(10))
        many = [zygote.popen(["-c", f"import sys, time; time.sleep(0.2); sys.exit({number})"]) for number in range(20)]
        zygote.reload()
        found.append([one.wait(20) for one in many] == [*range(20)])
        with zygote.popen(["-c", "print(input())"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            found.append(process.communicate("to and fro\n"))
        return found


def seeds() -> Any:
    """Programs of one zygote do not share random numbers."""
    code = "import random, uuid, tempfile, os; print(random.random(), uuid.uuid4(), next(tempfile._get_candidate_names()))"
    with cowfreeze.Zygote(imports) as zygote:
        outputs = [
            zygote.popen(["-c", code], stdout=subprocess.PIPE, text=True).communicate()[0].split() for _ in range(5)
        ]
    return [len({output[place] for output in outputs}) for place in range(3)]


if __name__ == "__main__":
    zygote_case.main(globals())
