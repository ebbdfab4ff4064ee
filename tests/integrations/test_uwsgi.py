"""uWSGI as it is started in production: what its workers copy, with and without cowfreeze.

Needs uWSGI, which pip compiles (`make test-integrations` installs it).
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.servers import MIB, Host, free_port, measure, running, wait_for, worst

from cowfreeze import _core

UWSGI = Path(sys.executable).parent / "uwsgi"
# Of this 1 to 2 MiB are uWSGI's own work; the data are 12 MiB of pages.
MOST = 4 * MIB
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not UWSGI.exists(), reason="no uwsgi beside this interpreter: pip install uwsgi"),
]
immortal = pytest.mark.skipif(not _core.HAS_IMMORTAL, reason="every read copies before 3.12")


@contextlib.contextmanager
def uwsgi(*options: str, module: str = "uwsgi_shop:application", **environment: str) -> Iterator[Host]:
    port = free_port()
    command = (str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--processes", "2", "--need-app", "--die-on-term")
    with running(*command, "--home", sys.prefix, "--module", module, *options, environment=environment) as host:
        host.port = port
        yield host


@immortal
def test_workers_share_what_was_frozen() -> None:
    options = ("-M", "--skip-atexit-teardown")
    with uwsgi(*options) as host:
        plain = measure(host)
    with uwsgi(*options, SETUP="1") as host:
        ours = measure(host)
        assert host.text().count("cowfreeze froze") == 1 and "tears the interpreter down" not in host.text()
    wrapper = "cowfreeze.integrations.uwsgi_app:application"
    with uwsgi(*options, module=wrapper, COWFREEZE_APP="uwsgi_shop:application") as host:
        unchanged = measure(host)
        assert host.text().count("cowfreeze froze") == 1
    for figures in (ours, unchanged):
        assert worst(figures) <= MOST, figures
        assert worst(figures) * 3 <= worst(plain), (figures, plain)


@pytest.mark.parametrize("option", ["--lazy-apps", "--lazy"])
def test_lazy_apps_are_refused(option: str) -> None:
    with uwsgi("-M", option, SETUP="1") as host:
        host.wait_for_workers(2)
        host.load(2, times=1)
        assert f"uWSGI runs with {option[2:]}" in host.text(), host.text()
        assert "cowfreeze froze" not in host.text()


def test_settings_that_cost_memory_are_named() -> None:
    with uwsgi(SETUP="1") as host:
        host.load(1, times=1)
        assert "without -M" in host.text() and "skip-atexit-teardown" in host.text(), host.text()
        assert host.text().count("cowfreeze froze") == 1


def test_wrong_side_names_the_right_place() -> None:
    with uwsgi("-M", LATE="1") as host:
        host.load(1, times=1)
        assert "last line of the WSGI module" in host.text(), host.text()


def test_a_worker_that_is_told_to_reload_is_replaced_and_shares() -> None:
    """HUP to uWSGI executes it anew: everything is loaded and frozen again."""
    with uwsgi("-M", "--skip-atexit-teardown", SETUP="1") as host:
        old = host.wait_for_workers(2)
        host.load(2, times=1)
        host.process.send_signal(signal.SIGHUP)
        wait_for("new workers", lambda: len(host.workers()) == 2 and not set(old) & set(host.workers()))
        host.load(2, times=1)
        assert host.text().count("cowfreeze froze") == 2, host.text()
        if _core.HAS_IMMORTAL:
            assert max(host.copied().values()) <= MOST
