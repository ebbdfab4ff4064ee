"""What a body did in another process: made there, raised again in the test's process.

A worker must not format, pickle or import before it has measured its pages (W1 of
fork_workers). So it returns an Ending, which does all that when it is pickled itself; and
that is after measuring.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cowfreeze._workers.processes import error_text

_Section = tuple[str, str]


class Told(NamedTuple):
    """The plain form of an Ending.

    Attributes:
        where: "worker 0", "warm-up", "preload".
        value: what the body returned, pickled; None when it raised.
        lost: why the value could not be pickled.
        error: what it raised, pickled.
        report: pytest's own report of the error, serialized by pytest's hook.
        sections: (name, text) of what was captured in that process.
    """

    where: str
    value: bytes | None
    lost: str | None
    error: bytes | None
    report: dict[str, Any] | None
    sections: list[_Section]


class Ending:
    """How a body ended; turns into a Told on its way through a pipe."""

    __slots__ = ("error", "item", "keep", "value", "where")

    def __init__(
        self,
        item: pytest.Item,
        where: str | int,
        value: Any = None,
        error: BaseException | None = None,
        keep: bool = True,
    ) -> None:
        self.item = item
        self.where = where  # a worker's index; its text is made later
        self.value = value
        self.error = error
        self.keep = keep

    def __reduce__(self) -> tuple[type[Told], tuple[Any, ...]]:
        where = f"worker {self.where}" if isinstance(self.where, int) else self.where
        value = error = lost = report = None
        if self.error is not None:
            error = _dump_error(self.error)
            with contextlib.suppress(Exception):
                report = _report(self.item, self.error)
        else:
            try:
                value = pickle.dumps(self.value if self.keep else None, pickle.HIGHEST_PROTOCOL)
            except Exception as problem:
                lost = (
                    f"{where} returned a {type(self.value).__name__} that cannot be pickled: "
                    f"{error_text(problem)}. Return plain data, or None"
                )
        return Told, (where, value, lost, error, report, _captured(self.item, where))


def attempt(item: pytest.Item, where: str, work: Callable[[], Any]) -> tuple[Any, Ending | None]:
    """WORK's value, or the Ending with what it raised."""
    try:
        return work(), None
    except BaseException as error:
        return None, Ending(item, where, error=error)


# pytest says that some of its exceptions live in `builtins`, where pickle cannot find them.
_OUTCOMES: tuple[type[BaseException], ...] = (
    pytest.skip.Exception,
    pytest.fail.Exception,
    pytest.xfail.Exception,
    pytest.exit.Exception,
)


class _Outcome:
    """Stands in a pickle for what pytest.skip() and its kin raise."""

    def __init__(self, index: int, text: str) -> None:
        self.index = index
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_outcome, (self.index, self.text)


def _make_outcome(index: int, text: str) -> BaseException:
    return _OUTCOMES[index](text)


class _Rebuilt:
    """Stands in a pickle for an exception that cannot be pickled: a class and a text."""

    def __init__(self, kind: type[BaseException], text: str) -> None:
        self.kind = kind
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.kind, self.text)


def _rebuild(kind: type[BaseException], text: str) -> BaseException:
    # Not kind(text): its __init__ may want something else.
    error = kind.__new__(kind)
    error.args = (text,)
    return error


def _dump_error(error: BaseException) -> bytes:
    """The exception itself where that works, else one of the nearest class that has a name
    in a module: a class that the test defines locally has none, its base does."""
    if type(error) in _OUTCOMES:
        told = _Outcome(_OUTCOMES.index(type(error)), str(getattr(error, "msg", error)))
        return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)
    with contextlib.suppress(Exception):
        data = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        if type(pickle.loads(data)) is type(error):
            return data
    for kind in type(error).__mro__:
        with contextlib.suppress(Exception):
            data = pickle.dumps(_Rebuilt(kind, error_text(error)), pickle.HIGHEST_PROTOCOL)
            pickle.loads(data)
            return data
    return pickle.dumps(_Rebuilt(Exception, error_text(error)))


def load_error(told: Told) -> BaseException:
    assert told.error is not None
    error: BaseException = pickle.loads(told.error)
    return error


def _report(item: pytest.Item, error: BaseException) -> dict[str, Any]:
    """What pytest would print, made where the traceback still exists."""

    def again() -> None:
        raise error

    call = pytest.CallInfo.from_call(again, when="call", reraise=None)
    report = pytest.TestReport.from_item_and_call(item, call)
    report.sections.clear()
    report.user_properties.clear()
    data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
    assert isinstance(data, dict)
    return data


def longrepr(item: pytest.Item, data: dict[str, Any]) -> Any:
    """The representation of the error in a serialized report."""
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    return report.longrepr


# --- what was captured in the other process -----------------------------------------
#
# With --capture=fd everybody writes to one temporary file, and pytest shows it all. With
# "sys" and "tee-sys" the text is in the memory of the process that printed it, and log
# records are so in every mode. The names below are not public in pytest: where one is
# missing, that text is lost and nothing else.


def forget_captured(item: pytest.Item) -> None:
    """In the zygote: what the session had captured before is not this process's text."""
    with contextlib.suppress(Exception):
        if _in_memory(item):
            _capture_manager(item).read_global_capture()
    with contextlib.suppress(Exception):
        stream = _log_stream(item)
        stream.seek(0)
        stream.truncate()


def _captured(item: pytest.Item, where: str) -> list[_Section]:
    sections = []
    with contextlib.suppress(Exception):
        if _in_memory(item):
            out, err = _capture_manager(item).read_global_capture()
            sections += [(f"stdout ({where})", out), (f"stderr ({where})", err)]
    with contextlib.suppress(Exception):
        sections.append((f"log ({where})", _log_stream(item).getvalue()))
    return [(name, text) for name, text in sections if text]


def _in_memory(item: pytest.Item) -> bool:
    return item.config.getoption("capture") in ("sys", "tee-sys")


def _capture_manager(item: pytest.Item) -> Any:
    return item.config.pluginmanager.getplugin("capturemanager")


def _log_stream(item: pytest.Item) -> Any:
    plugin: Any = item.config.pluginmanager.getplugin("logging-plugin")
    return plugin.report_handler.stream
