"""What warnings, `doctor` and the docs tell people to write exists; wrong sides without their hosts."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cowfreeze
from cowfreeze import integrations
from cowfreeze._system import hosts, wrong_side

TORNADO = "import types; sys.modules['tornado.process'] = types.SimpleNamespace(_task_id=0)"
UWSGI = "import types; sys.modules['uwsgi'] = types.SimpleNamespace(worker_id=lambda: 1)"
ARBITER = "class Arbiter: pid = os.getpid()\nself = Arbiter()"
# (file, function, what is said, statements before): "" says nothing. A child that is a daemon may be a
# parent, and so is gunicorn's own process, which calls pre_fork from the function that forks.
PLANTS = [
    ("gunicorn/arbiter.py", "spawn_worker", "when_ready", ""),
    ("celery/concurrency/prefork.py", "process_initializer", "celeryd_after_setup", ""),
    ("rq/worker/base.py", "main_work_horse", "cowfreeze.integrations.rq.Worker", ""),
    ("pyspark/daemon.py", "worker", "spark.python.daemon.module=cowfreeze.integrations.pyspark", ""),
    ("torch/utils/data/_utils/worker.py", "_worker_loop", "cowfreeze.integrations.torch.data_loader()", ""),
    ("app.py", "main", "cowfreeze.integrations.tornado.fork_processes()", TORNADO),
    ("app.py", "main", "cowfreeze.integrations.uwsgi.setup()", UWSGI),
    ("app.py", "daemon", "", ""),
    ("gunicorn/arbiter.py", "spawn_worker", "", ARBITER),
]
# Each plant is a child that had not imported cowfreeze when it was forked: then only the frames and
# the kernel tell that it is a worker.
CHILDREN = """
import json, os, sys
for file, function, _, before in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid:
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"the child for {file} failed")
        continue
    import warnings
    names = {"os": os, "sys": sys}
    exec(before, names)
    given = "self" if "self" in names else ""
    code = f"def {function}({given}):\\n import cowfreeze\\n cowfreeze.freeze(dry_run=True, collect=False)\\n"
    exec(compile(code, "/somewhere/" + file, "exec"), names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names[function](*([names["self"]] if given else []))
    print(json.dumps([str(one.message) for one in caught if one.category.__name__ == "CowfreezeWarning"]), flush=True)
    os._exit(0)
"""


def test_a_worker_that_imports_cowfreeze_late_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, json.dumps(PLANTS)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(PLANTS), done
    for (file, function, says, _), answer in zip(PLANTS, answers):
        assert len(answer) == bool(says), (file, function, answer)
        assert says in " ".join(answer), (file, function, answer)


def names_told() -> set[str]:
    files = [Path(hosts.__file__), Path(wrong_side.__file__), *Path(integrations.__file__).parent.glob("*.py")]
    docs = Path(__file__).parents[2] / "docs"
    text = "\n".join(path.read_text() for path in [*files, *docs.glob("*.md")])
    return {found.rstrip(".") for found in re.findall(r"cowfreeze\.integrations\.[a-zA-Z_.]+", text)}


def test_what_people_are_told_to_write_exists() -> None:
    told = names_told()
    assert len(told) > 15
    for name in told:
        module, _, attribute = name.removeprefix("cowfreeze.integrations.").partition(".")
        if callable(getattr(integrations, module, None)):
            continue
        spec = importlib.util.find_spec(f"cowfreeze.integrations.{module}")
        assert spec is not None and spec.origin is not None, name
        tree = ast.parse(Path(spec.origin).read_text())
        found = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert attribute in found or not attribute, name


def test_every_integration_is_listed() -> None:
    folder = Path(integrations.__file__).parent
    for path in folder.glob("*.py"):
        if not path.name.startswith("_"):
            assert path.stem in (integrations.__doc__ or ""), path.name


def test_a_host_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import cowfreeze.integrations.rq
    import cowfreeze.integrations.torch
    import cowfreeze.integrations.tornado

    uses = {
        "rq": lambda: cowfreeze.integrations.rq.__getattr__("Worker"),
        "tornado": lambda: cowfreeze.integrations.tornado.fork_processes(2),
        "torch": lambda: cowfreeze.integrations.torch.data_loader([]),
    }
    for name, use in uses.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(cowfreeze.UnsupportedError, match=f"cowfreeze.integrations.{name} needs .*pip install"):
            use()


def test_uwsgi_settings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from cowfreeze.integrations import _log, uwsgi

    said: list[str] = []
    assert uwsgi.setup() is None, "elsewhere than in uWSGI it does nothing"

    class Server:
        opt: dict[str, object] = {}
        worker = 0
        numproc = 2
        worker_id = staticmethod(lambda: Server.worker)
        masterpid = staticmethod(lambda: 0)
        log: object = None

    assert uwsgi.why_not(Server) == "" and len(uwsgi._advice(Server)) == 2
    Server.opt = {"skip-atexit-teardown": True}
    assert len(uwsgi._advice(Server)) == 1
    # What uWSGI hands on of `name = false` in a file, alone and after others.
    for off in (b"false", b"off", b"0", [b"true", b"no"]):
        Server.opt = {"skip-atexit-teardown": off, "lazy-apps": off}
        assert uwsgi.why_not(Server) == "" and len(uwsgi._advice(Server)) == 2
    for on in (b"true", b"1", [b"no", b"yes"]):
        Server.opt = {"lazy-apps": on}
        assert "runs with lazy-apps" in uwsgi.why_not(Server)
    Server.opt = {}
    Server.worker = 1
    assert "in a worker of uWSGI" in uwsgi.why_not(Server)
    Server.opt = {"lazy-apps": True}
    monkeypatch.setitem(sys.modules, "uwsgi", Server)
    Server.log = staticmethod(said.append)
    _log._said.clear()
    with caplog.at_level("CRITICAL", "cowfreeze"):  # nobody listens: the host's own log has it
        assert uwsgi.setup() is None and uwsgi.setup() is None
    assert len(said) == 1 and "uWSGI runs with lazy-apps" in said[0]


def test_uwsgi_app_names_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COWFREEZE_APP", "os:getpid")
    from cowfreeze.integrations import uwsgi_app

    assert uwsgi_app.application is os.getpid
    assert uwsgi_app.load("os:getpid") is os.getpid
    with pytest.raises(cowfreeze.CowfreezeError, match="COWFREEZE_APP=module:attribute"):
        uwsgi_app.load("")
    with pytest.raises(cowfreeze.CowfreezeError, match="no such attribute"):
        uwsgi_app.load("os:missing")


def test_preloads_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from cowfreeze.integrations._common import preload

    monkeypatch.setenv("COWFREEZE_PRELOAD", "os, does_not_exist json")
    (line,) = preload()
    assert "does_not_exist is not shared: ModuleNotFoundError" in line
