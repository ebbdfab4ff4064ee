"""pytest plugin of cowfreeze: a test fails when its workers copy pages.

    @pytest.mark.cow(max_copied="512 KiB")
    def test_index_stays_shared(index):        # what each worker runs; `index` is frozen
        for word in WORDS:
            index.lookup(word)

This module holds hooks and nothing else. It is a package of its own, because pytest imports
an installed plugin at every start, and importing anything below ``cowfreeze`` first imports
``cowfreeze`` with its C core: a tenth of a second that every project in the environment would
pay, and an environment with a broken build could not start pytest at all. So cowfreeze is
imported by the first marker, option or fixture that needs it; all else stands in
``cowfreeze._plugin``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cowfreeze._plugin.fixtures import AssertNoCow, Cow

MARKER = (
    'cow(*, max_copied="1 MB", max_frozen=..., workers=2, warmup=1, freeze="data", preload=..., '
    "isolated=False, timeout=None, reason=None): the body of the test is what each of WORKERS "
    "forked workers runs, and the test fails when one of them copies more than MAX_COPIED bytes, "
    "or more than MAX_FROZEN pages with frozen objects. PRELOAD names the fixtures whose values "
    "are frozen before the fork (default: those that the test asks for)."
)
INI = {
    "cow_max_copied": "what a worker may copy where the marker does not say, such as 512 KiB",
    "cow_max_frozen": "how many copied pages may hold frozen objects where the marker does not say",
    "cow_workers": "how many workers a measurement has where the marker does not say",
    "cow_warmup": "how often the body runs before the fork where the marker does not say",
    "cow_report": "as --cow-report, for runs with --cow",
    "cow_figures": "file of --cow-save and --cow-fail-on-increase, from the root directory",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cow", "pages that forked workers copy (cowfreeze)")
    group.addoption(
        "--cow", action="store_true", help="print a table of what the workers of each test copied"
    )
    group.addoption(
        "--cow-explain",
        action="store_true",
        help="add the causes of the copied pages: type, field and line",
    )
    group.addoption(
        "--cow-report",
        type=_report,
        metavar="short|full|json:PATH",
        help="a line per test (short), a line per worker too (full), or a JSON file; implies --cow",
    )
    group.addoption(
        "--cow-workers",
        type=_workers,
        metavar="N",
        help="how many workers a measurement has where the marker does not say (default: 2)",
    )
    group.addoption(
        "--cow-no-freeze",
        action="store_true",
        help="baseline: freeze nothing, judge no limit, only show what is copied",
    )
    group.addoption(
        "--cow-save",
        action="store_true",
        help="save the figures of this run in the file that the ini key cow_figures names",
    )
    group.addoption(
        "--cow-fail-on-increase",
        type=_percent,
        metavar="PERCENT",
        help="fail tests whose workers copy more than the saved figures allow, such as 5%%",
    )
    for name, text in INI.items():
        parser.addini(name, text)


def _report(text: str) -> str:
    if text in ("short", "full") or (text.startswith("json:") and text != "json:"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no report: give short, full or json:PATH")


def _workers(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of workers: give an int of at least 1"
        )
    return int(text)


def _percent(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: give one such as 5%")
    return float(text[:-1])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    options = ("cow", "cow_explain", "cow_report", "cow_no_freeze", "cow_save")
    wanted = any(config.getoption(name) for name in options)
    if config.getoption("cow_fail_on_increase") is not None:
        wanted = True
    if wanted or os.environ.get("COWFREEZE_PYTEST_REPORTS") or any(map(config.getini, INI)):
        import cowfreeze

        if not cowfreeze.supported:
            return
        from cowfreeze._plugin import session

        session.start(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.getoption("cow_no_freeze"):
        return "cow: baseline run, nothing is frozen and no limit is judged (--cow-no-freeze)"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cow") is not None]
    if marked:
        import cowfreeze

        if not cowfreeze.supported:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"cowfreeze: {cowfreeze.unsupported_reason}"))
            return
        from cowfreeze._plugin import session

        session.check_items(config, marked)


def _is_ours(item: pytest.Item) -> bool:
    """Does the marker measure this test? Not where cowfreeze cannot work: there it is skipped."""
    if item.get_closest_marker("cow") is None:
        return False
    import cowfreeze

    return cowfreeze.supported


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not _is_ours(item):
        return None
    from cowfreeze._plugin import isolated

    return isolated.run_protocol(item, nextitem)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _is_ours(item):
        from cowfreeze._plugin import marker

        marker.refuse_wrong(item)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_ours(pyfuncitem):
        return None
    from cowfreeze._plugin import marker

    marker.run(pyfuncitem)
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    # The old kind of wrapper: the new one came with pluggy 1.2, which pytest 8.0 does have,
    # but a project that keeps an older pluggy does not.
    outcome = yield
    # Not the names of its fixtures: request.getfixturevalue("cow") adds none. Without that
    # module nothing was measured yet in this session.
    if "cowfreeze._plugin.marker" in sys.modules or _is_ours(item):
        from cowfreeze._plugin import verdict

        if call.when == "call":
            verdict.complete(item, call, outcome.get_result())
        elif call.when == "teardown":
            verdict.complete_teardown(item, call, outcome.get_result())


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    if report.failed and getattr(report, "when", "") == "call":
        properties = map(tuple, getattr(report, "user_properties", ()))
        if ("cow_verdict", "copied") in properties:
            return "failed", "C", "COW"
    return None


def _skip_where_unsupported() -> None:
    import cowfreeze

    if not cowfreeze.supported:
        pytest.skip(f"cowfreeze: {cowfreeze.unsupported_reason}")


@pytest.fixture
def cow(request: pytest.FixtureRequest) -> Cow:
    """Measure what forked workers copy: ``cow.run(func, preload="fixture", workers=2)``.

    ``run`` freezes in a child process and returns a result with ``copied``,
    ``frozen_copied``, ``shared_ratio``, ``faults``, ``workers`` and ``assert_shared()``.
    """
    _skip_where_unsupported()
    from cowfreeze._plugin.fixtures import Cow

    return Cow(request)


@pytest.fixture
def assert_no_cow(request: pytest.FixtureRequest) -> AssertNoCow:
    """A context manager that fails when workers run in it copy pages:
    ``with assert_no_cow(max_copied="256 KiB", info="the index") as measured: measured.run(func)``.
    """
    _skip_where_unsupported()
    from cowfreeze._plugin.fixtures import AssertNoCow

    return AssertNoCow(request)
