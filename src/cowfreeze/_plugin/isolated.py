"""A test with isolated=True runs in a fresh interpreter: a pytest of its own, for it alone.

The process that collected the test neither sets it up nor runs it. It starts

    python -m pytest FILE::NAME        with this session's root, ini file and plugins

and shows the reports that come back in a file, much as pytest-forked does. So fixtures of a
wider scope are built once more there; that is the price for a heap without a history.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from typing import IO, Any

import pytest

from cowfreeze._plugin.marker import SETTINGS
from cowfreeze._plugin.outcome import dump_warning, show_warnings
from cowfreeze._workers.processes import signal_name

REPORTS = "COWFREEZE_PYTEST_REPORTS"
_WARNING = "warning"  # the key of a line that is no report
INNER = pytest.StashKey[bool]()  # this is the inner pytest
# Characters of the inner pytest's output in a failure; faulthandler's lists of C frames and
# extension modules are long.
_SHOWN = 20000


class Sender:
    """Plugin of the inner pytest: hands every report up."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        self._config = config
        os.set_inheritable(descriptor, False)
        self._file = open(descriptor, "w", encoding="utf-8", closefd=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        print(json.dumps(data, default=str), file=self._file, flush=True)

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str) -> None:
        """Those of collecting the session has itself."""
        if when == "runtest":
            warning = dump_warning(warning_message)
            print(json.dumps({_WARNING: warning}), file=self._file, flush=True)


def run_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run an isolated test; None for others."""
    settings = item.stash.get(SETTINGS, None)
    if settings is None or not settings.isolated or INNER in item.config.stash:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = _reports(item)
    teardown = reports.pop() if reports[-1].when == "teardown" else None
    here = _tear_down(item, nextitem)
    if teardown is None or not here.passed:
        teardown = here
    for report in (*reports, teardown):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _tear_down(item: pytest.Item, nextitem: pytest.Item | None) -> pytest.TestReport:
    """End the fixtures of wider scopes that the next test does not share. This test has set
    up nothing here, so the hook of a teardown would find nothing of what it wants to end."""
    state = item.session._setupstate
    call = pytest.CallInfo.from_call(lambda: state.teardown_exact(nextitem), when="teardown")
    return pytest.TestReport.from_item_and_call(item, call)


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    """What the inner pytest reports, and a failure when it ended before the test's body."""
    status, lines, output = _run_inner(item)
    # A process that is killed may leave half a line.
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    show_warnings([data[_WARNING] for data in told if _WARNING in data])
    kept = [_load(item, data) for data in told if _WARNING not in data]
    called = any(r.when == "call" or (r.when == "setup" and not r.passed) for r in kept)
    if not called:
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        kept.append(
            pytest.TestReport(
                nodeid=item.nodeid,
                location=item.location,
                keywords={name: 1 for name in item.keywords},
                outcome="failed",
                longrepr=(
                    f"the fresh interpreter {how} before the test was reported. It printed:\n"
                    f"{output[-_SHOWN:]}"
                ),
                when="call",
            )
        )
    return kept


def _load(item: pytest.Item, data: dict[str, Any]) -> pytest.TestReport:
    for key in ("user_properties", "sections"):  # JSON has no tuples
        data[key] = [tuple(entry) for entry in data.get(key, ())]
    data["location"] = item.location
    data["nodeid"] = item.nodeid
    if isinstance(data.get("longrepr"), list):  # (path, line, reason) of a skip
        data["longrepr"] = tuple(data["longrepr"])
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    assert isinstance(report, pytest.TestReport)
    return report


def _run_inner(item: pytest.Item) -> tuple[int, list[str], str]:
    """Exit status of the inner pytest, the lines it handed up, and what it printed."""
    caches = item.config.pluginmanager.hasplugin("cacheprovider")
    # Files and no pipes: a daemon that the test started may hold them as long as it likes.
    with (
        tempfile.TemporaryDirectory(prefix="cowfreeze-") as folder,
        tempfile.TemporaryFile() as reports,
        tempfile.TemporaryFile() as output,
    ):
        inner = subprocess.Popen(
            [*_command(item), *(["-o", f"cache_dir={folder}"] if caches else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(reports.fileno(),),
            env={**os.environ, REPORTS: str(reports.fileno())},
            cwd=item.config.invocation_params.dir,
        )
        try:
            inner.wait()
        except BaseException:
            inner.kill()
            inner.wait()
            raise
        return inner.returncode, _text(reports).splitlines(keepends=True), _text(output)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _command(item: pytest.Item) -> list[str]:
    """The same session for one test: root, ini file, plugins, selection and our options."""
    config = item.config
    option = config.option
    command = [sys.executable, "-m", "pytest", f"--rootdir={config.rootpath}"]
    if config.inipath is not None:
        command += ["-c", str(config.inipath)]
    for name in option.plugins:
        command += ["-p", name]
    for text in option.override_ini or ():
        command += ["-o", text]
    for text in option.pythonwarnings or ():
        command += ["-W", text]
    if option.markexpr:
        command += ["-m", option.markexpr]
    if option.keyword:
        command += ["-k", option.keyword]
    command += [f"--import-mode={option.importmode}", f"--capture={option.capture}"]
    if config.pluginmanager.hasplugin("xdist"):
        command.append("-n0")
    if config.pluginmanager.hasplugin("pytest_cov"):
        command.append("--no-cov")
    if option.cow_workers is not None:
        command.append(f"--cow-workers={option.cow_workers}")
    if option.cow_fail_on_increase is not None:
        command.append(f"--cow-fail-on-increase={option.cow_fail_on_increase:g}%")
    command += ["--cow-no-freeze"] * option.cow_no_freeze + ["--cow-explain"] * option.cow_explain
    name = item.nodeid[item.nodeid.index("::") :]
    return [*command, f"{item.path}{name}"]
