"""The user's own application as a case: `--app pkg.mod:make_data --work pkg.mod:read`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from cowfreeze._errors import CowfreezeError
from cowfreeze.bench.cases.base import Case, deep
from cowfreeze.bench.cases.reader import Content

_FORM = 'give "package.module:function"'


def load_function(text: str, option: str) -> Callable[..., Any]:
    """Import what OPTION names.

    Raises:
        CowfreezeError: no such module or function, or the import fails; the text says which.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise CowfreezeError(f"{option} {text}: {_FORM}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it: the application lies where one works
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise CowfreezeError(
            f"{option} {text}: the module {module_name} does not import: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise CowfreezeError(f"{option} {text}: the module {module_name} has no function {name}")
    return found  # type: ignore[no-any-return]


def load_case(app: str, work: str | None) -> Case:
    """The case that builds with APP() and reads with WORK(data) (None: every key and value)."""
    make = load_function(app, "--app")
    if work is None:
        return Case("app", app, "", 0, 0, lambda size: make(), deep, warmup=0)
    job = load_function(work, "--work")

    def read(view: Any) -> Content:
        job(view)
        return 0, 0, 0, 0

    return Case("app", f"{app}, {work}", "", 0, 0, lambda size: make(), read, warmup=0)


def program(order: str) -> int:
    """Check in a room (bench/fresh_interpreter.py) that both functions can be imported.

    In a process of its own, because importing the application may start anything, and the command
    that forks the rooms must stay as it is.
    """
    import json

    arguments = json.loads(order)
    answer = {}
    try:
        load_function(arguments["app"], "--app")
        if arguments["work"] is not None:
            load_function(arguments["work"], "--work")
    except CowfreezeError as error:
        answer = {"error": str(error)}
    with os.fdopen(arguments["pipe"], "w") as out:
        print(json.dumps(answer), file=out)
    return 0
