"""Freezing without a line of code: a hook before each fork, armed by `cowfreeze run`.

    exec -- sitecustomize: arm() -- the program loads -- fork
                                                         `-- before it: worth it? freeze, say one line
                                                         `-- before later ones: freeze what is new

    A1  only in the process that was armed: forked children inherit the hook, and do nothing;
    A2  nothing is raised into the program, and nothing is printed but one line on stderr for each
        freeze, its notes, and one more if it could not freeze or does so no longer;
    A3  not before a fork that makes no worker: subprocess with preexec_fn, a terminal, a daemon
        (whose child is armed instead).
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

DEFAULT_OBJECTS = 10_000

_armed_in = 0
_module = ""
_objects = DEFAULT_OBJECTS
_becomes_daemon = False
_said: set[str] = set()


def parse_when(text: str) -> tuple[str, int]:
    """The module that must be imported ("" for any), and how many new objects make a freeze worth it.

    Raises:
        ValueError: TEXT is none of "", "import:NAME", "objects:N".
    """
    kind, _, value = text.partition(":")
    if not text:
        return "", DEFAULT_OBJECTS
    if kind == "import" and value and all(part.isidentifier() for part in value.split(".")):
        return value, 0
    if kind == "objects" and value.isdigit():
        return "", int(value)
    raise ValueError(f"{text!r} is neither import:NAME nor objects:N")


def arm(when: str) -> None:
    """Freeze before this process forks, when WHEN (see `parse_when`) holds. Never raises."""
    global _armed_in, _module, _objects
    try:
        module, objects = parse_when(when)
    except ValueError as error:
        _say(f"nothing is frozen: COWFREEZE_WHEN is {error}")
        return
    if not _armed_in:
        # Of hooks before a fork the one that was registered first runs last: after those that stop threads.
        os.register_at_fork(before=_before_fork, after_in_child=_in_child)
    _armed_in, _module, _objects = os.getpid(), module, objects


def _before_fork() -> None:
    global _becomes_daemon
    if os.getpid() != _armed_in:  # A1
        return
    try:
        _becomes_daemon = False
        purpose, arbiter = _purpose(sys._getframe(1))
        _becomes_daemon = purpose == "daemon"
        if not purpose:
            _consider(arbiter)
    except BaseException as error:  # A2: what a hook raises is printed with a traceback
        _say(f"nothing is frozen: {type(error).__name__}: {error}")


def _in_child() -> None:
    global _armed_in
    if _becomes_daemon:
        _armed_in = os.getpid()


def _purpose(frame: FrameType | None) -> tuple[str, Any]:
    """What this fork is for, "" if for a worker (A3); and the gunicorn that forks, if it is one."""
    arbiter = None
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if function == "_execute_child" and file.endswith("subprocess.py"):
            return "subprocess", None
        if file.endswith("/pty.py"):
            return "terminal", None
        if function == "daemonize" or (function in ("_detach", "detach_process_context") and "daemon" in file + function):
            return "daemon", None
        if function == "spawn_worker" and file.endswith("gunicorn/arbiter.py"):
            arbiter = frame.f_locals.get("self")
        frame = frame.f_back
    return "", arbiter


def _consider(arbiter: Any) -> None:
    from cowfreeze.integrations._common import freeze_for
    from cowfreeze.integrations._settings import Settings

    if arbiter is not None and not arbiter.cfg.preload_app:
        _say("nothing is frozen: gunicorn runs without --preload, so each worker loads the application itself")
        return
    if _module and _module not in sys.modules:
        _say(f"nothing is frozen before a fork: the module {_module} is not imported at that time (--when)")
        return
    app = None if arbiter is None else getattr(arbiter.app, "callable", None)
    freeze_for(f"process {os.getpid()}", Settings(), info=_print, warning=_say, threads="allow", app=app, wanted=_objects)


def _say(text: str) -> None:
    """One line on stderr, once."""
    if text not in _said:
        _said.add(text)
        _print(text)


def _print(text: str) -> None:
    try:
        os.write(2, f"cowfreeze run: {text.removeprefix('cowfreeze').lstrip(': ')}\n".encode(errors="replace"))
    except OSError:
        pass  # a closed stderr is the program's own wish
