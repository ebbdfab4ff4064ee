"""Limits, saved figures and the report of one test."""

from __future__ import annotations

from typing import Any

import pytest

from cowfreeze._plugin import figures
from cowfreeze._plugin.marker import BODY, MEASURED, Measured
from cowfreeze._plugin.harvest import IN_BODY
from cowfreeze._plugin.outcome import LATE, longrepr
from cowfreeze._workers.report import PagesCopied

COPIED = "copied"  # over a limit, or above the saved figures
SHARED = "shared"
BASELINE = "baseline"  # --cow-no-freeze: not judged
MEASURED_ONLY = "measured"  # cow.run: the test itself judges

PROPERTIES = pytest.StashKey["list[tuple[str, object]]"]()  # of the attempt before, if repeated


def complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put figures, sections and verdict into the report of the test's call."""
    if IN_BODY in item.stash:
        return  # of a subtest, in another process: nothing is measured in there
    found = item.stash.get(MEASURED, [])
    error, body = item.stash.get(BODY, (None, None))
    # Plugins that repeat tests use the same item again.
    item.stash[MEASURED] = []
    item.stash[BODY] = (None, None)
    raised = call.excinfo.value if call.excinfo is not None else None
    if body is not None and raised is error and not hasattr(report, "wasxfail"):
        # Here the exception only went through the plugin; the body's lines are in this one.
        report.longrepr = longrepr(item, body)
    is_marked = item.get_closest_marker("cow") is not None
    if is_marked and report.passed and not found:
        _fail(
            report,
            "the marker cow was not obeyed: another plugin ran the body of this test, so nothing "
            "was measured",
        )
    if not found:
        return
    increase = ""
    if report.passed:
        increase = _increase(item, found)
        if increase:
            _fail(report, increase)
    is_copied = isinstance(raised, PagesCopied)
    verdict = COPIED if increase or (is_copied and report.failed) else _verdict(item, found)
    if is_marked and is_copied and report.failed and call.excinfo is not None:
        # One sentence: the traceback leads through the plugin and shows nothing.
        report.longrepr = call.excinfo.getrepr(style="value")
    if verdict == COPIED:
        for measured in found:
            report.sections.append((f"cow{measured.name}: pages", str(measured.result)))
            report.sections.append((f"cow{measured.name}: causes", _causes(measured)))
    elif item.config.getoption("cow_explain"):
        for measured in found:
            report.sections.append((f"cow{measured.name}: causes", _causes(measured)))
    properties = [entry for measured in found for entry in _properties(measured)]
    properties.append(("cow_verdict", verdict))
    before = item.stash.get(PROPERTIES, [])
    for owner in (report, item):  # JUnit takes them from the report of the teardown
        kept = [entry for entry in owner.user_properties if entry not in before]
        owner.user_properties[:] = kept + properties
    item.stash[PROPERTIES] = properties
    report.cow = [_plain(measured, verdict) for measured in found]  # type: ignore[attr-defined]


def complete_teardown(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Where a finalizer of a body failed in another process, show it as it was there."""
    raised = call.excinfo.value if call.excinfo is not None else None
    for error, body in item.stash.get(LATE, []):
        if raised is error and body is not None:
            report.longrepr = longrepr(item, body)
    item.stash[LATE] = []


def _verdict(item: pytest.Item, found: list[Measured]) -> str:
    if item.config.getoption("cow_no_freeze"):
        return BASELINE
    return SHARED if all(measured.judged for measured in found) else MEASURED_ONLY


def _fail(report: pytest.TestReport, text: str) -> None:
    report.outcome = "failed"
    report.longrepr = text


def _increase(item: pytest.Item, found: list[Measured]) -> str:
    percent = item.config.getoption("cow_fail_on_increase")
    if percent is None:
        return ""
    saved = figures.load(item.config)
    texts = [
        figures.compare(saved.get(item.nodeid + measured.name), measured.result, percent)
        for measured in found
    ]
    return "; ".join(text for text in texts if text)


def _causes(measured: Measured) -> str:
    explanation = measured.result.explanation
    return explanation.text or f"causes are {explanation.reason}"


def _properties(measured: Measured) -> list[tuple[str, object]]:
    """Plain figures: they go through JUnit's XML, xdist and pytest-forked. Unknown figures
    are left out; 0 would be the best result there is."""
    result = measured.result
    values = {
        "copied": result.copied,
        "frozen_copied": result.frozen_copied,
        "shared_ratio": None if result.shared_ratio is None else round(result.shared_ratio, 4),
        "faults": result.faults,
        "workers": len(result.workers),
        "freeze": result.freeze,
        "max_copied": measured.settings.max_copied if measured.judged else None,
        "max_frozen": measured.settings.max_frozen if measured.judged else None,
    }
    return [
        (f"cow_{key}{measured.name}", value) for key, value in values.items() if value is not None
    ]


def _plain(measured: Measured, verdict: str) -> dict[str, Any]:
    settings = measured.settings
    return {
        "name": measured.name,
        "verdict": verdict,
        "max_copied": settings.max_copied if measured.judged else None,
        "max_frozen": settings.max_frozen if measured.judged else None,
        "reason": settings.reason,
        **measured.result.to_dict(),
    }
