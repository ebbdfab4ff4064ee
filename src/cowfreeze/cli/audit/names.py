"""From "pkg.mod:name" on the command line to a function, and how it wants to be called."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from cowfreeze.cli.command import USAGE, CommandError


def resolve(text: str) -> Callable[..., Any]:
    """The function that TEXT ("pkg.mod:attribute") names; imports its module.

    Raises CommandError (exit status 2): not of this form, the module cannot be imported, there is
    no such attribute, or it cannot be called.
    """
    module_name, colon, attribute = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise CommandError(f"{text!r} names no function: give module:function, as in shop.catalog:load", USAGE)
    found: Any = _module(module_name)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandError(
                f"module {module_name} ({getattr(found, '__file__', None) or 'no file'}) has no {attribute!r}"
                f"{_similar(found, name)}",
                USAGE,
            ) from None
    if not callable(found):
        raise CommandError(
            f"{text} is {_article(type(found).__name__)} and cannot be called: give a function", USAGE
        )
    return found  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` has it; the installed script has its own folder there
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise CommandError(
                f"there is no module {error.name}: it is searched in {folder} and where this Python "
                f"({sys.executable}) keeps packages; change to the folder that holds it or install it",
                USAGE,
            ) from None
        raise CommandError(f"module {name} cannot be imported: {where(error)}", USAGE) from error
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"module {name} cannot be imported: {where(error)}; `python -c 'import {name}'` shows the traceback",
            USAGE,
        ) from error


def _similar(found: Any, name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [other for other in dir(found) if not other.startswith("_")], 1)
    return f"; did you mean {near[0]!r}?" if near else "; give module:function"


def _article(name: str) -> str:
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def call_of(text: str, work: Callable[..., Any]) -> int:
    """How many arguments WORK is called with: 1 (the data) or 2 (data and worker index).

    Two only if it requires two: a second parameter with a default is its own affair. Raises
    CommandError (exit status 2) when it fits neither.
    """
    try:
        signature = inspect.signature(work)
    except (TypeError, ValueError):
        return 1  # written in C without a signature
    for count in (1, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise CommandError(
        f"{text}{signature} cannot be called with the data: give a function of one argument (the data) "
        "or two (the data and the worker's index)",
        USAGE,
    )


def where(error: BaseException) -> str:
    """ERROR in one line, with the last place in its traceback."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):
        return text
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return text
    return f"{text} ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
