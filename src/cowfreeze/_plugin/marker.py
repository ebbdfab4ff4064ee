"""A test with @pytest.mark.cow: its body is what each worker runs."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from cowfreeze._errors import UnsupportedError
from cowfreeze._plugin import settings as settings_module
from cowfreeze._plugin.measure import BodyRaised, Job, measure
from cowfreeze._plugin.outcome import bring
from cowfreeze._plugin.result import CowResult
from cowfreeze._plugin.settings import Settings, WrongSetting
from cowfreeze._workers.fork import fork_workers

# Fixtures whose effect is in a plugin's memory and in no report.
_STAY_AWAY = ("benchmark", "record_testsuite_property", "record_xml_attribute")
# Fixtures with one file for all processes that are forked from here.
_ONE_FILE = ("capfd", "capfdbinary")

SETTINGS = pytest.StashKey[Settings]()
BODY = pytest.StashKey["tuple[BaseException | None, dict[str, Any] | None]"]()
WRONG = pytest.StashKey[str]()
MEASURED = pytest.StashKey["list[Measured]"]()


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measurement of a test and the limits that it was, or will be, judged by."""

    name: str
    result: CowResult
    settings: Settings
    judged: bool


def check(item: pytest.Item) -> Settings:
    """The settings of a marked test, kept for the run.

    Raises:
        WrongSetting: the marker is wrong, or the test is of a kind that cannot be measured.
    """
    if not isinstance(item, pytest.Function) or hasattr(item, "_testcase"):
        raise WrongSetting(
            f"stands on a {type(item).__name__}, which has no body that workers could run: put it "
            "on a test function or on a method of a plain class"
        )
    found = settings_module.of_item(item)
    if inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
        raise WrongSetting(
            "stands on an async function, whose event loop would be forked while it runs: write "
            "def test(): asyncio.run(main())"
        )
    if found.preload is None and not item.config.getoption("cow_no_freeze"):
        found = dataclasses.replace(found, preload=_asked_for(item))
        if not found.preload:
            if any(mark.kwargs.get("freeze") == "data" for mark in item.iter_markers("cow")):
                raise WrongSetting(
                    'has freeze="data", but the test asks for no fixture and preload= names none, '
                    'so there is no data: add preload="fixture", or freeze="heap"'
                )
            if found.freeze == "data":
                # Data in module globals: the heap holds it.
                found = settings_module.of_item(item, freeze="heap")
    for name in _STAY_AWAY:
        if name in item.fixturenames:
            raise WrongSetting(
                f"stands on a test that asks for the fixture {name}, whose work would stay in the workers: "
                "take it out, or measure with cow.run(func)"
            )
    for name in _ONE_FILE if found.workers > 1 else ():
        if name in item.fixturenames:
            raise WrongSetting(
                f"stands on a test that asks for the fixture {name}, whose file all workers would write and read: "
                "ask for capsys, or give workers=1"
            )
    for name in found.preload or ():
        if not _is_fixture(item, name):
            raise WrongSetting(
                f"has preload={name!r}, but there is no fixture of that name: give names of "
                'fixtures, such as preload=("index", "words")'
            )
        if name not in item.fixturenames:
            item.fixturenames.append(name)  # pytest builds it in the test's setup
    item.stash[SETTINGS] = found
    return found


def _is_fixture(item: pytest.Function, name: str) -> bool:
    manager: Any = item.session._fixturemanager
    # pytest 8.0 wants the node's id, later versions the node.
    where = item.nodeid if pytest.version_tuple[:2] == (8, 0) else item
    return bool(manager.getfixturedefs(name, where))


def _asked_for(item: pytest.Function) -> tuple[str, ...]:
    """The test's own arguments but for those of pytest and its plugins, which are tools
    (tmp_path, monkeypatch) and no data."""
    definitions = item._fixtureinfo.name2fixturedefs
    names = []
    for name in item._fixtureinfo.argnames:
        if not definitions.get(name):
            continue  # `request`, or one that is missing, which pytest says best itself
        module = definitions[name][-1].func.__module__
        if not module.startswith(("_pytest.", "pytest_")):
            names.append(name)
    return tuple(names)


def refuse_wrong(item: pytest.Item) -> None:
    """Fail a test whose marker is wrong, where that did not stop the collection."""
    text = item.stash.get(WRONG, None)
    if text is not None:
        pytest.fail(text, pytrace=False)


def run(item: pytest.Function) -> None:
    """Measure the test and judge it.

    Raises:
        BaseException: what the body raised in a worker; it comes before any figure.
        PagesCopied: a worker copied more than its limits.
    """
    settings = item.stash[SETTINGS]
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    data = tuple(item.funcargs[name] for name in settings.preload or ())
    test = item.obj
    measured = record(
        Job(
            item=item,
            settings=settings,
            preload=lambda: data,
            body=lambda: test(**arguments),
            alone=True,
            keep=False,
            explain=item.config.getoption("cow_explain"),
        ),
        judged=True,
    )
    if not item.config.getoption("cow_no_freeze"):
        judge(measured)


def record(job: Job, judged: bool) -> Measured:
    """Measure and keep the figures with the test; raises what a body raised.

    A platform that cannot measure skips the test.
    """
    __tracebackhide__ = True
    try:
        result, tolds = measure(job)
    except BodyRaised as raised:
        bring(job.item, raised.tolds)
        job.item.stash[BODY] = (raised.error, raised.told.report)
        raise raised.error from None
    except UnsupportedError as error:
        raise _skip(str(error)) from None
    bring(job.item, tolds)
    if result.unknown is not None:
        why = _why_unmeasurable(job.item.config)
        if why is not None:
            raise _skip(why)
    found = job.item.stash.setdefault(MEASURED, [])
    # The first has no number: most tests have one measurement, and its name is the test's.
    name = "" if not found else f"#{len(found) + 1}"
    found.append(Measured(name, result, job.settings, judged))
    return found[-1]


def judge(measured: Measured) -> None:
    """Raises PagesCopied, with one sentence; the tables stand in sections of the report."""
    __tracebackhide__ = True
    settings = measured.settings
    measured.result.assert_shared(settings.max_copied, settings.max_frozen)


def _skip(why: str) -> BaseException:
    # With the test's own location: this file's line would say nothing.
    return pytest.skip.Exception(f"cowfreeze cannot measure here: {why}", _use_item_location=True)


_PLATFORM = pytest.StashKey["str | None"]()


def _why_unmeasurable(config: pytest.Config) -> str | None:
    """Why nothing at all can be measured here; None when a worker that does next to nothing
    can be, so that it is the test's own doing."""
    if _PLATFORM not in config.stash:
        (worker,) = fork_workers(id, 1).workers
        config.stash[_PLATFORM] = (
            None
            if worker.copied_pages is not None
            else " ".join(worker.reasons) or "the audit gave no reason"
        )
    return config.stash[_PLATFORM]
