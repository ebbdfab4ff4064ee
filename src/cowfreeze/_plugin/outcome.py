"""What a body did in another process: made there, raised again in the test's process.

A worker must not format, pickle or import before it has measured its pages (W1 of
fork_workers). So it returns an Ending, which does all that when it is pickled itself; and
that is after measuring.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest

from cowfreeze._plugin.harvest import Harvest
from cowfreeze._workers.processes import error_text

_Section = tuple[str, str]


class Told(NamedTuple):
    """The plain form of an Ending.

    Attributes:
        where: "worker 0", "warm-up", "preload".
        value: what the body returned, pickled; None when it raised.
        lost: why the value could not be pickled.
        error: what it raised, or what else makes the call fail, pickled.
        report: pytest's own report of the error, serialized by pytest's hook.
        late: what its teardown raised: (pickled error, serialized report).
        reports: of subtests, pickled.
        warnings: (pickled, file, line).
        properties, marks: what the body added to the test, pickled.
        sections: (name, text) of what was captured in that process, or added to the report there.
    """

    where: str
    value: bytes | None
    lost: str | None
    error: bytes | None
    report: dict[str, Any] | None
    late: list[tuple[bytes, dict[str, Any] | None]]
    reports: list[bytes]
    warnings: list[tuple[bytes, str, int]]
    properties: list[bytes]
    marks: list[bytes]
    sections: list[_Section]

    @property
    def failed(self) -> bool:
        """Whether pytest would call it anything but passed."""
        return self.error is not None or bool(self.late)


class Ending:
    """How a body ended; turns into a Told on its way through a pipe."""

    __slots__ = ("error", "harvest", "keep", "value", "where")

    def __init__(
        self,
        harvest: Harvest,
        where: str | int,
        value: Any = None,
        error: BaseException | None = None,
        keep: bool = True,
    ) -> None:
        self.harvest = harvest
        self.where = where  # a worker's index; its text is made later
        self.value = value
        self.error = error
        self.keep = keep

    def __reduce__(self) -> tuple[type[Told], tuple[Any, ...]]:
        return Told, tuple(self.tell())

    def tell(self) -> Told:
        """Let pytest say what there is to say, in this process."""
        in_worker = isinstance(self.where, int)
        where = f"worker {self.where}" if in_worker else str(self.where)
        item = self.harvest.item
        sections = _captured(item, where)
        found = self.harvest.end(None if self.keep else self.value, self.error, in_worker)
        value = error = lost = report = None
        if found["error"] is not None:
            error = _dump_error(found["error"])
            report = _serialized(item, found["report"])
        else:
            try:
                value = pickle.dumps(self.value if self.keep else None, pickle.HIGHEST_PROTOCOL)
            except BaseException as problem:
                lost = (
                    f"{where} returned a {type(self.value).__name__} that cannot be pickled: "
                    f"{error_text(problem)}. Return plain data, or None"
                )
        return Told(
            where,
            value,
            lost,
            error,
            report,
            dump_late(item, found["late"]),
            [_dump_report(item, entry) for entry in found["reports"]],
            [(_dump_error(w.message, str(w.message)), w.filename, w.lineno) for w in found["warnings"]],
            [_dump_property(*entry) for entry in found["properties"]],
            [data for data in map(_dump_mark, found["marks"]) if data is not None],
            sections + [(f"{name} ({where})", text) for name, text in found["sections"]],
        )


def attempt(harvest: Harvest, where: str, work: Callable[[], Any], keep: bool = True) -> tuple[Any, Told]:
    """WORK's value, and what pytest says of it; not KEEP: WORK is a test's own function."""
    value = error = None
    harvest.begin()
    try:
        value = work()
    except BaseException as raised:
        error = raised
    told = Ending(harvest, where, None if keep else value, error, keep).tell()
    return value, told._replace(value=None, lost=None)


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


def _dump_error(error: BaseException, text: str | None = None) -> bytes:
    """The exception itself where that works, else one of the nearest class that has a name
    in a module: a class that the test defines locally has none, its base does. TEXT is what that
    one says."""
    text = error_text(error) if text is None else text
    if isinstance(error, pytest.FixtureLookupError):  # pytest wants to ask it for the request
        error = pytest.fail.Exception(text, pytrace=False)
    if type(error) in _OUTCOMES:
        told = _Outcome(_OUTCOMES.index(type(error)), str(getattr(error, "msg", error)))
        return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)
    with contextlib.suppress(BaseException):
        data = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        again = pickle.loads(data)
        if type(again) is type(error) and error_text(again):
            return data
    for kind in type(error).__mro__:
        with contextlib.suppress(BaseException):
            data = pickle.dumps(_Rebuilt(kind, text), pickle.HIGHEST_PROTOCOL)
            if error_text(pickle.loads(data)):
                return data
    return pickle.dumps(_Rebuilt(Exception, text))


def _dump_report(item: pytest.Item, report: Any) -> bytes:
    """A subtest's. pytest's hook for this changes it: its arguments are shown by their repr twice."""
    with contextlib.suppress(BaseException):
        data = pickle.dumps(report, pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)
        return data
    data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
    return pickle.dumps(data, pickle.HIGHEST_PROTOCOL)


def _dump_property(name: str, value: object) -> bytes:
    with contextlib.suppress(BaseException):
        return pickle.dumps((name, value), pickle.HIGHEST_PROTOCOL)
    return pickle.dumps((name, repr(value)), pickle.HIGHEST_PROTOCOL)


def _dump_mark(mark: pytest.Mark) -> bytes | None:
    """None: it has arguments that cannot be pickled, and says nothing in another process."""
    with contextlib.suppress(BaseException):
        return pickle.dumps((mark.name, mark.args, mark.kwargs), pickle.HIGHEST_PROTOCOL)
    return None


def dump_late(item: pytest.Item, late: list[BaseException]) -> list[tuple[bytes, dict[str, Any] | None]]:
    """What the teardown of a body raised, as a Told has it."""
    told = []
    for error in late:
        report: Any = None
        with contextlib.suppress(Exception):
            report = pytest.TestReport.from_item_and_call(item, _call_that_raised(error, "teardown"))
        told.append((_dump_error(error), _serialized(item, report)))
    return told


def load_error(data: bytes) -> BaseException:
    """What _dump_error() made. It has been loaded in the process that made it, but may fail here."""
    try:
        error = pickle.loads(data)
    except BaseException as problem:
        return RuntimeError(f"an exception that cannot be rebuilt here: {error_text(problem)}")
    if isinstance(error, BaseException):
        return error
    return RuntimeError(f"an exception that came back as a {type(error).__name__}")


def load_value(told: Told) -> tuple[Any, str | None]:
    """What a body returned, and why it cannot be had."""
    assert told.value is not None
    try:
        return pickle.loads(told.value), None
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        return None, f"{told.where} returned what cannot be unpickled here: {error_text(problem)}. Return plain data"


def _call_that_raised(error: BaseException, when: Any) -> pytest.CallInfo[None]:
    def again() -> None:
        raise error

    return pytest.CallInfo.from_call(again, when=when, reraise=None)


def _serialized(item: pytest.Item, report: Any) -> dict[str, Any] | None:
    """REPORT as pytest's hook has it for another process; None: it cannot be had."""
    if report is None:
        return None
    report.sections.clear()
    report.user_properties.clear()
    with contextlib.suppress(Exception):
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        if isinstance(data, dict):
            return data
    return None


# --- in the session's process -------------------------------------------------------

LATE = pytest.StashKey["list[tuple[BaseException, dict[str, Any] | None]]"]()


def dump_warning(warning: warnings.WarningMessage) -> list[Any]:
    """A recorded warning as JSON has it."""
    data = _dump_error(cast(Warning, warning.message), str(warning.message))
    return [data.hex(), warning.filename, warning.lineno]


def show_warnings(dumped: list[list[Any]]) -> None:
    """Record here what dump_warning() made in another process."""
    for data, file, line in dumped:
        _show(load_error(bytes.fromhex(data)), file, line)


def _show(warning: BaseException, file: str, line: int) -> None:
    # The session records it; whether it is an error was decided where it was raised.
    if isinstance(warning, Warning):
        warnings.showwarning(warning, type(warning), file, line)


def spokesman(tolds: list[Told]) -> Told | None:
    """Whose words are the test's: the first body that failed, else the first worker's."""
    failed = [told for told in tolds if told.failed]
    workers = [told for told in tolds if told.where.startswith("worker ")]
    return next(iter(failed + workers + tolds), None)


def bring(item: pytest.Item, tolds: list[Told]) -> None:
    """Tell pytest what bodies told in other processes, as if one of them had run here."""
    chosen = spokesman(tolds)
    if chosen is None:
        return
    for told in tolds:
        for title, text in told.sections:
            item.add_report_section("call", title, text)
    said: set[tuple[type, str, int]] = set()
    for told in (chosen, *tolds):
        heard = [(load_error(data), file, line) for data, file, line in told.warnings]
        new = {(type(warning), file, line) for warning, file, line in heard} - said
        for warning, file, line in heard:
            if (type(warning), file, line) in new:
                _show(warning, file, line)
        said |= new
    item.user_properties += map(pickle.loads, chosen.properties)
    for name, arguments, keywords in map(pickle.loads, chosen.marks):
        item.add_marker(getattr(pytest.mark, name)(*arguments, **keywords))
    for report in map(pickle.loads, chosen.reports):
        if isinstance(report, dict):
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=report)
        item.ihook.pytest_runtest_logreport(report=report)
    late = [(load_error(data), report) for data, report in chosen.late]
    item.stash[LATE] = late
    for error, _ in late:
        item.addfinalizer(functools.partial(_raise, error))


def _raise(error: BaseException) -> None:
    raise error


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
