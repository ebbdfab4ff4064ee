"""One signature for all hosts: arguments and variables, warm-ups by function, name and path, later freezes."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import cowfreeze
from cowfreeze.integrations import _log, warm
from cowfreeze.integrations._settings import Settings

NAMES = {"warmup", "relocate_code", "fast_exit", "refreeze"}
ENTRIES = [
    *(("gunicorn", "install"), ("celery", "setup"), ("uwsgi", "setup"), ("rq", "frozen"), ("tornado", "fork_processes")),
    *(("multiprocessing", "forkserver_context"), ("concurrent", "process_pool_executor")),
]


@pytest.mark.parametrize(("module", "function"), ENTRIES)
def test_every_integration_takes_the_same(module: str, function: str) -> None:
    entry = getattr(importlib.import_module(f"cowfreeze.integrations.{module}"), function)
    parameters = inspect.signature(entry).parameters
    assert NAMES <= set(parameters)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in NAMES)
    for name in NAMES:
        assert f"{name}:" in entry.__doc__ or f"{name}, " in entry.__doc__ or f", {name}" in entry.__doc__, name


def test_arguments_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARMUP", "RELOCATE_CODE", "FAST_EXIT", "REFREEZE"):
        monkeypatch.delenv(f"COWFREEZE_{name}", raising=False)
    plain = Settings()
    assert (plain.warmup, plain.relocate_code, plain.fast_exit, plain.refreeze) == (None, False, False, True)
    monkeypatch.setenv("COWFREEZE_WARMUP", "/, /health")
    monkeypatch.setenv("COWFREEZE_RELOCATE_CODE", "yes")
    monkeypatch.setenv("COWFREEZE_REFREEZE", "0")
    read = Settings()
    assert (read.warmup, read.relocate_code, read.fast_exit, read.refreeze) == (["/", "/health"], True, False, False)
    given = Settings("os:getpid", False, True, True, threads="allow")
    assert (given.warmup, given.relocate_code, given.fast_exit, given.refreeze) == ("os:getpid", False, True, True)
    assert given.options == {"threads": "allow"}


def test_a_wrong_variable_is_one_line_and_the_host_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _log._said.clear()
    monkeypatch.setenv("COWFREEZE_REFREEZE", "never")
    assert Settings().refreeze is True and Settings().refreeze is True
    assert caplog.text.count("COWFREEZE_REFREEZE=never is neither 1 nor 0") == 1


@pytest.mark.parametrize(
    ("warmup", "text"),
    [("os:does_not_exist", "cannot be imported"), ("nothing", "cannot be imported"), ("os:sep", "is no function"),
     (["/"], "a host that knows the application")],
)  # fmt: skip
def test_a_warm_up_that_cannot_be_called_is_told(warmup: Any, text: str) -> None:
    with pytest.raises(cowfreeze.CowfreezeError, match=text):
        Settings(warmup).find_warmup()


def test_settings_reach_another_process_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Settings("os:getpid", True, False, False).to_environment().items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert (read.warmup, read.relocate_code, read.fast_exit, read.refreeze) == ("os:getpid", True, False, False)
    assert Settings(json.loads).to_environment()["COWFREEZE_WARMUP"] == "json:loads"
    with pytest.raises(TypeError, match="importable"):
        Settings(lambda: None).to_environment()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    known = environ["PATH_INFO"] == "/known" and environ["QUERY_STRING"] == "x=1" and environ["HTTP_HOST"] == "h"
    start_response("200 OK" if known else "404 Not Found", [])
    return [b""]


def test_warm_asks_a_wsgi_application() -> None:
    assert warm(wsgi, ["/known?x=1", "/other"], host="h") == {"/known?x=1": 200, "/other": 404}


def test_warm_asks_an_asgi_application_within_its_lifespan() -> None:
    seen: list[str] = []

    async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            for name in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{name}"
                seen.append(name)
                await send({"type": f"lifespan.{name}.complete"})
            return
        assert (await receive())["type"] == "http.request"
        seen.append(scope["path"])
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert warm(asgi, ["/a", "/b?c"]) == {"/a": 204, "/b?c": 204}
    assert seen == ["startup", "/a", "/b", "/a", "/b", "shutdown"]


def test_warm_does_without_a_lifespan() -> None:
    async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        assert scope["type"] == "http", "only http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    assert warm(asgi) == {"/": 200}


def test_warm_refuses_what_is_no_application() -> None:
    with pytest.raises(TypeError, match="list of paths"):
        warm(wsgi, "/")
    with pytest.raises(TypeError, match="application"):
        warm("app:app", ["/"])


LATER = """
import gc, json, os, sys
import cowfreeze
from cowfreeze.integrations import _common
from cowfreeze.integrations._settings import Settings

said = []
settings = Settings(**json.loads(sys.argv[1]))
freeze = lambda: _common.freeze_for("test", settings, info=said.append, warning=said.append) is not None
answers = [freeze()]
keep = [[i] for i in range(2_000)]
answers.append(freeze())
answers.append(len(gc.get_objects()) < 500 and not cowfreeze.is_frozen(keep))  # put away
class Node: pass
one = Node(); one.me = one; import weakref; gone = weakref.ref(one); del one
keep.append([[i] for i in range(2_000)])
freeze()
answers.append(gone() is None)  # no garbage is kept
for _ in range(12):
    keep.append([[i] for i in range(20_000)])
    answers.append(freeze())
print(json.dumps([answers, said]))
"""


def later(**settings: Any) -> tuple[list[bool], list[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COWFREEZE_")}
    done = subprocess.run(
        [sys.executable, "-c", LATER, json.dumps(settings)], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    answers, said = json.loads(done.stdout)
    return answers, said


def test_later_freezes_are_for_much_bounded_and_told() -> None:
    answers, said = later()
    # The first; little is put away, and garbage is not kept; then nine more, and no further one.
    assert answers == [True, False, True, True, *[True] * 9, *[False] * 3]
    assert sum("cowfreeze froze" in line for line in said) == 10
    assert sum("stays as it is after 10 freezes" in line for line in said) == 1


def test_refreeze_can_be_switched_off() -> None:
    answers, said = later(refreeze=False)
    assert answers[:2] == [True, False] and not any(answers[4:])
    assert sum("cowfreeze froze" in line for line in said) == 1


def test_a_warm_up_that_raises_does_not_keep_the_host_from_starting() -> None:
    code = (
        "from cowfreeze.integrations import _common\nfrom cowfreeze.integrations._settings import Settings\n"
        "said = []\n"
        "report = _common.freeze_for('test', Settings(lambda: 1 / 0), warning=said.append)\n"
        "print(report.objects > 1000, *said)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("True test: the warm-up raised ZeroDivisionError"), done
