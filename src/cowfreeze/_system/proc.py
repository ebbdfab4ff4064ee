"""What /proc says about other processes: one reader per file, and a reason for each "no".

    /proc/PID/stat          anyone may read it       state, parent, faults, RSS
    /proc/PID/status        anyone                   user, threads, VmPTE, VmSwap
    /proc/PID/smaps_rollup  same user and dumpable   USS, PSS, swap, KSM, huge pages
    /proc/PID/maps, pagemap same user and dumpable   which pages are shared

psutil finds processes and reads what it knows; the files here are those of which it shows too
little (the private anonymous pages of a rollup, the layout of an image, the flags of a mapping).

A file that cannot be read raises `Unreadable` with a sentence that can be shown. It is never
read as zeros: a worker that may not be looked at must not look like one that copied nothing.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB = 1024

# Fields of /proc/PID/stat, numbered as in proc(5). The name (field 2) may hold spaces and
# parentheses, so fields are counted from the last ")", after which field 3 stands.
_STATE, _PPID, _MINFLT, _MAJFLT, _THREADS, _START, _RSS, _CODE, _STACK = 3, 4, 10, 12, 20, 22, 24, 26, 28


class Unreadable(Exception):
    """A file of /proc could not be read; `str()` is the reason, for people."""

    def __init__(self, reason: str, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


@dataclass(frozen=True)
class Stat:
    """/proc/PID/stat. Unlike the other files it is there for every process of every user.

    Attributes:
        state: one letter; "Z" is a process that ended and has no memory any more.
        faults: page faults of the process since it was forked, minor and major. A fork sets them
            to 0 and exec does not, so they bound what a forked process can have copied.
        minor_faults: the minor ones alone.
        started: clock ticks since boot; with the pid it names a process for good.
        rss: resident bytes. The kernel sums it lazily, so it may be some pages off.
        image: where code and stack start. A forked child has its parent's; exec draws new ones.
            None where they are hidden (no right to look at the process).
    """

    pid: int
    parent: int
    name: str
    state: str
    faults: int
    minor_faults: int
    threads: int
    started: int
    rss: int
    image: tuple[int, int] | None


@dataclass(frozen=True)
class Memory:
    """/proc/PID/smaps_rollup, in bytes. `ksm` is None where the kernel does not count it."""

    rss: int
    pss: int
    private: int
    shared: int
    swap: int
    huge: int
    ksm: int | None

    @property
    def shared_ratio(self) -> float | None:
        """The part of the resident memory that at least one other process maps too; None if none is resident."""
        total = self.private + self.shared
        return self.shared / total if total else None


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/maps; `flags` are the VmFlags where smaps was read."""

    start: int
    end: int
    permissions: str
    path: str
    flags: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        return self.end - self.start


def read_stat(pid: int, proc: Path = PROC) -> Stat:
    text = _read(pid, "stat", proc)
    head, _, tail = text.rpartition(")")
    fields = tail.split()

    def number(field: int) -> int:
        return int(fields[field - 3])

    try:
        code, stack = number(_CODE), number(_STACK)
        return Stat(
            pid=pid,
            parent=number(_PPID),
            name=head.partition("(")[2],
            state=fields[_STATE - 3],
            faults=number(_MINFLT) + number(_MAJFLT),
            minor_faults=number(_MINFLT),
            threads=number(_THREADS),
            started=number(_START),
            rss=number(_RSS) * os.sysconf("SC_PAGE_SIZE"),
            # Without the right to look, the kernel shows 0 and 1 instead of addresses.
            image=(code, stack) if code > 1 and stack > 1 else None,
        )
    except (IndexError, ValueError) as error:
        raise Unreadable(f"{proc}/{pid}/stat has an unknown form") from error


def read_status(pid: int, proc: Path = PROC) -> dict[str, str]:
    """The lines of /proc/PID/status: name to text."""
    return _colon_lines(_read(pid, "status", proc))


def status_bytes(status: dict[str, str], key: str) -> int | None:
    """A "123 kB" line of a status file in bytes, None if it is not there."""
    number = status.get(key, "").split()
    return int(number[0]) * KIB if number and _is_figure(number[0]) else None


def _is_figure(text: str) -> bool:
    """Will int() take it? str.isdigit() alone also says yes to "²", and int() has a limit of digits."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def read_memory(pid: int, proc: Path = PROC) -> Memory:
    """The sums over all mappings. Kernels before 4.14 have no rollup; there smaps is added up."""
    name = "smaps_rollup"
    if not (proc / str(pid) / name).exists() and (proc / str(pid) / "smaps").exists():
        name = "smaps"
    sums: dict[str, int] = {}
    for line in _read(pid, name, proc).splitlines():
        key, colon, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if colon and unit == "kB" and _is_figure(number):
            sums[key] = sums.get(key, 0) + int(number) * KIB
    if "Rss" not in sums or "Pss" not in sums:
        raise Unreadable(f"process {pid} has no memory of its own: it has ended, or belongs to the kernel")
    return Memory(
        rss=sums["Rss"],
        pss=sums["Pss"],
        private=sum(size for key, size in sums.items() if key.startswith("Private_")),
        shared=sum(size for key, size in sums.items() if key.startswith("Shared_")),
        swap=sums.get("Swap", 0),
        huge=sums.get("AnonHugePages", 0),
        ksm=sums.get("KSM"),
    )


def read_maps(pid: int, proc: Path = PROC, flags: bool = False) -> list[Mapping]:
    """The mappings of a process; FLAGS reads smaps, which walks all page tables (4-7 ms per GiB)."""
    found: list[Mapping] = []
    for line in _read(pid, "smaps" if flags else "maps", proc).splitlines():
        words = line.split(None, 5)
        if not words:
            continue
        if words[0] == "VmFlags:" and found:
            last = found[-1]
            found[-1] = Mapping(last.start, last.end, last.permissions, last.path, frozenset(line.split()[1:]))
        elif not words[0].endswith(":"):
            start, _, end = words[0].partition("-")
            try:
                found.append(Mapping(int(start, 16), int(end, 16), words[1], words[5] if len(words) > 5 else ""))
            except (ValueError, IndexError) as error:
                raise Unreadable(f"{proc}/{pid}/maps has an unknown form") from error
    return found


def read_command(pid: int, proc: Path = PROC) -> list[str]:
    """The arguments of a process as it shows them; empty for kernel threads and where hidden."""
    try:
        text = _read(pid, "cmdline", proc)
    except Unreadable:
        return []
    # A process that writes a title over its arguments leaves one text without separators.
    return [word for word in text.split("\0") if word]


def forked(child: Stat, parent: Stat) -> bool | None:
    """Does CHILD still run the image that PARENT runs (fork), or one of its own (exec, spawn)?

    None if one of them may not be looked at. Code and stack lie at random addresses after each
    exec, and a fork copies both. (With randomization switched off, a child that executed the
    same program with arguments of the same length looks forked.)
    """
    if child.image is None or parent.image is None:
        return None
    return child.image == parent.image


def why_denied(pid: int, proc: Path = PROC) -> str:
    """Why this user may not look into PID, and what would help."""
    try:
        owner = os.stat(proc / str(pid) / "environ").st_uid  # the folder itself always shows the user
        uid = int(read_status(pid, proc)["Uid"].split()[1])
    except (OSError, Unreadable, KeyError, ValueError, IndexError):
        return f"process {pid} may not be looked at; run as its user or as root"
    if owner != uid:
        # The files of a process that is not dumpable belong to root, whoever runs it.
        return (
            f"process {pid} is not dumpable (it changed its user, or asked for it with prctl); "
            "run as root, or let it call prctl(PR_SET_DUMPABLE, 1)"
        )
    if uid != os.geteuid():
        return f"process {pid} belongs to user {user_name(uid)}; run as that user or as root"
    return f"process {pid} may not be looked at: a security module or a container forbids it; run as root"


def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unreadable(pid: int, error: OSError, proc: Path = PROC) -> Unreadable:
    """The reason for an error while opening or reading a file of PID."""
    if error.errno in (errno.ESRCH, errno.ENOENT):
        if (proc / str(pid)).exists():
            if error.errno == errno.ESRCH:
                return Unreadable(f"process {pid} has no memory of its own: it has ended, or belongs to the kernel")
            return Unreadable(f"this kernel has no /proc/PID/{os.path.basename(os.fsdecode(error.filename or ''))}")
        return Unreadable(f"process {pid} is gone", gone=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unreadable(why_denied(pid, proc))
    return Unreadable(f"cannot read {error.filename or f'a file of process {pid}'}: {error.strerror}")


def read_meminfo(proc: Path = PROC) -> dict[str, int]:
    """The sizes of /proc/meminfo in bytes.

    Raises:
        OSError: it is not there.
    """
    lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * KIB for words in lines if len(words) == 3 and words[2] == "kB"}


def _read(pid: int, name: str, proc: Path) -> str:
    path = proc / str(pid) / name
    try:
        # Names and arguments are bytes of any encoding; figures are ASCII.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(pid, error, proc) from error


def _colon_lines(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}
