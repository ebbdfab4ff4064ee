"""Options at the start of a session; the table and the files at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cowfreeze._files import check_writable, write_whole
from cowfreeze._plugin import figures, isolated, marker, settings
from cowfreeze._plugin.result import warmup_text
from cowfreeze._plugin.settings import WrongSetting
from cowfreeze._tables import UNKNOWN, count_cell, size_cell

_NAME = "cowfreeze-session"


def start(config: pytest.Config) -> None:
    """Check options and ini keys, and take part in the session.

    Raises:
        pytest.UsageError: a value is wrong; the text names the right form.
    """
    try:
        settings.defaults(config)
        _report_form(config)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"cow: {error}") from None
    # A pytest that the test itself starts is neither inner, nor may it report.
    descriptor = os.environ.pop(isolated.REPORTS, None)
    if config.getoption("cow_fail_on_increase") is not None:
        figures.load(config)
    if descriptor:
        config.stash[isolated.INNER] = True
        config.pluginmanager.register(isolated.Sender(config, int(descriptor)), _NAME)
    elif not hasattr(config, "workerinput"):
        _check_files(config)
        # With xdist the reports of all workers come by in the controlling process.
        config.pluginmanager.register(Session(config), _NAME)


def _report_form(config: pytest.Config) -> str | None:
    """What is to be shown at the end: short, full, json:PATH or None."""
    form = config.getini("cow_report") or "short"
    if form not in ("short", "full") and not (form.startswith("json:") and form != "json:"):
        raise ValueError(f"cow_report={form!r} is no report: give short, full or json:PATH")
    option: str | None = config.getoption("cow_report")
    if option is not None:
        return option
    asked = config.getoption("cow") or config.getoption("cow_explain")
    return form if asked or config.getoption("cow_no_freeze") else None


def _check_files(config: pytest.Config) -> None:
    """Find out before the tests what could not be written after them."""
    form = _report_form(config)
    if form is not None and form.startswith("json:"):
        try:
            check_writable(_json_file(config, form))
        except OSError as error:
            raise pytest.UsageError(f"--cow-report={form}: {error.strerror}") from None
    if config.getoption("cow_save"):
        figures.check(config)


def _json_file(config: pytest.Config, form: str) -> Path:
    return config.rootpath / form[len("json:") :]


def check_items(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers of all tests at once.

    Raises:
        pytest.UsageError: one line per wrong marker. (Not in a worker of xdist, whose
            controller takes that for a crash; there each of these tests fails instead.)
    """
    wrong: dict[pytest.Item, str] = {}
    for item in items:
        try:
            marker.check(item)
        except WrongSetting as error:
            wrong[item] = f"{item.nodeid}: the marker cow {_verb(str(error))}"
    if hasattr(config, "workerinput"):
        for item, text in wrong.items():
            item.stash[marker.WRONG] = text
    elif wrong:
        raise pytest.UsageError("\n".join(wrong.values()))


def _verb(text: str) -> str:
    """Errors about the marker as a whole begin with a verb, those about a value do not."""
    return text if text.startswith(("has ", "takes ", "stands ")) else f"is wrong: {text}"


class Session:
    """Collects what was measured from the reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._form = _report_form(config)
        self._measured: list[tuple[str, dict[str, Any]]] = []
        self._notes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for measured in getattr(report, "cow", ()):
            self._measured.append((report.nodeid + measured["name"], measured))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # Nothing may be raised here: pytest would print neither failures nor summary.
        if self._form is not None and self._form.startswith("json:"):
            file = _json_file(self._config, self._form)
            try:
                self._write_json(file)
            except OSError as error:
                self._fail(session, f"--cow-report={self._form}: {error.strerror}")
        if self._config.getoption("cow_save"):
            known = {n: m for n, m in self._measured if m["copied"] is not None}
            try:
                file = figures.save(self._config, known)
                self._notes.append(f"{len(known)} figures saved in {file}")
            except (OSError, pytest.UsageError) as error:
                self._fail(session, f"--cow-save: {error}")

    def _fail(self, session: pytest.Session, text: str) -> None:
        self._notes.append(f"ERROR: {text}")
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _write_json(self, file: Path) -> None:
        content = {
            "environment": figures.environment(),
            "tests": [{"nodeid": name, **measured} for name, measured in self._measured],
        }
        write_whole(file, json.dumps(content, indent=2, default=str) + "\n")
        self._notes.append(f"{len(self._measured)} measurements written to {file}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        out = terminalreporter
        show = self._form in ("short", "full")
        if not show and not self._notes:
            return
        out.section("cow: pages that workers copied")
        if show and not self._measured:
            out.write_line("no test of this run measured anything")
        elif show:
            for line in self._table():
                out.write_line(line)
            if self._config.getoption("cow_explain"):
                self._write_causes(out)
        for note in self._notes:
            out.write_line(note)

    def _table(self) -> list[str]:
        rows: list[tuple[str, ...]] = []
        rows.append(("test", "copied", "limit", "frozen", "shared", "faults", "freeze", "verdict"))
        for name, measured in self._measured:
            ratio = measured["shared_ratio"]
            limit = measured["max_copied"]
            rows.append(
                (
                    name,
                    size_cell(measured["copied"]),
                    "" if limit is None else size_cell(limit),
                    "" if measured["freeze"] == "none" else count_cell(measured["frozen_copied"]),
                    UNKNOWN if ratio is None else f"{ratio:.1%}",
                    count_cell(measured["faults"]),
                    measured["freeze"],
                    measured["verdict"],
                )
            )
            if (measured["warmup_frozen"] or 0) > settings.MAX_FROZEN_BY_WARMUP:
                rows.append((f"  note: {warmup_text(measured['warmup_frozen'])}", *[""] * 7))
            if self._form == "full":
                rows += self._worker_rows(measured)
        # A note's line has no cells, and must not widen the column of the names.
        widths = [max(len(row[column]) for row in rows if any(row[1:])) for column in range(len(rows[0]))]
        lines = []
        for row in rows:
            first, *others = row
            cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        return lines

    @staticmethod
    def _worker_rows(measured: dict[str, Any]) -> list[tuple[str, ...]]:
        page = measured["measured"]["page_size"]
        rows: list[tuple[str, ...]] = []
        for worker in measured["measured"]["workers"]:
            copied = worker["copied_pages"]
            rows.append(
                (
                    f"  worker {worker['index']} {worker['status']}",
                    size_cell(None if copied is None else copied * page),
                    "",
                    ""
                    if measured["freeze"] == "none"
                    else count_cell(worker["frozen_copied_pages"]),
                    "",
                    count_cell(worker["minor_faults"]),
                    "",
                    "",
                )
            )
        rows += [(f"  note: {note}", *[""] * 7) for note in measured["notes"]]
        return rows

    def _write_causes(self, out: pytest.TerminalReporter) -> None:
        reasons = {}
        for name, measured in self._measured:
            explanation = measured["explanation"]
            if explanation["text"] is not None:
                out.write_line(f"\ncauses of {name}:")
                out.write_line(explanation["text"])
            else:
                reasons[explanation["reason"]] = True
        for reason in reasons:
            out.write_line(f"causes are {reason}")
