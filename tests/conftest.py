"""What all test files share: a case that cannot run here counts as skipped, with its reason."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from _child import CaseSkipped


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call() -> Generator[None, object, None]:
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None  # type: ignore[attr-defined]
    if isinstance(error, CaseSkipped):
        outcome.force_exception(pytest.skip.Exception(str(error)))  # type: ignore[attr-defined]
