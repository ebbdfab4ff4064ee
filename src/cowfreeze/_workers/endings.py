"""From what a worker said, and how its process ended, to its report.

A worker can end in many ways without a word, so nothing here relies on its messages: the
mailbox tells how far it came, the exit status how it ended.
"""

from __future__ import annotations

import pickle
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from cowfreeze import _core
from cowfreeze._workers import report
from cowfreeze._workers.channel import END, VALUE, Figures, Mailbox
from cowfreeze._workers.processes import error_text, signal_name
from cowfreeze._workers.report import WorkerReport

if TYPE_CHECKING:
    from cowfreeze._workers.state import State
    from cowfreeze._workers.worker import Worker

# The statuses that are a verb by themselves; "killed" and the like need "was".
_STANDS_ALONE = (report.EXITED, report.TIMED_OUT, "ended", "broke")


class Ending(NamedTuple):
    outcome: str
    status: str
    result: Any = None
    error: BaseException | None = None
    traceback: str | None = None


class PageFigures(NamedTuple):
    copied_pages: int | None = None
    frozen_copied_pages: int | None = None
    new_pages: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    startup_pages: int | None = None
    startup_frozen_pages: int | None = None
    copied_by_area: dict[str, int] = {}
    scan_seconds: float | None = None
    method: str | None = None
    reasons: tuple[str, ...] = ()


def make_report(state: State, worker: Worker) -> tuple[WorkerReport, str | None]:
    """The report of one worker, and the method of its audit."""
    figures = state.mailbox.get(worker.index)
    ending = _ending(state, worker, figures)
    reasons: list[str] = []
    pages = PageFigures()
    if figures.records:
        pages = page_figures(figures.records)
        reasons += pages.reasons
    elif figures.stage == Mailbox.MEASURED:
        reasons.append(figures.text)
    elif figures.stage == Mailbox.TOLD:
        reasons.append("The worker could not measure its pages.")
    else:
        was = "" if ending.status.startswith(_STANDS_ALONE) else "was "
        reasons.append(f"It {was}{ending.status} before it could measure its pages.")
    measured = figures.stage in (Mailbox.MEASURED, Mailbox.TOLD)
    faults = pages.minor_faults
    if faults is None and measured and figures.minor_faults >= 0:
        faults = figures.minor_faults
    made = WorkerReport(
        index=worker.index,
        pid=worker.pid,
        outcome=ending.outcome,
        status=ending.status,
        exitcode=worker.exitcode,
        result=ending.result,
        error=ending.error,
        traceback=ending.traceback,
        copied_pages=pages.copied_pages,
        frozen_copied_pages=pages.frozen_copied_pages,
        new_pages=pages.new_pages,
        minor_faults=faults,
        major_faults=pages.major_faults,
        copied_by_area=pages.copied_by_area,
        startup_pages=pages.startup_pages,
        startup_frozen_pages=pages.startup_frozen_pages,
        uss=worker.uss,
        pss=worker.pss,
        seconds=figures.seconds if measured else None,
        scan_seconds=pages.scan_seconds,
        reasons=tuple(reasons),
    )
    return made, pages.method


def _ending(state: State, worker: Worker, figures: Figures) -> Ending:
    """How the worker ended, from its own words if there are any, else from its status."""
    if worker.timed_out_in == "target" or (worker.timed_out_in and END not in worker.messages):
        return Ending(report.TIMED_OUT, _timeout_text(state, worker))
    if END in worker.messages:
        return _told_ending(state, worker)
    code = worker.exitcode
    if worker.channel_error and figures.stage != Mailbox.TOLD:
        return Ending(
            report.VANISHED,
            f"ended because the parent could not read from it: {worker.channel_error}",
        )
    if code is not None and code < 0:
        text = f"killed by {signal_name(-code)}"
        if code == -signal.SIGKILL:
            text += " (which the kernel also sends when memory runs out)"
        text += ", core dumped" if worker.core_dumped else ""
        if worker.repaired is not None:
            text += (
                ". This process has packed data: C code that writes to a packed list or dict that it was "
                "given (heapq, PyDict_DelItem, exec) ends its worker so, and only its worker"
            )
            if worker.repaired:
                text += f"; it had changed {worker.repaired} shared header(s), which were restored"
        return Ending(report.KILLED, text)
    if figures.stage == Mailbox.TOLD:
        outcome, _, status = figures.text.partition(": ")
        if worker.channel_error and outcome == report.RESULT_LOST:
            status = f"returned, but the parent could not read from it: {worker.channel_error}"
        return Ending(outcome, status)
    if figures.stage == Mailbox.BROKEN:
        return Ending(report.VANISHED, f"broke off outside of the target: {figures.text}")
    if code is None:
        return Ending(
            report.VANISHED,
            "ended without a word, and its exit status was taken by the application's "
            "handling of SIGCHLD",
        )
    return Ending(report.EXITED, f"exited with status {code} (os._exit in the target)")


def _told_ending(state: State, worker: Worker) -> Ending:
    told = pickle.loads(worker.messages[END])
    if told["flush_error"]:
        state.notes.append(f"worker {worker.index} {told['flush_error']}")
    ending = Ending(told["outcome"], told["status"], traceback=told["traceback"])
    if VALUE not in worker.messages:
        return ending
    try:
        value = pickle.loads(worker.messages[VALUE])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a class does when it is rebuilt, SystemExit too
        if ending.outcome == report.RETURNED:
            return Ending(
                report.RESULT_LOST,
                "returned a result that cannot be unpickled in the parent: "
                f"{error_text(error)}. Return plain data",
                error=error,
            )
        return ending  # an exception whose class cannot be rebuilt: its text is here
    if ending.outcome == report.RETURNED:
        return ending._replace(result=value)
    return ending._replace(error=value if isinstance(value, BaseException) else None)


def _timeout_text(state: State, worker: Worker) -> str:
    what = "" if worker.timed_out_in == "target" else " while it sent its result"
    text = f"timed out after {state.timeout:g} s{what}"
    if worker.sigkilled:
        return f"{text}; it ignored SIGTERM for {state.grace:g} s and was ended by SIGKILL"
    if worker.exitcode == -signal.SIGTERM:
        return f"{text} and was ended by SIGTERM"
    return f"{text} and ended by itself after SIGTERM"


def page_figures(records: bytes) -> PageFigures:
    """What the target did: the audit's record after it, which leaves out the pages of the one before."""
    start = _core.decode_record(records[: _core.RECORD_SIZE])
    end = _core.decode_record(records[_core.RECORD_SIZE :])

    def since(figure: str) -> int | None:
        """Unknown too when it is unknown which pages are to be left out."""
        return None if start[figure] is None else end[figure]

    by_area = end["by_area"] if start["copied_pages"] is not None else {}
    return PageFigures(
        copied_pages=since("copied_pages"),
        frozen_copied_pages=since("frozen_copied_pages"),
        new_pages=since("new_pages"),
        minor_faults=_difference(end["minor_faults"], start["minor_faults"]),
        major_faults=_difference(end["major_faults"], start["major_faults"]),
        startup_pages=start["copied_pages"],
        startup_frozen_pages=start["frozen_copied_pages"],
        copied_by_area={area: count for area, count in by_area.items() if count},
        scan_seconds=end["scan_seconds"],
        method=end["method"],
        reasons=tuple(dict.fromkeys((*end["reasons"], *start["reasons"]))),
    )


def _difference(end: int | None, start: int | None) -> int | None:
    """Of counts that only grow."""
    return None if end is None or start is None else end - start
