"""gunicorn, as it is started in production: what its workers copy, with and without cowfreeze."""

from __future__ import annotations

import functools
import os
import signal
import sys

import pytest
from helpers.servers import FILES, MIB, gunicorn, measure, wait_for, worst

from cowfreeze import _core

pytest.importorskip("gunicorn")

OURS = ("--preload", "-c", "python:cowfreeze.integrations.gunicorn")
RUN = (sys.executable, "-m", "cowfreeze", "run", "--")
# The data are 12 MiB of pages; a worker of gunicorn copies 1.5 to 2.5 MiB of its own.
MOST = 4 * MIB

immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")


@functools.cache
def plain(*options: str) -> int:
    with gunicorn("--preload", *options) as host:
        return worst(measure(host))


@functools.cache
def explicit() -> int:
    with gunicorn(*OURS) as host:
        figures = measure(host)
        assert "cowfreeze froze" in host.text()
        return worst(figures)


@immortal
def test_config_module() -> None:
    assert explicit() <= MOST
    assert explicit() * 3 <= plain(), (explicit(), plain())


@immortal
def test_run_needs_no_configuration() -> None:
    """The same figures as with the explicit integration."""
    with gunicorn("--preload", prefix=RUN) as host:
        figures = measure(host)
        assert host.text().count("cowfreeze run: froze") == 1
    assert worst(figures) <= MOST, figures
    assert worst(figures) * 3 <= plain(), (figures, plain())
    # They differ by chance, a few dozen pages: what a worker answers before it is looked at.
    assert abs(worst(figures) - explicit()) <= MIB, (figures, explicit())


def test_install_keeps_hooks_and_survives_hup() -> None:
    with gunicorn("-c", str(FILES / "gunicorn_conf.py")) as host:
        old = host.wait_for_workers(2)
        assert "own hook" in host.text() and "cowfreeze froze" in host.text()
        host.process.send_signal(signal.SIGHUP)
        wait_for("new workers", lambda: len(host.workers()) == 2 and not set(old) & set(host.workers()))
        host.load(2, times=1)
        if _core.HAS_IMMORTAL:
            assert max(host.copied().values()) <= MOST
        assert "Traceback" not in host.text(), host.text()


def test_without_preload_it_says_so() -> None:
    with gunicorn(prefix=RUN, workers=1) as host:
        host.wait_for_workers(1)
        assert host.text().count("without --preload") == 1
        assert "froze " not in host.text()


def test_wrong_side_names_the_right_hook() -> None:
    with gunicorn("-c", str(FILES / "wrong_conf.py"), workers=1) as host:
        host.wait_for_workers(1)
        host.load(1, times=1)
        assert "post_fork" in host.text() and "when_ready" in host.text(), host.text()


@immortal
@pytest.mark.slow
@pytest.mark.parametrize("options", [("-k", "gthread", "--threads", "4"), ("-k", "gevent")], ids=["gthread", "gevent"])
def test_other_workers(options: tuple[str, ...]) -> None:
    if "gevent" in options:
        pytest.importorskip("gevent")
    for prefix, more in (((), OURS), (RUN, ("--preload",))):
        with gunicorn(*more, *options, prefix=prefix) as host:
            figures = measure(host)
        assert worst(figures) <= 2 * MOST, figures
        assert worst(figures) * 2 <= plain(*options), (figures, plain(*options))


@pytest.mark.slow
def test_workers_end_with_status_zero() -> None:
    """gunicorn logs a worker that ends with another status; fast_exit must not make one."""
    with gunicorn("-c", str(FILES / "gunicorn_conf.py"), workers=1) as host:
        (pid,) = host.wait_for_workers(1)
        host.load(1, times=1)
        os.kill(pid, signal.SIGTERM)
        wait_for("a new worker", lambda: host.workers() and pid not in host.workers())
        host.load(1, times=1)
        assert "exited with code" not in host.text() and "Worker exiting" in host.text(), host.text()


def test_a_config_file_is_called_with_the_arity_gunicorn_checks(caplog: pytest.LogCaptureFixture) -> None:
    from cowfreeze.integrations import _log
    from cowfreeze.integrations import gunicorn as integration

    _log._said.clear()

    called: list[object] = []
    namespace = {"when_ready": called.append, "worker_exit": lambda server, worker: called.append(worker)}
    integration.install(namespace, fast_exit=True)
    assert namespace["preload_app"] is True

    class Server:
        class cfg:
            preload_app = False
            dirty_workers = 0

        class log:
            warning = called.append

        pid = os.getpid()

    namespace["when_ready"](Server)  # type: ignore[operator]
    namespace["worker_exit"](Server, "worker")  # type: ignore[operator]: no exception is on its way
    assert called == [Server, "worker"] and caplog.text.count("gunicorn runs without preload_app") == 1


