"""Whatever pytest would have reported from a body, gathered where the body ran.

A test's body tells pytest more than an exception: reports of its subtests, warnings, sections,
properties, marks, finalizers for later, exceptions that nobody catches in threads and in
``__del__``, and what plugins add when the report is made. All of that is in the memory of the
process that ran it, and would end with that process.

    zygote    Harvest(item)      reports now come here, and go to no terminal and no file
              begin()            what there is before
              the body           (in a worker: measured)
              end(error)         the rest of pytest's phases, for this body alone: uncaught
                                 exceptions, its own finalizers, the report
    pytest    outcome.bring()    what came home is told to pytest as if the body had run here

end() allocates and imports as it likes: it comes after the measuring (W1 of fork_workers).
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

# pytest's own, by the names under which it registers them: what they do at the end of a phase is
# done for the body. All others have their turn in the session's process, where the phase really is.
_AT_THE_END = ("threadexception", "unraisableexception")
# These have their say in the session's process about the same report.
_SKIPPING = "skipping"

IN_BODY = pytest.StashKey[bool]()  # this is a zygote, or a worker


class Harvest:
    """Made once, in the zygote; each body that runs there or in a worker begins and ends."""

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.reports: list[Any] = []
        self._error: BaseException | None = None
        self._value: Any = None
        self._pending: list[tuple[Any, str, Any]] = []
        item.stash[IN_BODY] = True
        logreport: Any = item.config.hook.pytest_runtest_logreport
        for implementation in list(logreport.get_hookimpls()):
            logreport._remove_plugin(implementation.plugin)
        item.config.pluginmanager.register(self, "cowfreeze-harvest")
        self.begin()
        self._at_first = self._finalizers

    def begin(self) -> None:
        """A body is about to run."""
        item = self.item
        self.reports.clear()
        self._sections = len(item._report_sections)
        self._properties = len(item.user_properties)
        self._marks = len(item.own_markers)
        self._finalizers = self._count_finalizers()
        self._fixtures = set(self._fixture_definitions())
        with warnings.catch_warnings():
            pass  # "once for each place" begins again
        self._warned = len(_warning_log())

    def end(self, value: Any, error: BaseException | None, in_worker: bool) -> dict[str, Any]:
        """What the body left, and what pytest says of it; ERROR is what it raised, VALUE what a
        test's own function returned.

        Keys: error (an exception or None), report (pytest's, of the call), late (exceptions of the
        teardown), reports (of subtests), warnings, sections, properties, marks.
        """
        __tracebackhide__ = True
        item = self.item
        if in_worker:
            gc.collect()  # what the body left in cycles has no other chance to complain
        self._pending = _caught_by_old_hooks()
        self._error, self._value = error, value
        call = pytest.CallInfo.from_call(partial(self._phase, "pytest_runtest_call"), "call", reraise=None)
        error = call.excinfo.value if call.excinfo is not None else None
        report: Any = self._hook("pytest_runtest_makereport", self._makes_no_report)(item=item, call=call)
        failed = sum(entry.failed for entry in self.reports)
        if error is None and report.failed:  # a plugin says so
            error = pytest.fail.Exception(report.longreprtext or "failed", pytrace=False)
        elif error is None and failed:
            report.outcome = "failed"
            report.longrepr = f"contains {failed} failed subtest{'s' if failed > 1 else ''}"
            error = pytest.fail.Exception(report.longrepr, pytrace=False)
        late = self._tear_down(self._finalizers, in_worker)
        late += self._late(partial(self._phase, "pytest_runtest_teardown", nextitem=None))
        log = _warning_log()
        warned = log[self._warned :]
        del log[self._warned :]  # a fixture's list (recwarn) is the next body's too
        return {
            "error": error,
            "report": report,
            "late": late,
            "reports": list(self.reports),
            "warnings": warned,
            "sections": [(name, text) for when, name, text in item._report_sections[self._sections :] if when == "call"],
            "properties": item.user_properties[self._properties :],
            "marks": item.own_markers[self._marks :],
        }

    def close(self) -> list[BaseException]:
        """In the zygote, at its end: finalizers of fixtures of a wider scope that a warm-up built."""
        return self._tear_down(self._at_first, True)

    # --- hooks; nothing calls them but this class --------------------------------------

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.reports.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        for module, name, caught in self._pending:
            getattr(module, name)(caught)
        self._pending = []
        if self._error is not None:
            raise self._error
        if self._value is not None:
            self._judge_value(self._value)

    def _judge_value(self, value: Any) -> None:
        """What pytest says of a test that returns something."""
        item: Any = self.item
        function = item.obj
        item.obj = lambda **arguments: value
        try:
            python = item.config.pluginmanager.get_plugin("python")
            self._hook("pytest_pyfunc_call", lambda plugin: plugin is not python)(pyfuncitem=item)
        finally:
            item.obj = function

    # --- the rest of pytest's phases ---------------------------------------------------

    def _phase(self, name: str, **more: Any) -> None:
        __tracebackhide__ = True
        manager = self.item.config.pluginmanager
        keep = [self, *map(manager.get_plugin, _AT_THE_END)]
        self._hook(name, lambda plugin: plugin not in keep)(item=self.item, **more)

    def _hook(self, name: str, is_left_out: Callable[[Any], bool]) -> Any:
        manager = self.item.config.pluginmanager
        return manager.subset_hook_caller(name, [p for p in manager.get_plugins() if is_left_out(p)])

    def _makes_no_report(self, plugin: Any) -> bool:
        manager = self.item.config.pluginmanager
        if manager.get_name(plugin) == _SKIPPING or getattr(plugin, "__name__", "") == "pytest_cowfreeze":
            return True
        # A project's own hooks may have effects, and have them once: in the session.
        return os.path.basename(getattr(plugin, "__file__", None) or "") == "conftest.py"

    def _tear_down(self, before: dict[Any, int], everything: bool) -> list[BaseException]:
        """Run the finalizers that were added since BEFORE, the last one first; the test's own, or
        EVERYTHING: those of its module and wider too. Returns what they raise."""
        stack: Any = self.item.session._setupstate.stack
        late: list[BaseException] = []
        for node in reversed(list(stack)):
            if node is not self.item and not everything:
                continue
            finalizers = stack[node][0]
            while len(finalizers) > before.get(node, 0):
                late += self._late(finalizers.pop())
        definitions = self._fixture_definitions()
        for name in set(definitions) - self._fixtures:
            if everything or definitions[name].scope == "function":
                del definitions[name]  # torn down: the next body builds its own
        return late

    @staticmethod
    def _late(work: Callable[[], object]) -> list[BaseException]:
        try:
            work()
        except BaseException as error:
            return [error]
        return []

    def _count_finalizers(self) -> dict[Any, int]:
        stack: Any = self.item.session._setupstate.stack
        return {node: len(finalizers) for node, (finalizers, _) in stack.items()}

    def _fixture_definitions(self) -> dict[str, Any]:
        found: dict[str, Any] = getattr(getattr(self.item, "_request", None), "_fixture_defs", {})
        return found


def _warning_log() -> list[warnings.WarningMessage]:
    """Where warnings are recorded now: by pytest, or by a fixture like recwarn; else empty."""
    module: Any = warnings
    log = getattr(module._showwarnmsg_impl, "__self__", None)  # catch_warnings puts log.append there
    if log is None and getattr(sys.flags, "context_aware_warnings", False):
        log = module._get_context().log
    return log if isinstance(log, list) else []


def _caught_by_old_hooks() -> list[tuple[Any, str, Any]]:
    """Uncaught exceptions that pytest before 8.4 keeps in a context of the session's frames, which
    do not go on in this process: (module, its hook, argument of the hook)."""
    found = []
    for module, name, field in ((threading, "excepthook", "args"), (sys, "unraisablehook", "unraisable")):
        keeper = getattr(getattr(module, name), "__self__", None)
        caught = getattr(keeper, field, None)
        if caught is not None:
            found.append((module, name, caught))
            with contextlib.suppress(AttributeError):
                setattr(keeper, field, None)
    return found
