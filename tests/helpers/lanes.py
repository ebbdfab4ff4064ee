"""The tests in several processes side by side: python tests/helpers/lanes.py N [ARGUMENTS OF PYTEST].

    this process   starts the lanes and waits; its exit status is that of lane 0
    lane 0         pytest with these arguments: it prints, and its closing line counts the tests of all
    lane 1 ..      the same once more; what its tests did, it leaves in a file for lane 0

All lanes go through the same files and claim one after the other, so that the tests of a file stay together
and in order. What another lane did with a file is shown when it is done with it and lane 0 is between two
files: the output reads as if there was one lane.

Why not pytest-xdist: beside its tests runs a thread that listens to the controller. Such a thread takes
signals that a test means for itself, and a fork of a process with threads is another fork than that of most
programs. Here a test is alone in its process and has no strangers below it, whatever the number of lanes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAUSE = 0.1  # seconds between two looks at what other lanes have done


def start(count: int, arguments: list[str]) -> int:
    """Run COUNT lanes; the exit status of lane 0."""
    running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as rest:
        for lane in range(count):
            command = [sys.executable, "-X", "faulthandler", "-m", "pytest", *arguments, f"--lane={folder}:{lane}:{count}"]
            output = rest.enter_context(Path(folder, f"{lane}.printed").open("wb")) if lane else None
            stdin = subprocess.DEVNULL if lane else None
            process = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output)
            running[process.pid] = lane, process
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the lanes as well
        status = 0
        while running:
            pid, ended = os.wait()
            lane, process = running.pop(pid)
            process.returncode = os.waitstatus_to_exitcode(ended)
            Path(folder, f"{lane}.ended").write_text(str(process.returncode))
            if lane == 0:
                status = process.returncode
                for other in running:
                    os.kill(other, signal.SIGINT)
    return status if status >= 0 else 128 - status


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--lane", metavar="FOLDER:LANE:COUNT", help="what helpers/lanes.py gives to the lanes that it starts")


def register(config: pytest.Config) -> None:
    """Make this pytest a lane, if it was started as one."""
    if config.option.lane and not config.option.collectonly:
        folder, lane, count = config.option.lane.rsplit(":", 2)
        made = Other(config, Path(folder), lane) if int(lane) else First(config, Path(folder), int(count))
        config.pluginmanager.register(made, "lane")


class Lane:
    """Runs the files that no other lane has claimed."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.parent = os.getppid()

    def claim(self, session: pytest.Session) -> Iterator[list[pytest.Item]]:
        files: dict[Path, list[pytest.Item]] = {}
        for item in session.items:
            files.setdefault(item.path, []).append(item)
        for path, items in files.items():
            with contextlib.suppress(FileExistsError):
                Path(self.folder, str(path).replace("/", "+")).touch(exist_ok=False)
                yield items

    def run(self, session: pytest.Session) -> Iterator[None]:
        """Run file by file, and stop after each."""
        files = self.claim(session)
        items = next(files, [])
        while items:
            after: list[pytest.Item] = []
            for item, following in zip(items, [*items[1:], None]):
                if following is None:  # what is kept for the next test depends on where that one is
                    after = next(files, [])
                    following = after[0] if after else None
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
            if os.getppid() != self.parent:
                raise session.Interrupted("the process that started the lanes is gone")
            yield
            items = after


class Other(Lane):
    """A lane that tells what it does and shows nothing."""

    def __init__(self, config: pytest.Config, folder: Path, lane: str) -> None:
        super().__init__(config, folder)
        self.told = Path(folder, f"{lane}.told").open("ab")
        config.workerinput = {"workerid": f"lane {lane}"}  # type: ignore[attr-defined]  # so plugins write no cache

    def tell(self, what: str, *values: Any) -> None:
        self.told.write(pickle.dumps((what, values)))
        self.told.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:  # else a file cannot be imported: lane 0 says so
            for _ in self.run(session):
                self.tell("file")
        self.tell("end")
        return True

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.tell("start", nodeid, location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tell("report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        if when == "runtest":  # every lane collects, and that one of them warns is enough
            with contextlib.suppress(Exception):  # not every warning can be pickled
                self.tell("warning", warning_message, when, nodeid, location)


class First(Lane):
    """The lane that shows what all do."""

    def __init__(self, config: pytest.Config, folder: Path, count: int) -> None:
        super().__init__(config, folder)
        self.others = [Told(folder, str(lane)) for lane in range(1, count)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None  # pytest's own loop says so
        for _ in self.run(session):
            self.show(session)
        while not all(other.has_ended() for other in self.others):
            self.show(session)
            time.sleep(PAUSE)
        self.show(session)
        for other in self.others:
            if not other.said_end:
                self.config.get_terminal_writer().write(f"\n{other.printed()}\n")
                session.shouldfail = f"lane {other.lane} did not come to its end: status {other.status()}"
                raise session.Failed(session.shouldfail)
        return True

    def show(self, session: pytest.Session) -> None:
        hook = self.config.hook
        for other in self.others:
            for what, values in other.news(at_once=bool(session.config.option.maxfail)):
                if what == "start":
                    hook.pytest_runtest_logstart(nodeid=values[0], location=values[1])
                elif what == "report":
                    report = hook.pytest_report_from_serializable(config=self.config, data=values[0])
                    hook.pytest_runtest_logreport(report=report)
                    if report.when == "teardown":
                        hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
                elif what == "warning":
                    names = ("warning_message", "when", "nodeid", "location")
                    hook.pytest_warning_recorded.call_historic(kwargs=dict(zip(names, values)))
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)


class Told:
    """What another lane has told."""

    def __init__(self, folder: Path, lane: str) -> None:
        self.folder, self.lane = folder, lane
        self.waiting: list[tuple[str, Any]] = []
        self.position = 0
        self.said_end = False

    def news(self, at_once: bool) -> list[tuple[str, Any]]:
        """About the files that it is done with; all that there is, if it has ended, or AT_ONCE and a test failed."""
        all_of_it = self.has_ended()
        with contextlib.suppress(FileNotFoundError), Path(self.folder, f"{self.lane}.told").open("rb") as stream:
            stream.seek(self.position)
            with contextlib.suppress(EOFError, pickle.UnpicklingError):  # the last one is not there, or not all of it
                while True:
                    what, values = pickle.load(stream)
                    self.position = stream.tell()
                    self.waiting.append((what, values))
                    self.said_end = self.said_end or what == "end"
                    all_of_it = all_of_it or at_once and what == "report" and values[0]["outcome"] == "failed"
        until = len(self.waiting)
        if not all_of_it:
            until = max((at for at, (what, _) in enumerate(self.waiting, 1) if what == "file"), default=0)
        news, self.waiting = self.waiting[:until], self.waiting[until:]
        return news

    def has_ended(self) -> bool:
        return Path(self.folder, f"{self.lane}.ended").exists()

    def status(self) -> str:
        return Path(self.folder, f"{self.lane}.ended").read_text()

    def printed(self) -> str:
        return Path(self.folder, f"{self.lane}.printed").read_text(errors="replace")[-4000:]


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), sys.argv[2:]))
