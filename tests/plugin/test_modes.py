"""The pytest plugin together with what else runs in a session: xdist, pytest-forked, a fresh
interpreter, threads, event loops, coverage, and many repetitions."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.plugin import CHANGES, DATA, LIGHT, READS, needs_immortal, project
from helpers.plugin import run_apart as run

from cowfreeze._plugin.figures import TOLERANCE

pytest_plugins = ["pytester"]


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def forked_works() -> bool:
    # pytest-forked marshals reports, and from pytest 9.2 on they hold what marshal refuses.
    return has("pytest_forked") and pytest.version_tuple[:2] < (9, 2)


needs_xdist = pytest.mark.skipif(not has("xdist"), reason="pytest-xdist is not installed")
needs_forked = pytest.mark.skipif(
    not forked_works(), reason="pytest-forked is not installed, or too old for this pytest"
)
needs_coverage = pytest.mark.skipif(not has("coverage"), reason="coverage is not installed")


FAILS = "@pytest.mark.cow\ndef test_fails(data):\n    print('said before')\n    assert not data\n"
RUNS = (
    "def test_run(cow):\n    cow.run(read, preload=build)\n"
    "def test_no_cow(assert_no_cow):\n"
    "    with assert_no_cow() as measured:\n        measured.run(read, preload=build)\n"
)


@needs_immortal
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="plain"),
        pytest.param(("-n2",), marks=needs_xdist, id="xdist"),
        pytest.param(("--forked",), marks=needs_forked, id="forked"),
        pytest.param(("-n2", "--forked"), marks=[needs_forked, needs_xdist, pytest.mark.slow], id="both"),
        pytest.param(
            ("-n2", "-W", "error"),
            marks=[needs_xdist, pytest.mark.slow],
            id="xdist-warnings-are-errors",
        ),
    ],
)
def test_the_same_in_every_mode(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    project(pytester, READS, CHANGES, FAILS, RUNS)
    result = run(pytester, "--cow-report=json:report.json", "--junitxml=junit.xml", *options)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "workers copied * (limit 977 KiB): *",
            "*cow: pages*",
            "*cow: causes*",
            "E       *assert not {*",
            "said before",
            "COW test_it.py::test_changes*",
            "FAILED test_it.py::test_fails*",
        ]
    )
    tests = {test["nodeid"]: test for test in json.loads(Path("report.json").read_text())["tests"]}
    verdicts = {name.partition("::")[2]: test["verdict"] for name, test in tests.items()}
    assert verdicts == {
        "test_reads": "shared",
        "test_changes": "copied",
        "test_run": "measured",
        "test_no_cow": "shared",
    }
    assert 'name="cow_verdict" value="copied"' in Path("junit.xml").read_text()


@needs_xdist
@needs_immortal
def test_options_work_under_xdist(pytester: pytest.Pytester) -> None:
    project(pytester, READS, LIGHT)
    run(pytester, "-n2", "--cow-save").stdout.fnmatch_lines(["2 figures saved in *"])
    result = run(pytester, "-n2", "--cow-fail-on-increase=5%", "--cow-workers=3", "--cow")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["test_it.py::test_reads *", "test_it.py::test_light *"])


@needs_xdist
def test_a_wrong_marker_fails_under_xdist(pytester: pytest.Pytester) -> None:
    project(pytester, "@pytest.mark.cow(workers=0)\ndef test_wrong():\n    pass\n")
    result = run(pytester, "-n2")
    result.assert_outcomes(errors=1)
    assert "give an int of at least 1" in result.stdout.str() + result.stderr.str()


@needs_xdist
def test_wrong_saved_figures_stop_xdist(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT)
    result = run(pytester, "-n2", "--cow-fail-on-increase=5%")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Run pytest --cow-save here first" in result.stderr.str()


# --- a fresh interpreter ------------------------------------------------------------


@needs_immortal
@pytest.mark.parametrize(
    "options",
    [(), pytest.param(("-n2",), marks=[needs_xdist, pytest.mark.slow])],
    ids=["plain", "xdist"],
)
def test_isolated(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    marked = [
        test.replace("@pytest.mark.cow\n", "@pytest.mark.cow(isolated=True)\n")
        for test in (READS, CHANGES, FAILS)
    ]
    project(
        pytester,
        *marked,
        "import os, sys\n"
        "RAN_BEFORE = []\n"
        "def test_before():\n    RAN_BEFORE.append(1)\n"
        "@pytest.mark.cow(isolated=True)\n"
        "@pytest.mark.parametrize('value', ['a b', 'c::d[e]'])\n"
        "def test_fresh(value, data):\n"
        "    assert not RAN_BEFORE\n",
        "@pytest.mark.cow(isolated=True)\n"
        "def test_skipped():\n    pytest.skip('not today')\n",
        "@pytest.mark.cow(isolated=True)\n"
        "def test_no_setup(missing):\n    pass\n",
    )
    result = run(pytester, "--cow-report=json:report.json", "-rsfE", *options)
    result.assert_outcomes(passed=4, failed=2, skipped=1, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "workers copied *",
            "COW test_it.py::test_changes*",
            "FAILED test_it.py::test_fails*",
            "ERROR test_it.py::test_no_setup*",
            "SKIPPED * test_it.py:*: not today",
            "E *fixture 'missing' not found",
            "said before",
        ]
    )
    tests = json.loads(Path("report.json").read_text())["tests"]
    verdicts = {test["nodeid"].partition("::")[2]: test["verdict"] for test in tests}
    assert verdicts["test_reads"] == "shared" and verdicts["test_changes"] == "copied"
    assert verdicts["test_fresh[c::d[e]]"] == "shared"


def test_warnings_and_finalizers_of_an_isolated_body(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "import warnings",
        "@pytest.mark.cow(isolated=True)\n"
        "def test_it(data, request):\n"
        "    warnings.warn('from an isolated body')\n"
        "    request.addfinalizer(lambda: 1 / 0)\n",
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1, warnings=1)
    result.stdout.fnmatch_lines_random(["*UserWarning: from an isolated body*", "E*ZeroDivisionError*"])


def test_isolated_between_packages(pytester: pytest.Pytester) -> None:
    """The next test finds the fixtures' scopes as if the isolated one had run here."""
    for name in ("one", "two"):
        pytester.mkpydir(name)
        Path(name, f"test_{name}.py").write_text(
            DATA
            + "@pytest.fixture(scope='package', autouse=True)\n"
            + "def scope():\n    yield\n    print('torn down')\n"
            + "def test_before(): pass\n"
            + "@pytest.mark.cow(isolated=True)\ndef test_it(data): pass\n"
        )
    run(pytester, "-s").assert_outcomes(passed=4)


def test_isolated_and_the_interpreter_dies(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "import os\n"
        "@pytest.fixture\ndef bad():\n    print('last words', flush=True)\n    os.abort()\n"
        "@pytest.mark.cow(isolated=True)\ndef test_it(bad):\n    pass\n"
        "def test_next(): pass\n",
        ini="addopts = -s",
    )
    # The outer process does not set up the test: only the inner one dies.
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert "was killed by SIGABRT before the test was reported" in text
    assert "last words" in text


def test_a_daemon_that_an_isolated_test_leaves(pytester: pytest.Pytester) -> None:
    """It holds the inner pytest's streams and descriptors; nobody waits for it."""
    project(
        pytester,
        "import os, time\n"
        "@pytest.fixture(scope='module')\n"
        "def daemon():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        time.sleep(100)\n"
        "        os._exit(0)\n"
        "    open('pid', 'w').write(str(pid))\n"
        "@pytest.mark.cow(isolated=True)\n"
        "def test_it(daemon):\n    pass\n",
        ini="addopts = -s",
    )
    start = time.monotonic()
    run(pytester).assert_outcomes(passed=1)
    assert time.monotonic() - start < 90
    os.kill(int(Path("pid").read_text()), signal.SIGKILL)


def test_isolated_keeps_the_options_of_the_session(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "@pytest.mark.cow(isolated=True)\ndef test_it(data):\n    change(data)\n",
        ini="cow_workers = 3\nmarkers = slow\naddopts = -m 'not slow'",
    )
    result = run(pytester, "--cow-no-freeze", "--cow-report=full", "-o", "cow_warmup=0")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it * baseline", "  worker 2 returned *"])


def test_a_pytest_that_an_isolated_test_starts(pytester: pytest.Pytester) -> None:
    """It is not the inner one, whose pipe it must not write to; and nobody needs the cache."""
    project(
        pytester,
        "import subprocess, sys\n"
        "@pytest.mark.cow(isolated=True, max_copied='64 MB', max_frozen=99999, reason='it starts a program')\n"
        "def test_it(tmp_path_factory):\n"
        "    folder = tmp_path_factory.mktemp('nested')\n"
        "    (folder / 'test_nested.py').write_text('def test_nested(): pass')\n"
        "    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(folder)]\n"
        "    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)\n"
        "    assert done.returncode == 0 and '1 passed' in done.stdout, done\n",
    )
    run(pytester, "--strict-config").assert_outcomes(passed=1)


def test_a_warm_up_that_does_not_end(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import cowfreeze._plugin.measure\ncowfreeze._plugin.measure._AROUND = 0.1\n")
    project(
        pytester,
        "import time\n@pytest.mark.cow(timeout=0.5)\ndef test_it():\n    time.sleep(600)\n",
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the zygote was killed after 1.6 s: * did not end in the warm-up*"])


# --- what else lives in the session -------------------------------------------------


@needs_immortal
def test_threads_and_a_running_event_loop(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
import asyncio, threading, time

@pytest.fixture
def thread():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield thread
    assert thread.is_alive()
    stop.set()
    thread.join()

@pytest.mark.cow(preload="data")
def test_threads(thread, data):
    read(data)
    assert threading.active_count() == 1

def test_loop(cow):
    async def main():
        before = asyncio.get_running_loop()
        async def inner():
            await asyncio.sleep(0)
            return 7
        assert cow.run(lambda: asyncio.run(inner())).results == (7, 7)
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is before
    assert asyncio.run(main())
""",
    )
    run(pytester, "-W", "error").assert_outcomes(passed=2)


@needs_immortal
@needs_coverage
@pytest.mark.parametrize("core", ["ctrace", "sysmon"])
def test_coverage_of_the_session_goes_on(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, core: str
) -> None:
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with 3.12")
    monkeypatch.setenv("COVERAGE_CORE", core)
    project(pytester, READS, "def test_after():\n    marker = 1\n    assert marker\n")
    pytester.run(
        sys.executable, "-m", "coverage", "run", "--include=test_it.py",
        "-m", "pytest", "-p", "no:cacheprovider", "--cow-report=full",
    ).assert_outcomes(passed=2)  # fmt: skip
    report = pytester.run(sys.executable, "-m", "coverage", "json", "-o", "coverage.json")
    assert report.ret == 0
    executed = json.loads(Path("coverage.json").read_text())["files"]["test_it.py"]
    lines = Path("test_it.py").read_text().splitlines()
    assert lines.index("    marker = 1") + 1 in executed["executed_lines"]


def test_the_session_is_left_as_it_was(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
import faulthandler, os, signal, sys
import psutil

def state():
    return (
        sorted(os.listdir("/proc/self/fd")),
        psutil.Process().children(recursive=True),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        signal.getsignal(signal.SIGCHLD),
        faulthandler.is_enabled(),
        sys.gettrace(),
    )

def test_it(cow, data):
    cow.run(read, preload="data")
    before = state()
    for _ in range(3):
        cow.run(read, preload="data")
        with pytest.raises(LookupError):
            cow.run(lambda: {}[1])
    assert state() == before
""",
    )
    run(pytester).assert_outcomes(passed=1)


def test_an_application_that_ignores_or_handles_SIGCHLD(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
import os, signal

def reap(number, frame):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

@pytest.mark.parametrize("handler", [signal.SIG_IGN, reap])
def test_it(cow, data, handler):
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        assert cow.run(lambda: 3).results == (3, 3)
    finally:
        signal.signal(signal.SIGCHLD, before)
""",
    )
    run(pytester).assert_outcomes(passed=2)


# --- the same verdict every time ----------------------------------------------------


def repeated(pytester: pytest.Pytester, times: int) -> None:
    """Three tests, TIMES each: one that only reads, one that copies, one that allocates."""
    pytester.makepyfile(
        test_it=DATA
        + f"""
import gc
times = pytest.mark.parametrize("time", range({times}))

@times
@pytest.mark.cow(preload="data")
def test_reads(data, time):
    read(data)
    gc.collect()

@times
@pytest.mark.cow(preload="data")
def test_changes(data, time):
    change(data)

@times
@pytest.mark.cow(preload="data", max_copied="512 KiB")
def test_reads_and_makes_strings(data, time):
    for values in data.values():
        str(values)
"""
    )


def spread(tests: list[dict[str, Any]], name: str) -> tuple[int, int, int]:
    values = sorted(test["copied"] for test in tests if f"::{name}[" in test["nodeid"])
    return values[0], values[len(values) // 2], values[-1]


@needs_immortal
@pytest.mark.parametrize(
    ("times", "options"),
    [
        pytest.param(4, (), id="4"),
        pytest.param(50, (), marks=pytest.mark.slow, id="50"),
        pytest.param(50, ("-n2",), marks=[pytest.mark.slow, needs_xdist], id="50-xdist"),
    ],
)
def test_verdicts_never_change(
    pytester: pytest.Pytester, times: int, options: tuple[str, ...]
) -> None:
    repeated(pytester, times)
    result = run(pytester, "--cow-report=json:report.json", *options)
    result.assert_outcomes(passed=2 * times, failed=times)
    tests = json.loads(Path("report.json").read_text())["tests"]
    assert len(tests) == 3 * times
    for name, verdict in (
        ("test_reads", "shared"),
        ("test_changes", "copied"),
        ("test_reads_and_makes_strings", "shared"),
    ):
        verdicts = {test["verdict"] for test in tests if f"::{name}[" in test["nodeid"]}
        assert verdicts == {verdict}
        low, middle, high = spread(tests, name)
        frozen = [test["frozen_copied"] for test in tests if f"::{name}[" in test["nodeid"]]
        print(f"{name}: copied {low} .. {middle} .. {high}, frozen {min(frozen)} .. {max(frozen)}")
        # The saved figures allow as much for a test that reads. One that allocates much gets a
        # fifth: appending moves lists to whatever is free in the session by then.
        assert high - low <= max(TOLERANCE, middle * 0.2)
