"""What the figures depend on: printed above every table, kept in every file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import sysconfig
from pathlib import Path

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe() -> dict[str, str]:
    """Names and values in the order in which they are printed; "unknown" with its reason."""
    from importlib.metadata import PackageNotFoundError, version

    from cowfreeze import __version__
    from cowfreeze._sizes import format_size
    from cowfreeze._system.memory import available_memory

    page = os.sysconf("SC_PAGE_SIZE")
    total, free = os.sysconf("SC_PHYS_PAGES") * page, available_memory()
    try:
        package = version("cowfreeze")
    except PackageNotFoundError:
        package = __version__  # run from a source tree
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {_processor()}",
        "memory": f"{format_size(total)}, {'unknown' if free is None else format_size(free)} available",
        "kernel": platform.release(),
        "page size": format_size(page),
        "THP": _first_line(THP),
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "build": _build(),
        "allocator": os.environ.get("PYTHONMALLOC", "pymalloc (default)"),
        "cowfreeze": package,
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) + " (1, 5, 15 minutes, at the start)",
    }


def notes() -> list[str]:
    """What about this machine spoils figures."""
    found = []
    if "[always]" in _first_line(THP):
        found.append(
            "transparent huge pages are set to always: the kernel may copy or collapse pages on its own, which "
            "also makes the mode none look like hugepages; set them to madvise to compare"
        )
    if hasattr(sys, "gettotalrefcount"):
        found.append("this is a debug build of Python: its times and sizes are not those of an ordinary one")
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown processor"


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0].strip()
    except (OSError, IndexError) as error:
        return f"unknown ({type(error).__name__})"


def _build() -> str:
    options = shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or "")
    kept = [option for option in options if option.startswith(("--enable-opt", "--with-lto", "--with-pydebug"))]
    return " ".join(kept) or "default options"
