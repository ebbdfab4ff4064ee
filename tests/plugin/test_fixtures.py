"""The fixtures `cow` and `assert_no_cow`: figures, wrong arguments, failures."""

from __future__ import annotations

import pytest
from helpers.plugin import needs_immortal, project, run

pytest_plugins = ["pytester"]


# --- cow.run ------------------------------------------------------------------------


@needs_immortal
def test_run_returns_figures_and_results(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
import json

def test_it(cow, data):
    result = cow.run(read, preload="data", workers=3)
    assert result.results == (read(data),) * 3
    assert 0 < result.copied < 1 << 20
    assert 0 <= result.frozen_copied <= 16
    assert 0.9 < result.shared_ratio < 1
    assert result.faults >= result.copied // result.measured.page_size
    assert [worker.index for worker in result.workers] == [0, 1, 2]
    assert result.freeze == "data" and result.frozen_objects > 24000
    assert json.loads(json.dumps(result.to_dict()))["copied"] == result.copied
    assert "3 workers" in str(result)
    assert result.assert_shared() is result

def test_none(cow):
    result = cow.run(lambda data: change(data), preload=build, freeze="none")
    assert result.copied > 1 << 20
    assert result.frozen_copied is None and result.frozen_objects is None
    with pytest.raises(AssertionError, match="workers copied"):
        result.assert_shared()

def test_built_in_the_zygote(cow):
    global held
    held = None
    def load():
        global held
        held = build()
        return held
    assert cow.run(lambda data: len(data), preload=load).results == (8000, 8000)
    assert held is None

def test_two_fixtures(cow):
    result = cow.run(lambda data, path: path.name, preload=("data", "tmp_path"))
    assert result.results[0].startswith("test_two_fixtures")

def test_whole_heap(cow, data):
    assert cow.run(lambda: read(data)).freeze == "heap"
""",
    )
    run(pytester).assert_outcomes(passed=5)


def test_wrong_arguments_of_the_fixtures_name_the_right_form(pytester: pytest.Pytester) -> None:
    cases = [
        ("cow.run(3)", "TypeError", "give a function"),
        ("cow.run(read, preload=[])", "TypeError", "preload=load"),
        ("cow.run(read, preload={})", "TypeError", "preload=load"),
        ("cow.run(read, preload=('data', 3))", "TypeError", "preload=load"),
        ("cow.run(read, workers=0)", "ValueError", "at least 1"),
        ("cow.run(read, warmup=-1)", "ValueError", "at least 0"),
        ("cow.run(read, freeze='all')", "ValueError", '"data", "heap" or "none"'),
        ("cow.run(read, freeze='data')", "ValueError", "needs preload="),
        ("cow.run(read, timeout=0)", "ValueError", "seconds above 0"),
        ("cow.run(len, preload=list).assert_shared('1 m')", "ValueError", "256 KiB"),
        ("cow.run(len, preload=list).assert_shared(max_frozen=-1)", "ValueError", "at least 0"),
        ("assert_no_cow('1 m')", "ValueError", "256 KiB"),
        ("assert_no_cow(max_frozen='2')", "ValueError", "at least 0"),
        ("assert_no_cow('2 MB')", "ValueError", "reason="),
        ("assert_no_cow(info=3)", "ValueError", "give a sentence"),
    ]
    project(
        pytester,
        *(
            f"def test_{number}(cow, assert_no_cow):\n"
            f"    with pytest.raises({error}) as caught:\n        {call}\n"
            f"    assert {form!r} in str(caught.value)\n"
            for number, (call, error, form) in enumerate(cases)
        ),
    )
    run(pytester).assert_outcomes(passed=len(cases))


def test_run_raises_what_the_function_raised(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
def fail(data):
    raise LookupError("in the worker")

def no_data():
    raise LookupError("in preload")

def test_caught(cow):
    with pytest.raises(LookupError, match="in the worker"):
        cow.run(fail, preload=build)
    with pytest.raises(LookupError, match="in preload"):
        cow.run(fail, preload=no_data)

def test_not_caught(cow):
    cow.run(fail, preload=build, warmup=0)

def test_lost(cow):
    cow.run(lambda: lambda: None)
""",
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines([">       raise LookupError*", "*function that cannot be pickled*"])


# --- assert_no_cow ------------------------------------------------------------------


@needs_immortal
def test_assert_no_cow(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
def test_reads(assert_no_cow):
    with assert_no_cow("512 KiB", info="the whole index") as measured:
        measured.run(read, preload="data")
        measured.run(read, preload=build)
    assert len(measured.results) == 2

def test_changes(assert_no_cow):
    with assert_no_cow(info="the whole index") as measured:
        measured.run(read, preload="data")
        measured.run(change, preload="data")

def test_nothing(assert_no_cow):
    with assert_no_cow():
        pass

def test_body_first(assert_no_cow):
    with assert_no_cow() as measured:
        measured.run(change, preload="data")
        raise LookupError("first")
""",
    )
    result = run(pytester, "--cow")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "E *PagesCopied: workers copied *",
            "E *the whole index",
            "*cow#2: pages*",
            "*Failed: nothing was measured in this context*",
            "E *LookupError: first",
            "test_it.py::test_reads#2 *shared",
            "COW test_it.py::test_changes*",
            "FAILED test_it.py::test_nothing*",
            "FAILED test_it.py::test_body_first*",
        ]
    )


def test_a_fixture_that_is_got_later_is_in_the_table(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
def test_later(request):
    request.getfixturevalue("cow").run(read, preload=build, freeze="none")

def test_without(request):
    pass
""",
    )
    result = run(pytester, "--cow-report=short")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_it.py::test_later *measured"])
    result.stdout.no_fnmatch_line("*test_without*")


def test_a_repeated_test_reports_its_last_attempt_only(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as the plugins that repeat tests do
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
        if report.when in ("call", "teardown"):
            names = [name for name, _ in report.user_properties]
            print(report.when, names.count("cow_verdict"), dict(report.user_properties)["cow_workers"])
            print("own", names.count("own"))
    return True
"""
    )
    project(
        pytester,
        """
attempts = []

def test_it(cow, record_property):
    attempts.append(1)
    record_property("own", len(attempts))
    cow.run(read, preload=build, freeze="none", workers=len(attempts))
""",
    )
    result = run(pytester, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*call 1 2", "own 2", "*teardown 1 2", "own 2"])
