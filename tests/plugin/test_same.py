"""The marker changes nothing but where a body runs: a hundred tests with it and without it.

One generated file runs twice. What pytest reports of each test (outcomes of all phases, subtests,
warnings, properties, sections) must be the same, whether the body ran in the session's process, or
in a zygote and two workers.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from helpers import plugin  # noqa: F401  # all modules of the plugin

pytest_plugins = ["pytester"]

HEAD = """
import asyncio, gc, io, logging, os, sys, threading, unittest, warnings
import pytest
import soft

if os.environ.get("MARKED"):
    pytestmark = pytest.mark.cow(
        max_copied="1 GB", max_frozen=10**9, freeze=os.environ["MARKED"], warmup=int(os.environ["WARMUP"]), reason="test"
    )

class Local(Exception):
    def __init__(self, a, b):
        super().__init__(a)

class LocalWarning(UserWarning):
    def __init__(self, a, b):
        super().__init__(a)

class Ending(BaseException): ...

class Fails:
    def __del__(self):
        raise ValueError("in __del__")

class Unrebuildable(Exception):
    def __reduce__(self):
        return sys.exit, (3,)

def in_a_thread(text="in a thread"):
    def work():
        raise RuntimeError(text)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

def fail(text="planted"):
    raise ValueError(text)

@pytest.fixture
def data():
    return [1, 2, 3]

@pytest.fixture
def late():
    yield 1
    fail("in the teardown of late")

@pytest.fixture
def fine():
    yield 1

@pytest.fixture
def never():
    fail("in the setup of never")

@pytest.fixture
def warns_late():
    yield 1
    warnings.warn("from a teardown")

@pytest.fixture(scope="class")
def wide():
    yield 1
    fail("in the teardown of wide")
"""

ERROR = '@pytest.mark.filterwarnings("error")'
# Bodies, by what they are about; a line that begins with @ decorates.
BODIES: dict[str, list[str]] = {
    "exceptions": [
        "pass",
        "assert data == [1, 2]",
        "fail()",
        "raise Local(1, 2)",
        "class E(Exception): ...\nraise E('local class')",
        "raise Unrebuildable('x')",
        "raise Ending('base')",
        "sys.exit(0)",
        "sys.exit('text')",
        "raise GeneratorExit",
        "raise StopIteration",
        "raise unittest.SkipTest('by unittest')",
        "error = ValueError('x'); error.__notes__ = ['note']; raise error",
        "try:\n    fail()\nexcept ValueError as error:\n    raise KeyError('second') from error",
        "assert [*range(100)] == [*range(99), 0]",
        "asyncio.run(asyncio.sleep(0))",
        "return None",
        "return 7",
        "soft.check(False, 'a soft failure')",
        "soft.check(False, 'a'); soft.check(False, 'b')",
        "soft.check(True, 'no failure')",
        "soft.check(False, 'a soft failure'); fail()",
    ],
    "outcomes": [
        "pytest.skip('here')",
        "pytest.fail('here')",
        "pytest.fail('here', pytrace=False)",
        "pytest.xfail('here')",
        "pytest.importorskip('no_such_module')",
        "@pytest.mark.xfail\npass",
        "@pytest.mark.xfail\nfail()",
        "@pytest.mark.xfail(strict=True)\npass",
        "@pytest.mark.xfail(strict=True)\nfail()",
        "@pytest.mark.xfail(raises=KeyError)\nfail()",
        "@pytest.mark.xfail(raises=ValueError)\nfail()",
        "@pytest.mark.xfail(run=False)\nfail()",
        "@pytest.mark.skip\nfail()",
        "@pytest.mark.skipif(False, reason='no')\nfail()",
        "request.applymarker(pytest.mark.xfail(reason='late'))\nfail()",
        "request.applymarker(pytest.mark.xfail(reason='late'))",
        "request.applymarker(pytest.mark.xfail(reason='late', strict=True))",
        "request.node.add_marker('mine')",
        "with pytest.raises(ValueError): fail()",
        "with pytest.raises(KeyError): fail()",
        "with pytest.raises(ValueError): pass",
    ],
    "subtests": [
        "for i in range(3):\n    with subtests.test(i=i): pass",
        "for i in range(3):\n    with subtests.test(i=i): assert i != 1",
        "for i in range(4):\n    with subtests.test(i=i): assert i % 2",
        "with subtests.test('named'): fail()",
        "with subtests.test('skipped'): pytest.skip('x')",
        "with subtests.test('xfail'): pytest.xfail('x')",
        "with subtests.test('first'): pass\nfail('behind')",
        "with subtests.test('first'): fail()\nfail('behind')",
        "with subtests.test('outer'):\n    with subtests.test('inner'): fail()",
        "with subtests.test('prints'):\n    print('text'); fail()",
        "with subtests.test('logs'):\n    logging.warning('text'); fail()",
        "@pytest.mark.xfail\nwith subtests.test('marked'): fail()",
        "with subtests.test(x=object): pass",
    ],
    "uncaught": [
        "in_a_thread()",
        f"{ERROR}\nin_a_thread()",
        f"{ERROR}\nin_a_thread(); in_a_thread('another')",
        f"{ERROR}\nin_a_thread(); fail()",
        "in_a_thread(); pytest.skip('then')",
        "Fails()",
        f"{ERROR}\nFails()",
        f"{ERROR}\nFails(); Fails()",
        f"{ERROR}\nFails(); in_a_thread()",
        f"{ERROR}\nFails(); fail()",
        f"{ERROR}\n@pytest.mark.xfail\nFails()",
        f"{ERROR}\nrequest.addfinalizer(Fails)",
        f"{ERROR}\nrequest.addfinalizer(in_a_thread)",
        f"{ERROR}\nopen(os.devnull)",
        f"{ERROR}\nasyncio.sleep(0)",
        "asyncio.sleep(0)",
    ],
    "warnings": [
        "warnings.warn('one')",
        "for i in range(3): warnings.warn('one')",
        "for i in range(3): warnings.warn(f'number {i}')",
        "warnings.warn('old', DeprecationWarning)",
        "warnings.warn('soon', PendingDeprecationWarning)",
        "warnings.warn(LocalWarning(1, 2))",
        f"{ERROR}\nwarnings.warn('one')",
        "@pytest.mark.filterwarnings('ignore')\nwarnings.warn('one')",
        "@pytest.mark.filterwarnings('error::DeprecationWarning')\nwarnings.warn('one')",
        "warnings.simplefilter('error'); warnings.warn('one')",
        "with pytest.warns(UserWarning): warnings.warn('one')",
        "with pytest.warns(UserWarning): pass",
        "warnings.warn('one'); assert len(recwarn) == 1",
        "warnings.warn('one'); assert len(recwarn) == 2",
        "warnings.warn('one'); fail()",
        "warnings.warn('one'); pytest.skip('then')",
        "request.addfinalizer(lambda: warnings.warn('from a finalizer'))",
    ],
    "finalizers": [
        "request.addfinalizer(list)",
        "request.addfinalizer(fail)",
        "request.addfinalizer(fail); request.addfinalizer(lambda: fail('second'))",
        "request.addfinalizer(fail); fail('in the body')",
        "request.addfinalizer(fail); pytest.skip('then')",
        "request.addfinalizer(lambda: pytest.skip('from a finalizer'))",
        "request.node.addfinalizer(fail)",
        "assert request.getfixturevalue('fine') == 1",
        "request.getfixturevalue('late')",
        "request.getfixturevalue('never')",
        "request.getfixturevalue('warns_late')",
        "request.getfixturevalue('no_such_fixture')",
        "request.getfixturevalue('late'); fail('in the body')",
        "@pytest.mark.xfail\nrequest.addfinalizer(fail)",
        "assert late",
        "assert never",
    ],
    "said": [
        "record_property('a', 1)",
        "record_property('a', object); record_property('b', 2)",
        "request.node.add_report_section('call', 'mine', 'text')",
        "request.node.add_report_section('call', 'mine', 'text'); fail()",
        "print('text'); assert capsys.readouterr().out == 'text\\n'",
        "print('text', file=sys.stderr); assert capsys.readouterr().err == 'text\\n'",
        "logging.warning('text'); assert 'text' in caplog.text",
        "monkeypatch.setenv('A', 'b'); assert os.environ['A'] == 'b'",
        "assert tmp_path.is_dir(); (tmp_path / 'file').write_text('x')",
    ],
}
FIXTURES = (
    *("request", "subtests", "record_property", "capsys", "caplog", "monkeypatch", "tmp_path", "recwarn"),
    *("late", "never"),
)
SOFT = """
import pytest

failures = []

def check(fine, text):
    if not fine:
        failures.append(text)

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call" and failures:
        if report.passed:
            report.outcome = "failed"
            report.longrepr = "; ".join(failures)
        failures.clear()
"""
CONFTEST = """
import json

found = {"outcomes": [], "warnings": []}

def pytest_runtest_logreport(report):
    context = getattr(report, "context", None)
    sub = None if context is None else [context.msg, str(context.kwargs)]
    crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
    if crash is None and report.longrepr is not None:
        crash = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    mine = [[n, str(v)] for n, v in report.user_properties if not n.startswith("cow_")] if report.when == "call" else []
    sections = [s for s in report.sections if s[0] == "mine" or s[0].startswith("mine (")] if report.when == "call" else []
    found["outcomes"].append(
        [report.nodeid, report.when, report.outcome, getattr(report, "wasxfail", None), sub, crash, mine, sections]
    )

def pytest_warning_recorded(warning_message, when, nodeid):
    found["warnings"].append([nodeid, warning_message.category.__name__, str(warning_message.message)])

def pytest_sessionfinish(session):
    with open("found.json", "w") as file:
        json.dump(found, file)
"""


def write(pytester: pytest.Pytester) -> int:
    """test_it.py; returns how many tests there are."""
    text = HEAD
    count = 0
    for about, bodies in BODIES.items():
        for number, body in enumerate(bodies):
            lines = body.splitlines()
            marks = [line for line in lines if line.startswith("@")]
            code = "\n".join(lines[len(marks) :])
            wants = ["data", *(n for n in FIXTURES if re.search(rf"(?<!')\b{n}\b(?!')", code))]
            text += "\n".join([*marks, f"def test_{about}_{number}({', '.join(wants)}):"]) + "\n"
            text += textwrap.indent(code, "    ") + "\n\n"
            count += 1
    text += "class TestWide:\n    def test_wide(self, data, request):\n        request.getfixturevalue('wide')\n"
    pytester.makepyfile(test_it=text, soft=SOFT)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers = mine\n")
    return count + 1


def outcomes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, freeze: str, warmup: int = 0) -> Any:
    """What conftest.py has seen, test by test."""
    monkeypatch.setenv("MARKED", freeze)
    monkeypatch.setenv("WARMUP", str(warmup))
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "soft", "-q")
    found = json.loads((Path(pytester.path) / "found.json").read_text())
    seen: dict[str, Any] = {}
    for name, *rest in found["outcomes"]:
        seen.setdefault(name, {"outcomes": [], "warnings": []})["outcomes"].append(tame(rest))
    for name, *rest in found["warnings"]:
        if name in seen:
            seen[name]["warnings"].append(tame(rest))
    return seen


def tame(value: Any) -> Any:
    """VALUE without what differs from run to run: numbers of threads, addresses, lines of tracebacks
    (of which a part is cowfreeze's), temporary folders."""
    if isinstance(value, list):
        return [tame(entry) for entry in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"Thread-\d+", "Thread-N", value)
    text = re.sub(r"0x[0-9a-f]+", "0xN", text)
    text = re.sub(r"/\S*/test_it\.py", "test_it.py", text)
    text = re.sub(r"\n\nTraceback.*", "", text, flags=re.S)
    return re.sub(r"^mine \((worker \d|warm-up)\)$", "mine", text)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {}


def pytest_version() -> tuple[int, ...]:
    return tuple(int(part) for part in pytest.__version__.split(".")[:2])


@pytest.mark.skipif(pytest_version() < (9, 0), reason="subtests came with pytest 9")
@pytest.mark.parametrize(("freeze", "warmup"), [pytest.param("none", 0, marks=pytest.mark.slow), ("data", 1)])
def test_a_hundred_tests_are_reported_alike(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any], freeze: str, warmup: int
) -> None:
    count = write(pytester)
    if not kept:
        kept.update(outcomes(pytester, monkeypatch, ""))
    assert len(kept) == count > 100
    kinds = {outcome[1] for test in kept.values() for outcome in test["outcomes"]}
    assert kinds == {"passed", "failed", "skipped"}
    marked = outcomes(pytester, monkeypatch, freeze, warmup)
    different = [
        f"{name}\n  plain  {kept[name]}\n  marked {marked.get(name)}" for name in kept if marked.get(name) != kept[name]
    ]
    assert not different, f"{len(different)} of {count}, {sys.version}:\n" + "\n".join(different)
