"""What all test files share.

A case that cannot run here counts as skipped, with its reason. And SIGINT is not ignored: a shell
without job control starts what runs in the background with SIGINT ignored, every process below
inherits that, and a test that interrupts one would wait in vain.
"""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from helpers import lanes
from helpers.child import CaseSkipped

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    lanes.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    lanes.register(config)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call() -> Generator[None, object, None]:
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None  # type: ignore[attr-defined]
    if isinstance(error, CaseSkipped):
        outcome.force_exception(pytest.skip.Exception(str(error)))  # type: ignore[attr-defined]
