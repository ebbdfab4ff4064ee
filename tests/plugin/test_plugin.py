"""The marker `cow`: verdicts, failures, and that nothing passes by accident."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.plugin import CHANGES, LIGHT, READS, needs_immortal, project, run

import cowfreeze
from cowfreeze import _core

pytest_plugins = ["pytester"]


# --- verdicts of the marker ---------------------------------------------------------


@needs_immortal
def test_reading_passes_and_changing_fails(pytester: pytest.Pytester) -> None:
    project(pytester, READS, CHANGES)
    result = run(pytester, "--cow", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines(
        [
            r"workers copied \d+(\.\d)? MiB \(limit 977 KiB\): [\d,]+ pages, [\d,]+ with frozen "
            r"objects \(limit 16\); [\d.]+% of the inherited memory was not copied",
            r"-+ cow: pages -+",
            r" worker +copied +frozen .*",
            r" 0 returned .*",
            r" 1 returned .*",
            r"-+ cow: causes -+",
            r"test_it.py::test_reads .* +data +shared",
            r"test_it.py::test_changes .* +data +copied",
            r"COW test_it.py::test_changes - .*PagesCopied.*",
        ]
    )


def test_the_letter_is_C(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT, CHANGES)
    result = run(pytester)
    result.stdout.fnmatch_lines(["test_it.py .C*"])
    assert result.ret == 1


@needs_immortal
@pytest.mark.parametrize(
    ("arguments", "passes"),
    [
        ('max_copied="512 KiB"', True),
        ('max_copied="4 KiB"', False),
        ('freeze="none"', False),
        ('freeze="heap"', True),
        ('freeze="data"', True),
        ('freeze="none", max_copied="64 MB", reason="it is small"', True),
        ('preload="data"', True),
        ('preload=("data", "unrelated")', True),
        ('preload="unrelated"', False),
        ("workers=1", True),
        ("workers=3", True),
        ("warmup=3", True),
        ("timeout=60", True),
    ],
)
def test_arguments_have_their_effect(
    pytester: pytest.Pytester, arguments: str, passes: bool
) -> None:
    project(
        pytester,
        "@pytest.fixture\ndef unrelated():\n    return [1.5]\n",
        f"@pytest.mark.cow({arguments})\ndef test_it(data):\n    read(data)\n",
    )
    run(pytester).assert_outcomes(passed=int(passes), failed=int(not passes))


@needs_immortal
def test_max_frozen_counts_pages_with_frozen_objects(pytester: pytest.Pytester) -> None:
    body = "def test_{0}(data):\n    for key in list(data)[:4000]:\n        data[key].append(0)\n"
    project(
        pytester,
        '@pytest.mark.cow(max_copied="64 MB", reason="only frozen pages count here")\n',
        body.format("few"),
        '@pytest.mark.cow(max_copied="64 MB", max_frozen=10**6, reason="all may be copied")\n',
        body.format("all"),
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["COW test_it.py::test_few*"])


def test_the_number_of_workers_and_warm_ups(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "import os\n"
        "@pytest.mark.cow(workers=3, warmup=2)\n"
        "def test_it(data):\n"
        "    with open('calls', 'a') as file:\n"
        "        print(os.getpid(), os.getppid(), file=file)\n",
    )
    run(pytester).assert_outcomes(passed=1)
    calls = [line.split() for line in Path("calls").read_text().splitlines()]
    zygote = calls[0][0]
    assert [pid for pid, _ in calls[:2]] == [zygote, zygote]
    assert [parent for _, parent in calls[2:]] == [zygote] * 3
    assert len({pid for pid, _ in calls[2:]}) == 3
    assert calls[0][1] == str(os.getpid())


def test_warm_up_zero_runs_the_body_in_workers_only(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "import os\n"
        "@pytest.mark.cow(warmup=0, workers=1)\n"
        "def test_it():\n"
        f"    assert os.getppid() != {os.getpid()}\n",
    )
    run(pytester).assert_outcomes(passed=1)


def test_class_marker_is_refined_by_the_function(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        '@pytest.mark.cow(max_copied="4 KiB", freeze="none")\n'
        "class TestAll:\n"
        "    def test_fails(self, data):\n        change(data)\n"
        '    @pytest.mark.cow(max_copied="64 MB", reason="it changes all")\n'
        "    def test_passes(self, data):\n        change(data)\n",
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["COW *test_fails*"])


@needs_immortal
def test_data_in_globals_is_frozen_with_the_heap(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "HELD = build()\n@pytest.mark.cow\ndef test_it():\n    read(HELD)\n",
    )
    result = run(pytester, "--cow")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it * heap *shared"])


# --- a failing body comes first -----------------------------------------------------


@pytest.mark.parametrize("where", ["worker", "warm-up"])
def test_a_failing_body_is_shown_as_pytest_shows_it(pytester: pytest.Pytester, where: str) -> None:
    project(
        pytester,
        f"@pytest.mark.cow(warmup={int(where == 'warm-up')})\n"
        "def test_it(data):\n"
        "    change(data)\n"
        "    print('said before')\n"
        "    assert [1, 2, len(data)] == [1, 2, 3]\n",
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       assert [[]1, 2, len(data)] == [[]1, 2, 3]",
            "E       *At index 2 diff: 8000 != 3*",
            "test_it.py:*: AssertionError",
            "*Captured stdout call*",
            "*said before*",  # both workers write there: their lines may mix
            "FAILED test_it.py::test_it - *assert*",
        ]
    )
    result.stdout.no_fnmatch_line("*PagesCopied*")


@pytest.mark.parametrize("capture", ["fd", "sys", "tee-sys", "no"])
def test_what_workers_print_and_log_is_shown(pytester: pytest.Pytester, capture: str) -> None:
    project(
        pytester,
        "import logging, sys\n"
        "@pytest.mark.cow(warmup=0, workers=1)\n"
        "def test_it():\n"
        "    print('on stdout')\n"
        "    print('on stderr', file=sys.stderr)\n"
        "    logging.getLogger('app').warning('in the log')\n"
        "    raise ValueError('bad')\n",
    )
    # A process of its own: the capture of this session would take part.
    result = pytester.runpytest_subprocess(f"--capture={capture}", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    text = result.stdout.str() + result.stderr.str()
    for said in ("on stdout", "on stderr"):
        assert said in text
    result.stdout.fnmatch_lines(["*in the log*"])


def test_outcomes_of_a_body_keep_their_meaning(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
class Local(ValueError):
    def __init__(self, a, b):
        super().__init__(f"{a} {b}")

@pytest.mark.cow
def test_skips():
    pytest.skip("not today")

@pytest.mark.cow
def test_xfails():
    pytest.xfail("known")

@pytest.mark.cow
@pytest.mark.xfail(raises=ValueError, strict=True)
def test_raises_what_cannot_be_pickled():
    class Inner(Local):
        pass
    raise Inner(1, 2)

@pytest.mark.cow(warmup=0)
@pytest.mark.xfail(raises=KeyError, strict=True)
def test_raises_another():
    raise Local(1, 2)

@pytest.mark.cow(freeze="none")
@pytest.mark.xfail(raises=AssertionError, strict=True)
def test_copies(data):
    change(data)

@pytest.mark.cow
def test_exits():
    raise SystemExit(3)
""",
    )
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1, xfailed=3, failed=2)
    result.stdout.fnmatch_lines(["SKIPPED [[]1[]] test_it.py:*: not today"])
    text = result.stdout.str()
    assert "not today" in text and "Local: 1 2" in text and "SystemExit: 3" in text


@pytest.mark.parametrize(
    ("body", "warmup", "text"),
    [
        ("os._exit(0)", 0, "before it could measure"),
        ("os._exit(0)", 1, "the zygote ended with status 0"),
        ("os.kill(os.getpid(), 9)", 0, "killed by SIGKILL"),
        ("os.kill(os.getpid(), 11)", 1, "the zygote was killed by SIGSEGV"),
        ("time.sleep(60)", 0, "timed out after 0.5 s"),
    ],
)
def test_a_worker_that_does_not_come_back_fails_the_test(
    pytester: pytest.Pytester, body: str, warmup: int, text: str
) -> None:
    project(
        pytester,
        "import os, time\n"
        f"@pytest.mark.cow(warmup={warmup}, workers=2, timeout=0.5)\n"
        f"def test_it():\n    {body}\n",
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    assert text in result.stdout.str()


# --- never green by accident --------------------------------------------------------


def test_a_platform_that_cannot_measure_skips_with_the_reason(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(1, "planted")

    monkeypatch.setattr(_core, "Witness", refuse)
    project(pytester, LIGHT, "def test_run(cow):\n    cow.run(build)\n")
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*cowfreeze cannot measure here: *planted*"])


def test_one_unmeasured_worker_fails_the_test(pytester: pytest.Pytester) -> None:
    """Unknown through the body's own doing is no reason to skip."""
    project(
        pytester,
        "import os\n"
        "@pytest.mark.cow(warmup=0, workers=1)\n"
        "def test_it():\n"
        "    os.closerange(3, 1 << 12)\n"
        "    import resource\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))\n",
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*(nothing is proven|says nothing about the work).*"])


def test_another_plugin_that_runs_the_body_is_noticed(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT)
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_pyfunc_call(pyfuncitem):\n    return True\n"
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the marker cow was not obeyed*"])


FIRST = """
@pytest.mark.cow({})
def test_first(data):
    for values in data.values():
        values[2]["n"] = 1
"""


@needs_immortal
def test_a_warm_up_that_writes_is_told(pytester: pytest.Pytester) -> None:
    """The same value again is no write: 8,000 first writes pass, and the table says so."""
    project(pytester, FIRST.format(""), READS)
    result = run(pytester, "--cow")
    result.assert_outcomes(passed=2)
    notes = [line for line in result.outlines if "note: the warm-up wrote" in line]
    assert len(notes) == 1 and "measure with warmup=0" in notes[0], result.outlines
    assert int(notes[0].split("wrote ")[1].split()[0].replace(",", "")) > 100
    project(pytester, FIRST.format("warmup=0"))
    run(pytester).assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "whose work would stay") for name in ("benchmark", "record_testsuite_property", "record_xml_attribute")),
        *((name, "whose file all workers") for name in ("capfd", "capfdbinary")),
    ],
)
def test_what_would_stay_in_a_worker_is_refused(pytester: pytest.Pytester, name: str, why: str) -> None:
    project(
        pytester,
        "@pytest.fixture\ndef benchmark(): ...\n",
        f"@pytest.mark.cow\ndef test_it({name}): ...\n",
    )
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*asks for the fixture {name}, {why}*"])


def test_the_session_is_not_frozen(pytester: pytest.Pytester) -> None:
    before = _core.frozen_pages()
    project(pytester, LIGHT, "def test_run(cow):\n    cow.run(read, preload='data')\n")
    run(pytester).assert_outcomes(passed=2)
    assert _core.frozen_pages() == before
    assert not cowfreeze.is_frozen(sys.modules)


def test_what_a_body_changes_does_not_reach_the_session(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "@pytest.mark.cow(freeze='none', max_copied='64 MB', reason='it changes all')\n"
        "def test_first(data):\n    change(data)\n"
        "def test_second(data):\n    assert all(len(values) == 3 for values in data.values())\n",
    )
    run(pytester).assert_outcomes(passed=2)


def test_nothing_is_imported_until_used(pytester: pytest.Pytester) -> None:
    """A project without markers pays for one small module."""
    pytester.makepyfile(
        "import sys\n"
        "def test_it():\n"
        "    assert 'pytest_cowfreeze' in sys.modules\n"
        "    assert 'cowfreeze' not in sys.modules\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


# --- the session around it ----------------------------------------------------------


def test_a_killed_pytest_leaves_no_zygote(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "import os, time\n"
        "@pytest.mark.cow(warmup=0, workers=2)\n"
        "def test_it():\n"
        "    with open('pids', 'a') as file:\n"
        "        print(os.getpid(), os.getppid(), file=file)\n"
        "    time.sleep(60)\n",
    )
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def pids() -> set[int]:
        try:
            return {int(pid) for pid in Path("pids").read_text().split()}
        except FileNotFoundError:
            return set()

    deadline = time.monotonic() + 30
    while len(pids()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    session.kill()
    session.wait()
    assert len(pids()) == 3
    while any(map(_lives, pids())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in pids() if _lives(pid)] == []


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
