"""How much room the memory control groups of a process leave (versions 1 and 2).

    /proc/PID/cgroup       which group:      "0::/app"  or  "4:memory:/app"
    /proc/self/mountinfo   where it is seen: /sys/fs/cgroup, which may show only a part (container)
    version 2              memory.max            memory.current         memory.stat inactive_file
    version 1              memory.limit_in_bytes memory.usage_in_bytes  memory.stat total_inactive_file

Every group up to the root has its own limit, and the one with the least room decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cowfreeze._system.proc import PROC, Unreadable, unreadable

_NO_LIMIT = 1 << 62  # version 1 writes "no limit" as the largest multiple of the page size


@dataclass(frozen=True)
class Group:
    """A memory control group, sizes in bytes.

    Attributes:
        limit: None if it has none.
        used: what is charged, files in the page cache among it.
        reclaimable: the part of `used` that the kernel drops before it kills: idle file pages.
    """

    path: str
    version: int
    limit: int | None
    used: int
    reclaimable: int

    @property
    def room(self) -> int | None:
        """What can still be charged before the kernel kills; None without a limit."""
        return None if self.limit is None else max(self.limit - self.used + self.reclaimable, 0)


def memory_groups(pid: int, proc: Path = PROC) -> list[Group]:
    """The groups that limit PID's memory, from its own up to the root.

    An empty list means that no controller limits it.

    Raises:
        Unreadable: there is a group, but its files are not visible from here.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError as error:
        raise unreadable(pid, error, proc) from error
    found: list[Group] = []
    seen_a_mount = False
    for version, group in _named(lines):
        for root, mount in _mounts(mounts, version):
            seen_a_mount = True
            found += _walk_up(mount, _below(group, root), version)
    if not found and lines and not seen_a_mount:
        raise Unreadable("the control group file system is not mounted here, so its limits are unknown")
    return found


def tightest(groups: list[Group]) -> Group | None:
    """The group with the least room, None if none has a limit."""
    limited = [group for group in groups if group.room is not None]
    return min(limited, key=lambda group: group.room or 0, default=None)


def _named(lines: list[str]) -> Iterator[tuple[int, str]]:
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, path
        elif "memory" in controllers.split(","):
            yield 1, path


def _mounts(lines: list[str], version: int) -> Iterator[tuple[str, Path]]:
    """Root and mount point of each mount of the file system of this version."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 5 or len(tail) < 3:
            continue
        if (version == 2 and tail[0] == "cgroup2") or (
            version == 1 and tail[0] == "cgroup" and "memory" in tail[2].split(",")
        ):
            yield fields[3], Path(fields[4])


def _below(group: str, root: str) -> str:
    """The path of GROUP below a mount that shows ROOT (a container sees only its own part)."""
    if root != "/" and (group == root or group.startswith(root + "/")):
        group = group[len(root) :]
    return group.strip("/")


def _walk_up(mount: Path, group: str, version: int) -> Iterator[Group]:
    folder = mount / group
    if ".." in folder.parts or not folder.is_dir():
        folder = mount  # a group outside of what is mounted; the mount itself is all we can see
    while True:
        if (found := _read(folder, version)) is not None:
            yield found
        if folder == mount or folder.parent == folder:
            return
        folder = folder.parent


def _read(folder: Path, version: int) -> Group | None:
    limit_name, used_name, file_name = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        limit_text = (folder / limit_name).read_text().strip()
        used = int((folder / used_name).read_text())
    except (OSError, ValueError):
        return None  # the root group has no limit file, and other controllers have none at all
    limit = None if limit_text == "max" or int(limit_text) >= _NO_LIMIT else int(limit_text)
    reclaimable = 0
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == file_name:
                reclaimable = int(number)
    except (OSError, ValueError):
        pass  # without it the room is the careful figure
    return Group(str(folder), version, limit, used, min(reclaimable, used))
