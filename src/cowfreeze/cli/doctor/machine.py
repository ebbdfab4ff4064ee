"""Checks of the machine and of this Python: everything that is the same for each process.

Facts: khugepaged, KSM and page-table figures are measured (they turn shared pages private, or
copies shared, without a write); the rest is the kernel's documentation.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cowfreeze._sizes import format_size
from cowfreeze._system.proc import PROC, read_meminfo
from cowfreeze.cli.doctor.finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding

if TYPE_CHECKING:
    from cowfreeze._system.probe import Answer

_THP = "kernel/mm/transparent_hugepage"


@dataclass(frozen=True)
class Places:
    """Where the kernel's files are; tests plant their own."""

    proc: Path = PROC
    sys: Path = field(default_factory=lambda: Path("/sys"))


def read_setting(path: Path) -> str | None:
    """The text of a file of /proc/sys or /sys; None if this kernel does not have it.

    Raises:
        OSError: it is there and may not be read.
    """
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def chosen(text: str) -> str:
    """The word in brackets: "always [madvise] never" is "madvise"."""
    inside = text.partition("[")[2].partition("]")[0]
    return inside or text


def thp(places: Places) -> Finding:
    text = read_setting(places.sys / _THP / "enabled")
    if text is None:
        return Finding("thp", OK, "this kernel has no transparent huge pages")
    mode = chosen(text)
    if mode == "always":
        return Finding(
            "thp",
            WARNING,
            "transparent huge pages are on for all memory: the kernel makes huge pages in workers by copying what "
            "they share, and one write to a shared huge page splits it",
            ("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",),
        )
    return Finding("thp", OK, f"transparent huge pages: {mode}")


def khugepaged(places: Places) -> Finding:
    mode = chosen(read_setting(places.sys / _THP / "enabled") or "never")
    shared = read_setting(places.sys / _THP / "khugepaged/max_ptes_shared")
    if mode == "never" or shared is None:
        return Finding("khugepaged", OK, "khugepaged does not run")
    if shared == "0":
        return Finding("khugepaged", OK, "khugepaged leaves shared pages alone (max_ptes_shared is 0)")
    who = "all memory" if mode == "always" else "memory that asked for huge pages"
    return Finding(
        "khugepaged",
        WARNING if mode == "always" else INFO,
        f"khugepaged works on {who}: where half of a 2 MiB range is private it copies the shared rest "
        f"(max_ptes_shared is {shared})",
        ("echo 0 | sudo tee /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_shared",),
    )


def ksm(places: Places) -> Finding:
    run = read_setting(places.sys / "kernel/mm/ksm/run")
    if run is None:
        return Finding("ksm", OK, "this kernel has no KSM")
    if run == "1":
        return Finding(
            "ksm",
            WARNING,
            "KSM merges equal pages: copied pages look shared again, so every count of copied pages is too low",
            ("echo 2 | sudo tee /sys/kernel/mm/ksm/run    # stop and unmerge",),
        )
    return Finding("ksm", OK, "KSM is off")


def swap(places: Places) -> Finding:
    info = read_meminfo(places.proc)
    if "SwapTotal" not in info or "SwapFree" not in info:
        return Finding("swap", UNKNOWN, "meminfo does not show swap")
    total, used = info["SwapTotal"], info["SwapTotal"] - info["SwapFree"]
    if not total:
        return Finding("swap", OK, "no swap")
    text = f"{format_size(used)} of {format_size(total)} swap are in use"
    if used > total // 10:
        return Finding(
            "swap",
            WARNING,
            f"{text}: swapped pages show neither shared nor copied, and shared ones may come back as private",
            ("sudo swapoff -a && sudo swapon -a    # needs that much free memory",),
        )
    return Finding("swap", OK, text)


def overcommit(places: Places) -> Finding:
    mode = read_setting(places.proc / "sys/vm/overcommit_memory")
    if mode is None:
        return Finding("overcommit", UNKNOWN, "vm.overcommit_memory cannot be read")
    if mode == "2":
        return Finding(
            "overcommit",
            WARNING,
            "strict overcommit (mode 2): each fork is charged all private memory of the parent, shared or not, and "
            "fails with ENOMEM when the sum passes CommitLimit",
            ("sudo sysctl -w vm.overcommit_memory=0",),
        )
    name = {"0": "heuristic: refuses only what could never fit", "1": "always: nothing is refused"}.get(mode, "?")
    return Finding("overcommit", OK, f"overcommit mode {mode} ({name})")


def max_map_count(places: Places) -> Finding:
    text = read_setting(places.proc / "sys/vm/max_map_count")
    if text is None or not text.isdigit():
        return Finding("max-map-count", UNKNOWN, "vm.max_map_count cannot be read")
    if int(text) < 65530:
        return Finding(
            "max-map-count",
            WARNING,
            f"vm.max_map_count is {text}: a trap that protects single pages splits mappings and runs out of them",
            ("sudo sysctl -w vm.max_map_count=262144",),
        )
    return Finding("max-map-count", OK, f"vm.max_map_count is {text}")


def kernel(places: Places) -> Finding:
    page = format_size(os.sysconf("SC_PAGE_SIZE"))
    return Finding("kernel", OK, f"Linux {platform.release()}, {platform.machine()}, pages of {page}")


def pagemap(places: Places) -> Finding:
    from cowfreeze._system import probe

    answer = probe.pagemap()
    if answer.works:
        return Finding("pagemap", OK, f"{answer.text}; {probe.pagemap_scan().text}")
    return Finding(
        "pagemap",
        WARNING,
        f"{answer.text}: copied pages cannot be counted here, only estimated from page faults",
        ("sudo cowfreeze doctor    # if root may: the user lacks the right; if not: the sandbox has no pagemap",),
    )


def userfaultfd(places: Places) -> Finding:
    from cowfreeze._system import probe

    return _feature("userfaultfd", probe.userfaultfd(), "counting uses pagemap and a witness instead", ())


def perf(places: Places) -> Finding:
    from cowfreeze._system import probe

    paranoid = read_setting(places.proc / "sys/kernel/perf_event_paranoid")
    finding = _feature(
        "perf",
        probe.perf(),
        "a trap that names the writing line uses mprotect and SIGSEGV instead, which is slower",
        ("sudo sysctl -w kernel.perf_event_paranoid=2", "docker run --cap-add PERFMON ...    # in a container"),
    )
    suffix = f" (perf_event_paranoid is {paranoid})" if paranoid is not None else ""
    return Finding(finding.name, finding.level, finding.text + suffix, finding.remedy)


def _feature(name: str, answer: Answer, otherwise: str, remedy: tuple[str, ...]) -> Finding:
    if answer.works:
        return Finding(name, OK, answer.text)
    return Finding(name, INFO, f"{answer.text}; {otherwise}", remedy if answer.works is False else ())


def python(places: Places) -> Finding:
    version = platform.python_version()
    debug = ", debug build" if hasattr(sys, "gettotalrefcount") else ""
    return judge_python(sys.version_info[:2], f"this Python is {version}{debug}", None)


def judge_python(version: tuple[int, int], text: str, pid: int | None) -> Finding:
    """What the version alone means for sharing."""
    if version < (3, 12):
        return Finding(
            "python",
            WARNING,
            f"{text}: before 3.12 no object can be immortal, so reading copies pages whatever is frozen",
            ("python3.13 -m venv .venv    # any Python from 3.12 on has immortal objects",),
            pid,
        )
    return Finding("python", OK, text, pid=pid)


def free_threaded(places: Places) -> Finding:
    return judge_free_threaded("t" in sys.abiflags, "this Python", None)


def judge_free_threaded(yes: bool, who: str, pid: int | None) -> Finding:
    if yes:
        return Finding(
            "free-threaded",
            PROBLEM,
            f"{who} is free-threaded: reading a list or dict writes to it, and freezing is refused",
            ("python3.13    # the default build; threads of one process share memory anyway",),
            pid,
        )
    return Finding("free-threaded", OK, f"{who} is a default build, not free-threaded", pid=pid)


def start_method(places: Places) -> Finding:
    import multiprocessing

    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method == "fork":
        return Finding("start-method", OK, "multiprocessing starts workers with fork by default")
    if method == "forkserver":
        return Finding(
            "start-method",
            INFO,
            "multiprocessing starts workers from a fork server by default: they share only what it preloaded",
            (
                'multiprocessing.set_start_method("fork")    # before the first Process or Pool, or:',
                'multiprocessing.set_forkserver_preload(["your.data"])',
            ),
        )
    return Finding(
        "start-method",
        WARNING,
        f"multiprocessing starts workers with {method}: each is a new interpreter that shares nothing",
        ('multiprocessing.set_start_method("fork")    # before the first Process or Pool',),
    )


CHECKS: dict[str, Callable[[Places], Finding]] = {
    "kernel": kernel,
    "thp": thp,
    "khugepaged": khugepaged,
    "ksm": ksm,
    "swap": swap,
    "overcommit": overcommit,
    "max-map-count": max_map_count,
    "pagemap": pagemap,
    "userfaultfd": userfaultfd,
    "perf": perf,
    "python": python,
    "free-threaded": free_threaded,
    "start-method": start_method,
}
