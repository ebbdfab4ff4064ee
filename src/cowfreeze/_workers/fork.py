"""fork_workers and its kin: what a caller may say, checked before anything is forked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cowfreeze._sizes import check_count, parse_size
from cowfreeze._workers.explaining import ALWAYS, IF_CHEAP, Wants
from cowfreeze._workers.report import WorkersResult
from cowfreeze._workers.run import Run


def fork_workers(
    target: Callable[..., Any],
    workers: int | Iterable[Sequence[Any]] | None = None,
    *,
    args: Iterable[Sequence[Any]] | None = None,
    timeout: float | None = None,
    grace: float = 2.0,
    explain: bool = False,
    trap: bool = False,
) -> WorkersResult:
    """Fork workers from this process, run TARGET in each, and count the pages they copy.

    Worker i runs ``target(i)``, or ``target(*args[i])`` when argument tuples are given.
    It ends with its streams flushed and without tearing the interpreter down: atexit
    functions and non-daemon threads of the parent are not run or waited for in it.
    Arguments are inherited, not pickled; results are pickled.

    While it runs, SIGCHLD is blocked in the calling thread (and is set to the default
    where the application ignores it), so that the application's own handling cannot take
    the exit status of a worker. It arrives afterwards.

    Args:
        target: what to run. It may raise, exit, fork or be killed; the result tells.
        workers: how many (default 2), or the argument tuples themselves, one per worker.
        args: argument tuples, one per worker; ``workers`` may then be left out.
        timeout: seconds that all targets together may take (and once more the sending of
            results). Who takes longer gets SIGTERM, and SIGKILL after ``grace`` seconds.
            None: as long as they like.
        grace: seconds between SIGTERM and SIGKILL, and for what the target left running.
        explain: find out which object and field was written on each copied page, for
            WorkersResult.explain(). While the workers wait, this process walks over all its
            objects and reads the workers' copied pages: about a second per million objects
            or 100,000 pages, some 20 bytes per object, and no other thread runs meanwhile.
        trap: with that, which line wrote (PageCause.line and .stack): each worker runs its target
            under a trap of all its pages, or of the frozen ones where perf is not allowed; see
            cowfreeze.trap for the limits of both. Includes ``explain``.

    Returns:
        Outcomes, results and figures of all workers. A worker's failure is no exception
        here: see WorkerReport.outcome, WorkersResult.results and .assert_shared().

    Raises:
        TypeError, ValueError: an argument of the wrong kind; the text names the right form.
        CowfreezeError: a worker could not be forked; those already forked have ended.
        BaseException: whatever interrupts the calling thread (KeyboardInterrupt); all
            workers have been killed and reaped by then.
    """
    calls = _calls(target, workers, args)
    timeout = None if timeout is None else _seconds(timeout, "timeout", above=0)
    grace = _seconds(grace, "grace", above=None)
    wants = _always if explain or trap else None
    return _run(target, calls, timeout, grace, wants, ALWAYS if trap else None)


def _run(
    target: Callable[..., Any],
    calls: list[tuple[Any, ...]],
    timeout: float | None,
    grace: float,
    wants_explanation: Wants | None,
    trap: str | None = None,
    names: Sequence[tuple[str, Any]] = (),
) -> WorkersResult:
    with Run(target, calls, timeout, grace, wants_explanation, trap) as run:
        run.explaining.names = names
        run.fork()
        run.wait_until_measured()
        run.read_memory()
        run.explain()
        run.collect()
        return run.result()


def fork_and_explain(
    target: Callable[..., Any], workers: int, timeout: float | None, wants: Wants
) -> WorkersResult:
    """fork_workers for the pytest plugin: WANTS says of each worker, from its copied and its
    frozen pages, whether it is to be explained before it ends."""
    return _run(target, _calls(target, workers, None), timeout, 2.0, wants, IF_CHEAP)


def fork_named(
    target: Callable[..., Any],
    calls: list[tuple[Any, ...]],
    timeout: float | None,
    names: Sequence[tuple[str, Any]],
    trap: bool = False,
) -> WorkersResult:
    """fork_workers(explain=True, trap=TRAP) for the command line: paths begin at NAMES."""
    return _run(target, calls, timeout, 2.0, _always, ALWAYS if trap else None, names)


def _always(copied: int | None, frozen: int | None) -> bool:
    return True


def assert_shared(
    target: Callable[..., Any],
    workers: int | Iterable[Sequence[Any]] | None = None,
    *,
    args: Iterable[Sequence[Any]] | None = None,
    max_copied: int | str = "256 KiB",
    max_frozen: int = 16,
    timeout: float | None = None,
    grace: float = 2.0,
) -> WorkersResult:
    """fork_workers and WorkersResult.assert_shared in one, for tests.

    Limits are checked before anything is forked. A worker that is above a limit is explained
    before it ends (WorkersResult.explain), and the error's text names the main causes, with the
    lines that wrote where perf events are allowed (see cowfreeze.trap).

    Raises:
        PagesCopied: a worker copied more than the limits, or its figures are unknown.
        WorkerFailed: a worker did not return.
        TypeError, ValueError, CowfreezeError: as fork_workers.
    """
    limit = parse_size(max_copied, "max_copied")
    check_count(max_frozen, "max_frozen")
    page_size = os.sysconf("SC_PAGE_SIZE")

    def is_over(copied: int | None, frozen: int | None) -> bool:
        return copied is not None and (copied * page_size > limit or (frozen or 0) > max_frozen)

    calls = _calls(target, workers, args)
    timeout = None if timeout is None else _seconds(timeout, "timeout", above=0)
    grace = _seconds(grace, "grace", above=None)
    result = _run(target, calls, timeout, grace, is_over, IF_CHEAP)
    return result.assert_shared(max_copied, max_frozen)


def _calls(
    target: object,
    workers: int | Iterable[Sequence[Any]] | None,
    args: Iterable[Sequence[Any]] | None,
) -> list[tuple[Any, ...]]:
    """The argument tuple of each worker."""
    form = "give the number of workers (workers=4) or argument tuples (args=[(1,), (2,)])"
    if not callable(target):
        raise TypeError(f"target={target!r} cannot be called: give a function")
    count: int | None = None
    if isinstance(workers, int):
        count = check_count(workers, "workers", least=1)
    elif workers is not None:
        if args is not None:
            raise TypeError(f"both workers and args give argument tuples: {form}")
        if isinstance(workers, (str, bytes)) or not isinstance(workers, Iterable):
            raise TypeError(f"workers={workers!r} is no number of workers: {form}")
        args = workers
    if args is None:
        return [(index,) for index in range(2 if count is None else count)]
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise TypeError(f"args={args!r} are no argument tuples: {form}")
    calls = []
    for entry in args:
        if not isinstance(entry, (tuple, list)):
            raise TypeError(f"args holds {entry!r}, which is no tuple of arguments: {form}")
        calls.append(tuple(entry))
    if not calls:
        raise ValueError(f"args is empty, so there is no worker: {form}")
    if count is not None and count != len(calls):
        raise ValueError(f"workers={count} but {len(calls)} argument tuples: leave workers out")
    return calls


def _seconds(value: float, name: str, above: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is no time: give seconds as a number")
    if not math.isfinite(value) or value < 0 or (above is not None and value <= above):
        least = "above 0" if above is not None else "of at least 0"
        none = ", or None for no limit" if name == "timeout" else ""
        raise ValueError(f"{name}={value!r} is no time to wait: give seconds {least}{none}")
    return float(value)
