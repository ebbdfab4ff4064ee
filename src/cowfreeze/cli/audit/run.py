"""Running an audit and saying what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from cowfreeze._errors import CowfreezeError, UnsupportedError
from cowfreeze._explain.explanation import Explanation
from cowfreeze._freeze.freeze import freeze
from cowfreeze._freeze.report import FreezeReport
from cowfreeze._sizes import format_size
from cowfreeze._workers.fork import fork_named
from cowfreeze._workers.report import KILLED, RAISED, RESULT_LOST, TIMED_OUT, WorkerFailed, WorkerReport, WorkersResult
from cowfreeze.cli.audit.names import where
from cowfreeze.cli.command import FAILURE, CommandError

_MOST_ADVICE = 5


@dataclasses.dataclass(frozen=True)
class Order:
    """What to run: names as given, the functions, and how WORK is called (1 or 2 arguments)."""

    make_name: str
    make_data: Callable[..., Any]
    work_name: str
    work: Callable[..., Any]
    arity: int
    workers: int
    freeze: str
    timeout: float | None
    trap: bool


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a worker may copy, in bytes, and how many frozen pages; None is no limit."""

    copied: int | None
    frozen: int | None


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found. `frozen` is None for --freeze none."""

    result: WorkersResult
    frozen: FreezeReport | None

    def above(self, limits: Limits) -> list[str]:
        """A sentence for each worker and limit that it does not keep."""
        said = []
        for worker in self.result.workers:
            copied = None if worker.copied_pages is None else worker.copied_pages * self.result.page_size
            if limits.copied is not None and (copied is None or copied > limits.copied):
                has = "an unknown amount" if copied is None else format_size(copied)
                said.append(f"worker {worker.index} copied {has}; --max-copied is {format_size(limits.copied)}")
            frozen = worker.frozen_copied_pages
            if limits.frozen is not None and (frozen is None or frozen > limits.frozen):
                has = "an unknown number of" if frozen is None else f"{frozen:,}"
                said.append(f"worker {worker.index} copied {has} frozen pages; --max-frozen is {limits.frozen:,}")
        return said


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """Let descriptor 1 be stderr for a while: what the program prints must not stand in the
    result. Of the program's own children too, so the descriptor is changed and not sys.stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def run(order: Order) -> Audit:
    """Make the data, freeze it, fork the workers.

    Raises CommandError (status 1: make_data raised; 4: a worker did not return), CowfreezeError.
    """
    _say(f"calling {order.make_name}()")
    try:
        data = order.make_data()
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"{order.make_name}() raised {where(error)}; no worker was forked", FAILURE
        ) from error
    frozen = _freeze(order.freeze, data)
    _say(f"{order.workers} workers run {order.work_name}")
    calls = [(data, index)[: order.arity] for index in range(order.workers)]
    result = fork_named(order.work, calls, order.timeout, (("data", data),), order.trap)
    for worker in result.workers:
        if worker.failed and worker.outcome != RESULT_LOST:  # nobody looks at the result
            raise _failed(order, worker, result)
    return Audit(result, frozen)


def _freeze(what: str, data: Any) -> FreezeReport | None:
    if what == "none":
        return None
    _say("freezing")
    try:
        return freeze(data) if what == "data" else freeze()
    except (MemoryError, UnsupportedError) as error:
        raise CommandError(f"freezing failed: {error}; --freeze none audits without it") from error


def _failed(order: Order, worker: WorkerReport, result: WorkersResult) -> CowfreezeError:
    text = f"worker {worker.index} of {len(result.workers)} ({order.work_name}) {worker.status}"
    if worker.outcome == RAISED:
        place = _last_line(worker.traceback)
        text += f"{place}; call it on the data in one process to see the whole traceback"
    elif worker.outcome == TIMED_OUT:
        text += "; give more time with --timeout"
    elif worker.outcome == KILLED and worker.exitcode == -9:
        text += "; if memory ran out, use fewer workers (--workers)"
    else:
        text += "; its figures would say nothing about the work that it did not do"
    return CommandError(" ".join(text.split()), WorkerFailed.exit_code)


def _last_line(traceback: str | None) -> str:
    """ (file:line) of the last frame in the text of a traceback."""
    frames = [line.strip() for line in (traceback or "").splitlines() if line.strip().startswith('File "')]
    if not frames:
        return ""
    name, _, rest = frames[-1].removeprefix('File "').partition('", line ')
    return f" ({name}:{rest.partition(',')[0]})"


def _say(text: str) -> None:
    # Lines, no spinner: that would be a thread, and a process with threads forks badly.
    if sys.stderr is not None:
        print(f"{text} ...", file=sys.stderr, flush=True)


def report(audit: Audit, limits: Limits, top: int, files: list[str]) -> str:
    """For people: figures per worker, causes, advice, verdict."""
    parts = [str(audit.result)]
    if audit.frozen is not None:
        frozen = audit.frozen
        head = f"frozen before the fork: {frozen.objects:,} objects, {format_size(frozen.bytes)}, on {frozen.pages:,} pages"
        parts.insert(0, "\n".join([head, *(f"note: {note}" for note in frozen.notes)]))
    explanation = audit.result.explain(top=top)
    parts.append(str(explanation))
    advice = _advice(explanation)
    if advice:
        parts.append("\n".join(["What to do, largest first:", *advice]))
    last = [f"wrote {file}" for file in files]
    last += [f"above the limit: {sentence}" for sentence in audit.above(limits)]
    if last:
        parts.append("\n".join(last))
    return "\n\n".join(parts)


def _advice(explanation: Explanation) -> list[str]:
    """The first few pieces of advice, each once, with the causes that they are for."""
    causes: dict[str, dict[str, int]] = {}
    for cause in explanation.causes:
        if cause.advice:
            types = causes.setdefault(cause.advice, {})
            types[cause.type] = max(types.get(cause.type, 0), cause.pages)
    lines = []
    for advice, types in list(causes.items())[:_MOST_ADVICE]:
        named = [f"{name} ({pages:,} page{'' if pages == 1 else 's'})" for name, pages in types.items()]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        lines.append(f"  {', '.join(named[:3])}{more}")
        lines += textwrap.wrap(advice, 104, initial_indent="      ", subsequent_indent="      ")
    return lines


def to_dict(audit: Audit, limits: Limits) -> dict[str, Any]:
    """For JSON."""
    return {
        "frozen": None if audit.frozen is None else audit.frozen.to_dict(),
        "above_limits": audit.above(limits),
        "result": audit.result.to_dict(),
    }
