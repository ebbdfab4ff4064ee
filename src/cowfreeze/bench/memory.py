"""How much memory this process holds and how much more it may take."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """The resident set of this process, in bytes (psutil: VmRSS)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_memory() -> int | None:
    """Bytes that can still be used before the kernel reclaims or kills; None when unknown.

    The smaller of MemAvailable and the room that a memory control group leaves: in a container
    MemAvailable is the host's and the group's limit is what kills.
    """
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
        folders = [_CGROUP / own, *(_CGROUP / own).parents]
    except OSError:
        return limits[0]
    for folder in folders:
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
        except (OSError, ValueError):
            continue  # no such group, or its version has no such file: no limit from here
        if limit != "max":
            limits.append(max(int(limit) - used, 0))
    return min(limits)
