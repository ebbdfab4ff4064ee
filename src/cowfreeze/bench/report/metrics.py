"""The columns: what is measured, in which unit, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from cowfreeze._tables import UNKNOWN, count_cell, seconds_cell, size_cell

DASH = "–"

BYTE, SECOND, COUNT, RATIO, SHARE, RATE = "byte", "second", "integer", "ratio", "share", "rate"


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        title: the column's head in tables.
        unit: byte, second, integer; ratio and share are plain numbers, rate is per second.
        timed: it depends on the clock, so it belongs to this machine and to this hour.
        lower: a smaller value is better.
        what: one sentence for `bench list` and the documentation.
    """

    name: str
    title: str
    unit: str
    timed: bool
    lower: bool
    what: str

    def cell(self, value: float | None) -> str:
        """VALUE for people; None is "unknown"."""
        if value is None:
            return UNKNOWN
        if self.unit == BYTE:
            return size_cell(round(value))
        if self.unit == SECOND:
            return seconds_cell(value)
        if self.unit == SHARE:
            return f"{value:.1%}"
        if self.unit == RATIO:
            return f"{value:.2f}"
        if self.unit == RATE and value < 10:
            return f"{value:.1f}"
        return count_cell(round(value))


_ALL = (
    Metric("prefork_rss", "prefork RSS", BYTE, False, True, "resident set of the parent right before the fork"),
    Metric("copied_median", "copied, median", BYTE, False, True, "copied by the work of the median worker"),
    Metric("copied_max", "copied, max", BYTE, False, True, "copied by the work of the worker that copied most"),
    Metric("startup_bytes", "and by the fork", BYTE, False, True, "copied by os.fork and its hooks before the work"),
    Metric("frozen_copied_pages", "frozen pages", COUNT, False, True, "copied pages that hold frozen objects"),
    Metric("uss", "USS", BYTE, False, True, "memory that only the largest worker has"),
    Metric("cluster_pss", "cluster PSS", BYTE, False, True, "parent and workers, shared pages counted once"),
    Metric("shared", "shared", SHARE, False, False, "part of the inherited memory that the work of the worst worker did not copy"),
    Metric("minor_faults", "minor faults", COUNT, False, True, "of the worker with most, while it works"),
    Metric("freeze_seconds", "freeze", SECOND, True, True, "applying the mode, its own collection included"),
    Metric("freeze_ratio", "/ collect", RATIO, True, True, "freeze time per gc.collect() of the same data"),
    Metric("read_parent_seconds", "read, parent", SECOND, True, True, "the parent's second read, after the workers"),
    Metric("read_worker_seconds", "read, worker", SECOND, True, True, "the median worker's read"),
    Metric("fork_seconds", "fork", SECOND, True, True, "median os.fork() in the parent"),
    Metric("forks_per_second", "forks/s", RATE, True, False, "fork, exit at once, wait"),
    Metric("exit_bytes", "exit copies", BYTE, False, True, "page faults of a child ended by SIGTERM, as bytes: an upper bound"),
    Metric("exit_seconds", "exit", SECOND, True, True, "from SIGTERM to the end of the child"),
    Metric("requests_per_second", "requests/s", RATE, True, False, "answers of the server per second"),
    Metric("request_seconds", "request", SECOND, True, True, "median time of one request"),
    Metric("collect_seconds", "gc.collect", SECOND, True, True, "one collection of the data before the mode is applied"),
    Metric("build_seconds", "build", SECOND, True, True, "building the data"),
    Metric("data_bytes", "data", BYTE, False, True, "growth of the resident set while the data was built"),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

MEMORY = (
    "prefork_rss", "copied_median", "copied_max", "startup_bytes", "frozen_copied_pages", "uss", "cluster_pss",
    "shared", "minor_faults",
)  # fmt: skip
TIME = (
    "freeze_seconds", "freeze_ratio", "read_parent_seconds", "read_worker_seconds", "fork_seconds",
    "forks_per_second", "requests_per_second", "exit_bytes", "exit_seconds",
)  # fmt: skip
MARKDOWN = (
    "copied_max", "startup_bytes", "frozen_copied_pages", "cluster_pss", "shared", "freeze_seconds", "freeze_ratio",
    "read_worker_seconds", "forks_per_second", "requests_per_second", "exit_bytes",
)  # fmt: skip
