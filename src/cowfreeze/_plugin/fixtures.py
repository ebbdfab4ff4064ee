"""The fixtures `cow` and `assert_no_cow`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from cowfreeze._plugin import settings as settings_module
from cowfreeze._plugin.marker import Measured, judge, record
from cowfreeze._plugin.measure import Job
from cowfreeze._plugin.result import CowResult

_FORM = (
    'give a function that returns the data (preload=load), the name of a fixture (preload="index") '
    'or several (preload=("index", "words"))'
)


class Cow:
    """What the fixture ``cow`` gives."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def run(
        self,
        func: Callable[..., Any],
        *,
        preload: Callable[[], Any] | str | tuple[str, ...] | None = None,
        workers: int | None = None,
        warmup: int | None = None,
        freeze: str | None = None,
        timeout: float | None = None,
    ) -> CowResult:
        """Freeze in a zygote, run FUNC in each worker, and measure. Judges nothing.

        Args:
            func: called with what ``preload`` gives, one argument per fixture named; without
                ``preload`` it is called without arguments.
            preload: fixtures whose values are frozen before the fork, by name; or a function
                that builds the data in the zygote, so that this process never holds it.
            workers: how many; default as for the marker.
            warmup: how often FUNC runs before freezing; default as for the marker.
            freeze: "data", "heap" or "none"; default "data" with ``preload``, else "heap".
            timeout: seconds for all workers together; None: as long as they like.

        Returns:
            The figures.

        Raises:
            TypeError, ValueError: a wrong argument; the text names the right form.
            BaseException: what FUNC, or ``preload``, raised in another process.
            WorkerFailed: a worker was killed, exited or timed out.
            CowfreezeError: no process could be forked, or freezing failed.
        """
        __tracebackhide__ = True
        return self._run(func, preload, workers, warmup, freeze, timeout).result

    def _run(
        self,
        func: Callable[..., Any],
        preload: object,
        workers: int | None,
        warmup: int | None,
        freeze: str | None,
        timeout: float | None,
        limits: dict[str, Any] | None = None,
    ) -> Measured:
        __tracebackhide__ = True
        if not callable(func):
            raise TypeError(f"func={func!r} cannot be called: give a function")
        if freeze is None:
            freeze = "heap" if preload is None else "data"
        elif freeze == "data" and preload is None:
            raise ValueError(f'freeze="data" needs preload=, else there is no data: {_FORM}')
        given = {"workers": workers, "warmup": warmup, "freeze": freeze, "timeout": timeout}
        given.update(limits or {})
        config = self._request.config
        settings = settings_module.make(
            config, {key: value for key, value in given.items() if value is not None}
        )
        job = Job(
            item=self._request.node,
            settings=settings,
            preload=self._preload(preload),
            body=func,
            alone=preload is None,
            keep=True,
            explain=config.getoption("cow_explain"),
        )
        return record(job, judged=limits is not None)

    def _preload(self, preload: object) -> Callable[[], tuple[Any, ...]]:
        if preload is None:
            return lambda: ()
        names = (preload,) if isinstance(preload, str) else preload
        if isinstance(names, (tuple, list)) and names and all(isinstance(n, str) for n in names):
            values = tuple(self._request.getfixturevalue(name) for name in names)
            return lambda: values
        if callable(preload):
            return lambda: (preload(),)
        raise TypeError(f"preload={preload!r} is wrong: {_FORM}")


class AssertNoCow:
    """What the fixture ``assert_no_cow`` gives: call it for a context manager."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(
        self,
        max_copied: int | str | None = None,
        max_frozen: int | None = None,
        *,
        info: str | None = None,
    ) -> Capture:
        """A context manager; what is run in it has to stay in the limits.

        Args:
            max_copied: what each worker may copy, in bytes or as "256 KiB"; default as for
                the marker.
            max_frozen: how many copied pages may hold frozen objects; default as for the
                marker.
            info: a sentence for the failure: what was measured, or why a limit is above
                the default.

        Raises:
            TypeError, ValueError: a limit that is none.
        """
        limits = {"max_copied": max_copied, "max_frozen": max_frozen, "reason": info}
        given = {key: value for key, value in limits.items() if value is not None}
        settings_module.make(self._request.config, given)
        return Capture(Cow(self._request), given, info)


class Capture:
    """The object that ``with assert_no_cow() as measured`` binds.

    Attributes:
        results: one CowResult per ``run``.
    """

    def __init__(self, cow: Cow, limits: dict[str, Any], info: str | None) -> None:
        self._cow = cow
        self._limits = limits
        self._info = info
        self._measured: list[Measured] = []

    @property
    def results(self) -> tuple[CowResult, ...]:
        """What was measured so far, in order."""
        return tuple(measured.result for measured in self._measured)

    def run(
        self,
        func: Callable[..., Any],
        *,
        preload: Callable[[], Any] | str | tuple[str, ...] | None = None,
        workers: int | None = None,
        warmup: int | None = None,
        freeze: str | None = None,
        timeout: float | None = None,
    ) -> CowResult:
        """As ``cow.run``; judged when the context ends."""
        __tracebackhide__ = True
        measured = self._cow._run(func, preload, workers, warmup, freeze, timeout, self._limits)
        self._measured.append(measured)
        return measured.result

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if error is not None:
            return  # the body's failure comes first
        info = f"\n{self._info}" if self._info else ""
        if not self._measured:
            pytest.fail(
                "nothing was measured in this context, so nothing is proven: call .run(func) in "
                f"it{info}"
            )
        if self._cow._request.config.getoption("cow_no_freeze"):
            return
        for measured in self._measured:
            try:
                judge(measured)
            except AssertionError as failed:
                if info:
                    failed.args = (f"{failed.args[0]}{info}",)
                raise
