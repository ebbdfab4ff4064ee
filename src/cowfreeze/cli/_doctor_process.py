"""Checks of one process and of those below it: would a fork of it work, and would it share?

Nothing is executed and nothing is attached to: the process may belong to somebody else, and the
doctor may run as root. What may not be read becomes an "unknown" finding with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cowfreeze._sizes import format_size
from cowfreeze.cli import _hosts
from cowfreeze.cli._cgroup import memory_groups, tightest
from cowfreeze.cli._doctor_machine import Places, judge_free_threaded, judge_python, read_setting
from cowfreeze.cli._finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli._proc import (
    KIB,
    Mapping,
    Stat,
    Unreadable,
    forked,
    read_command,
    read_maps,
    read_meminfo,
    read_memory,
    read_stat,
    read_status,
    status_bytes,
)

# Kernel memory of a fork beside its page tables: stack, task, VMAs. Measured 27 us and some tens
# of KiB for an empty process; the figure only has to be small against any real headroom.
_FORK_KERNEL = 256 * KIB

# An extension module's name holds the version and the letters of the build: cpython-313t-x86_64.
_SOABI = re.compile(r"\.cpython-3(\d+)([a-z]*)-")
_LIBPYTHON = re.compile(r"/(?:libpython|python)3\.(\d+)([a-z]*)(?:\.so[.\d]*)?$")


@dataclass
class Patient:
    """A process with what several checks want to know of it, each read once."""

    pid: int
    children: Sequence[int]
    places: Places

    @cached_property
    def stat(self) -> Stat:
        return read_stat(self.pid, self.places.proc)

    @cached_property
    def status(self) -> dict[str, str]:
        return read_status(self.pid, self.places.proc)

    @cached_property
    def maps(self) -> list[Mapping]:
        return read_maps(self.pid, self.places.proc, flags=True)

    @cached_property
    def command(self) -> list[str]:
        return read_command(self.pid, self.places.proc)

    @cached_property
    def below(self) -> list[Stat]:
        """The descendants that are still there."""
        found: list[Stat] = []
        for pid in self.children:
            try:
                found.append(read_stat(pid, self.places.proc))
            except Unreadable:
                continue
        return found

    def size(self, key: str) -> int | None:
        """A line of the status file in bytes."""
        return status_bytes(self.status, key)


def permission(patient: Patient) -> Finding:
    read_memory(patient.pid, patient.places.proc)  # Unreadable becomes a finding of this name
    return Finding("permission", OK, f"process {patient.pid} may be looked at", pid=patient.pid)


def host(patient: Patient) -> Finding:
    """The worst of what is known about the hosts in this tree."""
    pid, proc = patient.pid, patient.places.proc
    found: dict[str, tuple[int, _hosts.Host]] = {}
    for member in (pid, *patient.children):
        known = _hosts.identify(read_command(member, proc), _name(member, proc))
        if known is not None:
            found.setdefault(known.name, (member, known))
    if not found:
        return Finding("host", OK, "no known host of workers; a plain program that forks can share", pid=pid)
    order = (_hosts.NO, _hosts.MAYBE, _hosts.YES)
    member, worst = min(found.values(), key=lambda entry: order.index(entry[1].benefits))
    remedy = (worst.remedy,) if worst.remedy else ()
    text = f"{worst.name} ({member}): {worst.why}" if worst.why else f"{worst.name} ({member})"
    if worst.benefits == _hosts.NO:
        return Finding("host", PROBLEM, f"{text}; nothing frozen in the parent reaches its workers", remedy, pid)
    if worst.name == "gunicorn" and worst.benefits == _hosts.MAYBE:
        return _gunicorn(patient, member, remedy)
    if worst.benefits == _hosts.YES:
        return Finding("host", OK, text, pid=pid)
    return Finding("host", INFO, text, remedy, pid)


def _gunicorn(patient: Patient, member: int, remedy: tuple[str, ...]) -> Finding:
    """gunicorn without --preload on its command line: it may stand in a file or in the environment."""
    folder = patient.places.proc / str(member)
    command = read_command(member, patient.places.proc)
    try:
        environment = (folder / "environ").read_bytes().split(b"\0")
        arguments = next((line for line in environment if line.startswith(b"GUNICORN_CMD_ARGS=")), b"")
        file = any(word.startswith(("-c", "--config")) for word in command[1:])
        file = file or (folder / "cwd" / "gunicorn.conf.py").exists()
    except OSError:
        arguments, file = b"", True
    if b"--preload" in arguments:
        return Finding("host", OK, f"gunicorn ({member}): preload is on (GUNICORN_CMD_ARGS)", pid=patient.pid)
    if file or len(command) == 1:
        text = f"gunicorn ({member}): not started with --preload; workers share the application only if its "
        return Finding("host", INFO, f"{text}configuration sets preload_app = True", remedy, patient.pid)
    return Finding(
        "host", WARNING, f"gunicorn ({member}) runs without --preload: each worker loads the application itself",
        remedy, patient.pid,
    )  # fmt: skip


def start_method(patient: Patient) -> Finding:
    """Were the Python children forked from this image?"""
    pid, proc = patient.pid, patient.places.proc
    tree = {stat.pid: stat for stat in (patient.stat, *patient.below)}
    inherited = executed = unknown = 0
    for stat in patient.below:
        parent = tree.get(stat.parent)
        same = forked(stat, parent) if parent is not None else None
        if same is None:
            unknown += 1
        elif same:
            inherited += 1
        elif _hosts.is_python(read_command(stat.pid, proc), name=stat.name) and not _helper(stat.pid, proc):
            executed += 1
    if unknown and not inherited:
        return Finding("start-method", UNKNOWN, f"how {unknown} child processes were started is not visible", pid=pid)
    if inherited:
        rest = f"; {executed} Python children started with exec and share nothing" if executed else ""
        return Finding("start-method", OK, f"{inherited} processes of the tree were forked{rest}", pid=pid)
    if executed:
        return Finding(
            "start-method",
            PROBLEM,
            f"none of the {executed} Python processes below was forked: each is an interpreter of its own and "
            "shares nothing",
            ('multiprocessing.set_start_method("fork")    # before the first Process or Pool',),
            pid,
        )
    return Finding("start-method", INFO, "it has no workers at the moment", pid=pid)


def _helper(pid: int, proc: Path) -> bool:
    """Processes that multiprocessing starts with exec beside forked workers."""
    known = _hosts.identify(read_command(pid, proc))
    return known is not None and known.name in _hosts.HELPERS


def threads(patient: Patient) -> Finding:
    count = int(patient.status.get("Threads", "0"))
    if count <= 1:
        return Finding("threads", OK, "one thread is alive", pid=patient.pid)
    names = sorted(set(_thread_names(patient)))
    text = f"{count} threads are alive ({', '.join(names)})"
    if _is_leaf_worker(patient):
        return Finding("threads", INFO, f"{text}; that matters where processes are forked, not in a worker",
                       pid=patient.pid)  # fmt: skip
    remedy = ["cowfreeze.freeze()    # and the fork: before threads start, or after they were joined"]
    known = _hosts.identify(patient.command, patient.stat.name)
    if known is not None and known.name == "gunicorn":
        remedy.append("gunicorn --no-control-socket ...    # its control thread runs in the parent (25.1 and newer)")
    if any("blas" in mapping.path.lower() for mapping in _maps_or_none(patient)):
        remedy.append("OPENBLAS_NUM_THREADS=1    # in the environment, before numpy is imported")
    return Finding(
        "threads", WARNING,
        f"{text}: a fork copies only the one that forks, locks of the others stay locked, and freezing warns",
        tuple(remedy), patient.pid,
    )  # fmt: skip


def _thread_names(patient: Patient) -> list[str]:
    names: list[str] = []
    try:
        for task in sorted((patient.places.proc / str(patient.pid) / "task").iterdir()):
            names.append((task / "comm").read_text(errors="replace").strip())
    except OSError:
        pass  # a thread ended while it was listed: the count stands
    return names


def _is_leaf_worker(patient: Patient) -> bool:
    """Forked by its parent, with no children of its own."""
    if patient.children:
        return False
    try:
        return forked(patient.stat, read_stat(patient.stat.parent, patient.places.proc)) is True
    except Unreadable:
        return False


def python(patient: Patient) -> Finding:
    found = _python_of(patient.maps)
    if found is None:
        return Finding("python", UNKNOWN, f"no CPython is mapped in process {patient.pid}, or its version is not named",
                       pid=patient.pid)  # fmt: skip
    version, letters = found
    debug = ", debug build" if "d" in letters else ""
    return judge_python(version, f"process {patient.pid} runs Python 3.{version[1]}{debug}", patient.pid)


def free_threaded(patient: Patient) -> Finding:
    found = _python_of(patient.maps)
    if found is None:
        return Finding("free-threaded", UNKNOWN, "the kind of its Python is not visible", pid=patient.pid)
    return judge_free_threaded("t" in found[1], f"process {patient.pid}", patient.pid)


def _python_of(maps: Sequence[Mapping]) -> tuple[tuple[int, int], str] | None:
    """Version and build letters, from the names of what is mapped. The file is not executed to ask:
    it may be anybody's."""
    for pattern in (_LIBPYTHON, _SOABI):
        for mapping in maps:
            if match := pattern.search(mapping.path):
                return (3, int(match[1])), match[2]
    return None


def huge_pages(patient: Patient) -> Finding:
    memory = read_memory(patient.pid, patient.places.proc)
    asked = sum(mapping.bytes for mapping in patient.maps if "hg" in mapping.flags)
    if asked:
        return Finding(
            "huge-pages",
            WARNING,
            f"{format_size(asked)} asked for huge pages: khugepaged may turn what workers share there into copies",
            (
                "libc.prctl(41, 1, 0, 0, 0)    # PR_SET_THP_DISABLE, in each worker after the fork, or:",
                "echo 0 | sudo tee /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_shared",
            ),
            patient.pid,
        )
    if memory.huge:
        text = f"{format_size(memory.huge)} are huge pages: forks are fast; the first write to each splits it"
        return Finding("huge-pages", INFO, text, pid=patient.pid)
    return Finding("huge-pages", OK, "no huge pages, and none asked for", pid=patient.pid)


def merged(patient: Patient) -> Finding:
    memory = read_memory(patient.pid, patient.places.proc)
    if memory.ksm:
        return Finding(
            "ksm", WARNING, f"KSM merged {format_size(memory.ksm)} of it: copies look shared and are not counted",
            ("echo 2 | sudo tee /sys/kernel/mm/ksm/run    # stop and unmerge",), patient.pid,
        )  # fmt: skip
    return Finding("ksm", OK, "none of its pages are merged by KSM", pid=patient.pid)


def swapped(patient: Patient) -> Finding:
    size = patient.size("VmSwap")
    if size:
        return Finding(
            "swap", WARNING, f"{format_size(size)} of it are swapped out: such pages show neither shared nor copied",
            ("sudo swapoff -a && sudo swapon -a    # needs that much free memory",), patient.pid,
        )  # fmt: skip
    return Finding("swap", OK, "nothing of it is swapped out", pid=patient.pid)


def fork_charge(patient: Patient) -> Finding:
    """Would a fork of it get ENOMEM? The kernel charges it every accountable mapping of the parent."""
    maps, proc = patient.maps, patient.places.proc
    charged = [mapping.bytes for mapping in maps if "ac" in mapping.flags and "dc" not in mapping.flags]
    charge, largest = sum(charged), max(charged, default=0)
    mode = read_setting(proc / "sys/vm/overcommit_memory")
    info = read_meminfo(proc)
    needs = ("MemTotal", "SwapTotal") if mode == "0" else ("CommitLimit", "Committed_AS") if mode == "2" else ()
    if mode not in ("0", "1", "2") or any(key not in info for key in needs):
        return Finding("fork-charge", UNKNOWN, f"a fork is charged {format_size(charge)}; the limit is not visible",
                       pid=patient.pid)  # fmt: skip
    text = f"a fork is charged {format_size(charge)}"
    if mode == "1":
        return Finding("fork-charge", OK, f"{text}, and nothing is refused (overcommit mode 1)", pid=patient.pid)
    if mode == "0":
        most = info["MemTotal"] + info["SwapTotal"]
        if largest > most:
            return Finding(
                "fork-charge", PROBLEM,
                f"{text}: it fails with ENOMEM, because one mapping of {format_size(largest)} is larger than memory "
                f"and swap together ({format_size(most)})",
                ("sudo sysctl -w vm.overcommit_memory=1",), patient.pid,
            )  # fmt: skip
        return Finding("fork-charge", OK, f"{text}; overcommit mode 0 lets it pass", pid=patient.pid)
    room = max(info["CommitLimit"] - info["Committed_AS"] - _reserve(patient), 0)
    count = room // charge if charge else 0
    text = f"{text}, and {format_size(room)} are left under CommitLimit (overcommit mode 2)"
    remedy = ("sudo sysctl -w vm.overcommit_memory=0", f"sudo sysctl -w vm.overcommit_kbytes={_enough(info, charge)}")
    if count < 1:
        return Finding("fork-charge", PROBLEM, f"{text}: it fails with ENOMEM", remedy, patient.pid)
    level = WARNING if count < 4 else OK
    return Finding("fork-charge", level, f"{text}: {count} more forks fit", remedy if level == WARNING else (),
                   patient.pid)  # fmt: skip


def _reserve(patient: Patient) -> int:
    """What mode 2 keeps back: a part for the administrator, and up to 1/32 of the process itself."""
    vm = patient.places.proc / "sys/vm"

    def reserve(name: str) -> int:
        text = read_setting(vm / name)
        return int(text) * KIB if text and text.isdigit() else 0

    own = min(sum(mapping.bytes for mapping in patient.maps) // 32, reserve("user_reserve_kbytes"))
    user = patient.status.get("Uid", "0 0").split()[1]
    return own + (0 if user == "0" else reserve("admin_reserve_kbytes"))


def _enough(info: dict[str, int], charge: int) -> int:
    """A commit limit, in KiB without swap, that lets four forks through."""
    return (info["Committed_AS"] + 4 * charge + charge // 4) // KIB


def cgroup(patient: Patient) -> Finding:
    """A fork at the limit of its group is not refused: the forking process is killed."""
    group = tightest(memory_groups(patient.pid, patient.places.proc))
    if group is None or group.room is None or group.limit is None:
        return Finding("cgroup", OK, "no memory control group limits it", pid=patient.pid)
    tables = (patient.size("VmPTE") or 0) + _FORK_KERNEL
    private = patient.size("RssAnon") or 0
    text = (
        f"its control group (version {group.version}) leaves {format_size(group.room)} of "
        f"{format_size(group.limit)}; a fork takes {format_size(tables)} of page tables at once"
    )
    larger = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
    remedy = (f"echo {group.limit + max(private, tables) * 2} | sudo tee {group.path}/{larger}",)
    if group.room < tables:
        return Finding("cgroup", PROBLEM, f"{text}: the forking process would be killed (OOM)", remedy, patient.pid)
    if group.room < private:
        return Finding(
            "cgroup", WARNING, f"{text}, and one worker that copies everything {format_size(private)}: it would be "
            "killed (OOM)", remedy, patient.pid,
        )  # fmt: skip
    return Finding("cgroup", OK, text, pid=patient.pid)


def map_count(patient: Patient) -> Finding:
    text = read_setting(patient.places.proc / "sys/vm/max_map_count")
    count = len(patient.maps)
    if text is None or not text.isdigit():
        return Finding("max-map-count", UNKNOWN, "vm.max_map_count cannot be read", pid=patient.pid)
    if count > int(text) * 3 // 4:
        return Finding(
            "max-map-count", WARNING, f"it has {count:,} mappings of {int(text):,} allowed; mmap fails at the limit",
            (f"sudo sysctl -w vm.max_map_count={int(text) * 4}",), patient.pid,
        )  # fmt: skip
    return Finding("max-map-count", OK, f"it has {count:,} mappings of {int(text):,} allowed", pid=patient.pid)


def _maps_or_none(patient: Patient) -> Sequence[Mapping]:
    try:
        return patient.maps
    except Unreadable:
        return ()


def _name(pid: int, proc: Path) -> str:
    try:
        return read_stat(pid, proc).name
    except Unreadable:
        return ""


def own_cgroup(places: Places) -> Finding:
    """The same check without a process in mind: the group of the shell that asks."""
    finding = cgroup(Patient(os.getpid(), (), places))
    return Finding(finding.name, finding.level, finding.text.replace("its control", "this shell's control"),
                   finding.remedy)  # fmt: skip


CHECKS: dict[str, Callable[[Patient], Finding]] = {
    "permission": permission,
    "host": host,
    "start-method": start_method,
    "threads": threads,
    "python": python,
    "free-threaded": free_threaded,
    "fork-charge": fork_charge,
    "cgroup": cgroup,
    "huge-pages": huge_pages,
    "ksm": merged,
    "swap": swapped,
    "max-map-count": map_count,
}
