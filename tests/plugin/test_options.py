"""Options, ini keys and files of the pytest plugin, and what it says to wrong values."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest
from helpers.plugin import CHANGES, LIGHT, READS, figures, needs_immortal, project, run, run_apart

from cowfreeze._plugin.figures import environment

pytest_plugins = ["pytester"]


# --- what is offered ----------------------------------------------------------------


def test_help_lists_every_option_and_ini_key(pytester: pytest.Pytester) -> None:
    text = run(pytester, "--help").stdout.str()
    options = (
        "--cow", "--cow-explain", "--cow-report=", "--cow-workers=", "--cow-no-freeze",
        "--cow-save", "--cow-fail-on-increase=",
    )  # fmt: skip
    for option in options:
        assert re.search(rf"^  {option}", text, re.MULTILINE), option
    keys = re.findall(r"^  (cow\w+) \(string\)", text, re.MULTILINE)
    assert sorted(keys) == [
        "cow_figures", "cow_max_copied", "cow_max_frozen", "cow_report", "cow_warmup",
        "cow_workers",
    ]  # fmt: skip


def test_markers_are_registered(pytester: pytest.Pytester) -> None:
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.cow(*, max_copied=*"])
    project(pytester, LIGHT)
    run(pytester, "--strict-markers").assert_outcomes(passed=1)


def test_the_plugin_can_be_switched_off(pytester: pytest.Pytester) -> None:
    project(pytester, CHANGES)
    assert run(pytester, "-p", "no:cowfreeze").parseoutcomes()["passed"] == 1


# --- wrong values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "form"),
    [
        ("--cow-report=long", "give short, full or json:PATH"),
        ("--cow-report=json:", "give short, full or json:PATH"),
        ("--cow-workers=0", "give an int of at least 1"),
        ("--cow-workers=two", "give an int of at least 1"),
        ("--cow-fail-on-increase=5", "give one such as 5%"),
        ("--cow-fail-on-increase=-5%", "give one such as 5%"),
    ],
)
def test_wrong_options(pytester: pytest.Pytester, option: str, form: str) -> None:
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert form in result.stderr.str()


@pytest.mark.parametrize(
    ("ini", "form"),
    [
        ("cow_max_copied = 1 m", "256 KiB"),
        ("cow_max_frozen = -1", "give an int of at least 0"),
        ("cow_max_frozen = few", "give an int of at least 0"),
        ("cow_workers = 0", "give an int of at least 1"),
        ("cow_warmup = 1.5", "give an int of at least 0"),
        ("cow_report = long", "give short, full or json:PATH"),
    ],
)
def test_wrong_ini_values(pytester: pytest.Pytester, ini: str, form: str) -> None:
    project(pytester, LIGHT, ini=ini)
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert form in result.stderr.str()
    assert ini.split()[0] in result.stderr.str()


WRONG_MARKERS = [
    ('"1 MB"', "takes no positional arguments"),
    ("max_private=3", "has no argument max_private; there are max_copied, max_frozen"),
    ('max_copied="1 m"', 'a text such as "256 KiB"'),
    ("max_copied=-1", "is negative"),
    ("max_copied=True", "is not a size"),
    ('max_copied="2 MB"', 'above the default of 977 KiB, and nothing says why: add reason="..."'),
    ("max_frozen=-1", "give an int of at least 0"),
    ("max_frozen=17", 'above the default of 16, and nothing says why: add reason="..."'),
    ('workers="2"', "give an int of at least 1"),
    ("workers=0", "give an int of at least 1"),
    ("warmup=-1", "give an int of at least 0"),
    ('freeze="all"', 'give "data", "heap" or "none"'),
    ("freeze=True", 'give "data", "heap" or "none"'),
    ('preload="nothing_here"', "there is no fixture of that name"),
    ("preload=3", 'preload=("index", "words")'),
    ("preload=()", 'preload=("index", "words")'),
    ('preload="a b"', 'preload=("index", "words")'),
    ("isolated=1", "give True or False"),
    ("timeout=0", "give seconds above 0, or None"),
    ('timeout="1"', "give seconds above 0, or None"),
    ('reason=""', "give a sentence"),
]


def test_wrong_markers_stop_the_collection(pytester: pytest.Pytester) -> None:
    """All of them at once, each by the name of its test; no test runs."""
    project(
        pytester,
        *(
            f"@pytest.mark.cow({arguments})\ndef test_{number}(data):\n    pass\n"
            for number, (arguments, _) in enumerate(WRONG_MARKERS)
        ),
        LIGHT,
    )
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stderr.str() + result.stdout.str()
    for number, (arguments, form) in enumerate(WRONG_MARKERS):
        line = next(line for line in said.splitlines() if f"::test_{number}:" in line)
        assert form in line, arguments
    assert "::test_light" not in said


@pytest.mark.parametrize(
    ("test", "form"),
    [
        ('@pytest.mark.cow(freeze="data")\ndef test_it(tmp_path): pass', 'freeze="heap"'),
        ("@pytest.mark.cow\nasync def test_it(): pass", "asyncio.run(main())"),
        (
            "import unittest\nclass TestIt(unittest.TestCase):\n"
            "    @pytest.mark.cow\n    def test_it(self): pass\n",
            "put it on a test function",
        ),
    ],
)
def test_tests_that_cannot_be_measured(pytester: pytest.Pytester, test: str, form: str) -> None:
    project(pytester, test)
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert form in result.stderr.str() + result.stdout.str()


def test_a_deselected_test_is_not_checked(pytester: pytest.Pytester) -> None:
    project(pytester, "@pytest.mark.cow(workers=0)\ndef test_wrong(): pass\n", LIGHT)
    result = run(pytester, "-k", "light")
    # pytest deselects after plugins have seen all; a wrong marker is wrong in any case.
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR)


# --- ini keys and options have their effect -----------------------------------------


def test_workers_of_ini_option_and_marker(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        LIGHT,
        "@pytest.mark.cow(workers=1)\ndef test_one(data):\n    pass\n",
        "def test_run(cow):\n    assert len(cow.run(build).workers) == WORKERS\n",
        ini="cow_workers = 3",
    )
    file = Path("test_it.py")
    text = file.read_text()
    for options, expected in ((), 3), (("--cow-workers=4",), 4):
        file.write_text(text.replace("WORKERS", str(expected)))
        tests = figures(pytester, *options)
        counts = [len(test["measured"]["workers"]) for test in tests]
        assert counts == [expected, 1, expected]


@needs_immortal
def test_limits_of_the_ini_file(pytester: pytest.Pytester) -> None:
    project(pytester, READS, ini="cow_max_copied = 4 KiB")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["workers copied * (limit 4 KiB): *"])
    project(pytester, CHANGES, ini="cow_max_copied = 64 MB\ncow_max_frozen = 3")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*with frozen objects (limit 3)*"])
    project(pytester, CHANGES, ini="cow_max_copied = 64 MB\ncow_max_frozen = 99999")
    run(pytester).assert_outcomes(passed=1)


def test_warmup_of_the_ini_file(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        "@pytest.mark.cow(workers=1)\ndef test_it():\n"
        "    with open('calls', 'a') as file:\n        file.write('x')\n",
        ini="cow_warmup = 4",
    )
    run(pytester).assert_outcomes(passed=1)
    assert Path("calls").read_text() == "x" * 5


def test_the_baseline_freezes_and_judges_nothing(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        CHANGES,
        "@pytest.mark.cow\ndef test_fails(data):\n    assert not data\n",
        "def test_no_cow(assert_no_cow):\n"
        "    with assert_no_cow() as measured:\n"
        "        assert measured.run(change, preload=build).frozen_objects is None\n",
    )
    result = run(pytester, "--cow-no-freeze")
    result.assert_outcomes(passed=2, failed=1)  # a body that fails still fails
    result.stdout.fnmatch_lines(
        [
            "cow: baseline run, nothing is frozen and no limit is judged (--cow-no-freeze)",
            "test_it.py::test_changes *MiB * none *baseline",
            "test_it.py::test_no_cow *MiB * none *baseline",
        ]
    )


# --- tables and files ---------------------------------------------------------------


def test_no_table_without_an_option(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT)
    run(pytester).stdout.no_fnmatch_line("*pages that workers copied*")


def test_a_run_without_measurements_says_so(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_it():\n    pass\n")
    run(pytester, "--cow").stdout.fnmatch_lines(["no test of this run measured anything"])


@pytest.mark.parametrize("where", ["option", "ini"])
def test_the_full_report_has_a_line_per_worker(pytester: pytest.Pytester, where: str) -> None:
    project(pytester, LIGHT, ini="cow_report = full" if where == "ini" else "")
    result = run(pytester, "--cow" if where == "ini" else "--cow-report=full")
    result.stdout.re_match_lines(
        [
            r"=+ cow: pages that workers copied =+",
            r"test +copied +limit +frozen +shared +faults +freeze +verdict",
            r"test_it.py::test_light +\d+(\.\d)? [KM]iB +977 KiB +\d+ +\d+\.\d% +\d+ +data +shared",
            r"  worker 0 returned +\d+(\.\d)? [KM]iB +\d+ +\d+",
            r"  worker 1 returned .*",
        ]
    )


def test_the_json_report(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT, CHANGES)
    light, changes = figures(pytester)
    assert light["nodeid"] == "test_it.py::test_light"
    assert (light["verdict"], changes["verdict"]) == ("shared", "copied")
    assert 0 <= light["copied"] < light["max_copied"] == 1000000 < changes["copied"]
    assert light["measured"]["workers"][1]["copied_pages"] >= 0
    content = json.loads(Path("report.json").read_text())
    assert content["environment"] == environment()


def test_a_json_report_that_cannot_be_written(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT)
    result = run(pytester, "--cow-report=json:no/such/folder/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().strip() == (
        "ERROR: --cow-report=json:no/such/folder/report.json: No such file or directory"
    )
    assert "passed" not in result.stdout.str()  # said before the tests, not after them


@pytest.mark.parametrize(("option", "lost"), [("--cow-report=json:out/report.json", "out"), ("--cow-save", None)])
@pytest.mark.parametrize("fails", [False, True])
def test_what_cannot_be_written_at_the_end_hides_no_failure(
    pytester: pytest.Pytester, option: str, lost: str | None, fails: bool
) -> None:
    body = "def test_harm():\n    import os, pathlib\n"
    body += "    os.rmdir('out')\n" if lost else "    pathlib.Path('cow-figures.json').write_text('{bad')\n"
    project(pytester, body + f"    assert not {fails}, 'planted failure'\n")
    Path("out").mkdir()
    result = run(pytester, option)
    text = result.stdout.str()
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if fails else pytest.ExitCode.USAGE_ERROR)
    assert ("planted failure" in text) is fails and "Error" not in result.stderr.str()
    result.stdout.fnmatch_lines([f"ERROR: {option}*" if lost else "ERROR: --cow-save: *cow-figures.json cannot be read*"])


def test_junit_has_the_figures_as_properties(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT, CHANGES)
    run(pytester, "--junitxml=junit.xml")
    tests = {}
    for case in xml.etree.ElementTree.parse("junit.xml").iter("testcase"):
        tests[case.get("name")] = {
            entry.get("name"): entry.get("value") for entry in case.iter("property")
        }
    light, changes = tests["test_light"], tests["test_changes"]
    assert light["cow_verdict"] == "shared" and changes["cow_verdict"] == "copied"
    assert int(light["cow_copied"] or -1) < 1000000 < int(changes["cow_copied"] or -1)
    assert set(light) >= {"cow_frozen_copied", "cow_shared_ratio", "cow_faults", "cow_workers"}


# --- causes -------------------------------------------------------------------------

EXPLAIN = """
import dataclasses
from cowfreeze._workers.report import WorkersResult

@dataclasses.dataclass(frozen=True)
class Explanation:
    top: int
    def __str__(self):
        return f"planted cause, top {self.top}"
    def to_dict(self):
        return {"planted": self.top}

def explain(self, top=20):
    assert self.workers[0].copied_pages is not None
    %s
    return Explanation(top)

WorkersResult.explain = explain
"""


@pytest.fixture
def no_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    """WorkersResult without `explain`, and as it was after a test that plants one."""
    from cowfreeze._workers.report import WorkersResult

    monkeypatch.setattr(WorkersResult, "explain", None, raising=False)


@pytest.mark.usefixtures("no_explain")
def test_causes_are_shown_where_they_are_known(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT, CHANGES)
    pytester.makeconftest(EXPLAIN % "")
    result = run(pytester)  # a failure shows its causes unasked
    result.stdout.fnmatch_lines(["*cow: causes*", "planted cause, top 10"])
    tests = figures(pytester)
    assert [test["explanation"]["data"] for test in tests] == [None, {"planted": 10}]
    result = run(pytester, "--cow-explain")
    result.stdout.fnmatch_lines(
        ["causes of test_it.py::test_light:", "planted cause*", "causes of *_changes:", "planted*"]
    )


@needs_immortal
def test_the_real_causes(pytester: pytest.Pytester) -> None:
    """A worker that changes lists is told so: type, field, and where in the test's data."""
    project(
        pytester,
        CHANGES,
        "def test_run(cow):\n"
        "    lists = [[str(i)] for i in range(20_000)]\n"
        "    def change(data):\n"
        "        for one in data:\n"
        "            one.append(None)\n"
        "    result = cow.run(change, preload=lambda: lists)\n"
        "    assert result.by_cause['list: list contents'] > 100, result.by_cause\n",
    )
    result = run(pytester, "--cow-explain")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*cow: causes*"])
    changed = figures(pytester)[0]["explanation"]
    assert changed["reason"] is None and changed["data"]["pages"] > 0


@pytest.mark.usefixtures("no_explain")
def test_an_explanation_that_fails_loses_no_figures(pytester: pytest.Pytester) -> None:
    project(pytester, CHANGES)
    pytester.makeconftest(EXPLAIN % "raise OSError('planted')")
    result = run(pytester, "--cow-explain")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["workers copied *", "causes are not available: OSError: planted"])


@pytest.mark.usefixtures("no_explain")
def test_without_attribution_it_is_said_plainly(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT)
    result = run(pytester, "--cow-explain")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["causes are not available: *cannot attribute copied pages"])


# --- saved figures ------------------------------------------------------------------


@needs_immortal
def test_an_increase_fails(pytester: pytest.Pytester) -> None:
    body = (
        '@pytest.mark.cow(max_copied="64 MB", max_frozen=99999, reason="it changes a part")\n'
        # In place, and in a heap without holes: what is allocated lands on other pages in every run.
        "def test_it(data):\n    for key in list(data)[:{0}]:\n        data[key].reverse()\n"
    )
    project(pytester, body.format(1000), LIGHT)
    result = run_apart(pytester, "--cow-save")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 figures saved in *cow-figures.json"])
    run_apart(pytester, "--cow-fail-on-increase=5%").assert_outcomes(passed=2)

    project(pytester, body.format(4000), LIGHT)
    run_apart(pytester).assert_outcomes(passed=2)
    result = run_apart(pytester, "--cow-fail-on-increase=5%", "--cow")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "workers copied *, saved are * (allowed 5%, and 128 KiB in any case)*",
            "test_it.py::test_it * copied",
            "COW test_it.py::test_it*",
        ]
    )
    run_apart(pytester, "--cow-fail-on-increase=5000%").assert_outcomes(passed=2)
    # A decrease passes, and so does a test that is new.
    project(pytester, body.format(1), LIGHT, LIGHT.replace("light", "new"))
    run_apart(pytester, "--cow-fail-on-increase=0%").assert_outcomes(passed=3)


def test_saving_keeps_other_tests_and_environments(pytester: pytest.Pytester) -> None:
    project(pytester, LIGHT, READS, ini="cow_figures = saved.json")
    Path("saved.json").write_text('{"another": {"test_it.py::test_light": {"copied": 1}}}')
    run(pytester, "--cow-save", "-k", "light")
    run(pytester, "--cow-save", "-k", "reads")
    saved = json.loads(Path("saved.json").read_text())
    assert saved["another"] == {"test_it.py::test_light": {"copied": 1}}
    part = saved[environment()]
    assert sorted(part) == ["test_it.py::test_light", "test_it.py::test_reads"]
    assert sorted(part["test_it.py::test_light"]) == [
        "copied", "faults", "freeze", "frozen_copied"
    ]  # fmt: skip
    assert not Path("cow-figures.json").exists()


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (None, "Run pytest --cow-save here first"),
        ('{"CPython 2.7": {}}', "only of CPython 2.7. Run pytest --cow-save here first"),
        ("{", "cannot be read"),
        ("[]", "is no file of saved figures"),
    ],
)
def test_saved_figures_that_cannot_be_used(
    pytester: pytest.Pytester, content: str | None, form: str
) -> None:
    project(pytester, LIGHT)
    if content is not None:
        Path("cow-figures.json").write_text(content)
    for option in ["--cow-fail-on-increase=5%"] + ["--cow-save"] * ("Run" not in form):
        result = run(pytester, option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert form in result.stderr.str()
