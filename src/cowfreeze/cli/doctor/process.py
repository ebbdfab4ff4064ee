"""Checks of one process and of those below it: would a fork of it work, and would it share?

Nothing is executed and nothing is attached to: the process may belong to somebody else, and the
doctor may run as root. What may not be read becomes an "unknown" finding with the reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cowfreeze._sizes import format_size
from cowfreeze._system import hosts
from cowfreeze._system.label import find_label, read_label
from cowfreeze._system.proc import (
    Mapping,
    Unreadable,
    forked,
    read_command,
    read_memory,
    read_stat,
)
from cowfreeze.cli.doctor.finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli.doctor.fork import cgroup, fork_charge
from cowfreeze.cli.doctor.machine import judge_free_threaded, judge_python, read_setting
from cowfreeze.cli.doctor.patient import Patient

# An extension module's name holds the version and the letters of the build: cpython-313t-x86_64.
_SOABI = re.compile(r"\.cpython-3(\d+)([a-z]*)-")
_LIBPYTHON = re.compile(r"/(?:libpython|python)3\.(\d+)([a-z]*)(?:\.so[.\d]*)?$")


def permission(patient: Patient) -> Finding:
    read_memory(patient.pid, patient.places.proc)  # Unreadable becomes a finding of this name
    return Finding("permission", OK, f"process {patient.pid} may be looked at", pid=patient.pid)


def host(patient: Patient) -> Finding:
    """The worst of what is known about the hosts in this tree."""
    pid, proc = patient.pid, patient.places.proc
    found: dict[str, tuple[int, hosts.Host]] = {}
    for member in (pid, *patient.children):
        known = hosts.identify(read_command(member, proc), _name(member, proc))
        if known is not None and known.benefits == hosts.NO and _is_frozen(member, proc):
            continue  # a zygote is started as spawn starts a process, and its workers look like it
        if known is not None:
            found.setdefault(known.name, (member, known))
    if not found:
        return Finding("host", OK, "no known host of workers; a plain program that forks can share", pid=pid)
    order = (hosts.NO, hosts.MAYBE, hosts.YES)
    member, worst = min(found.values(), key=lambda entry: order.index(entry[1].benefits))
    remedy = (worst.remedy,) if worst.remedy else ()
    text = f"{worst.name} ({member}): {worst.why}" if worst.why else f"{worst.name} ({member})"
    if worst.benefits == hosts.NO:
        return Finding("host", PROBLEM, f"{text}; nothing frozen in the parent reaches its workers", remedy, pid)
    if worst.name == "gunicorn" and worst.benefits == hosts.MAYBE:
        return _gunicorn(patient, member, remedy)
    if worst.benefits == hosts.YES:
        return Finding("host", OK, text, pid=pid)
    return Finding("host", INFO, text, remedy, pid)


def _is_frozen(pid: int, proc: Path) -> bool:
    try:
        return read_label(pid, proc) is not None
    except Unreadable:
        return False


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
        elif hosts.is_python(read_command(stat.pid, proc), name=stat.name) and not _helper(stat.pid, proc):
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
    known = hosts.identify(read_command(pid, proc))
    return known is not None and known.name in hosts.HELPERS


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
    known = hosts.identify(patient.command, patient.stat.name)
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


def frozen(patient: Patient) -> Finding:
    """Is it frozen, by whom, when, and do the processes below share that?"""
    pid, proc = patient.pid, patient.places.proc
    label = find_label(patient.maps)
    if label is None:
        return Finding("frozen", INFO, "nothing is frozen in it", pid=pid)
    below = others = 0
    for stat in patient.below:
        try:
            found = read_label(stat.pid, proc)
        except Unreadable:
            continue
        below += found is not None and (found.pid, found.freezes) == (label.pid, label.freezes)
        others += found is None or found.pid != label.pid
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(label.at))
    text = (
        f"{label.objects:,} objects are frozen, {format_size(label.bytes)}, by {label.freezes:,} "
        f"freeze{'s' if label.freezes != 1 else ''}, the last at {clock}"
    )
    text += f" in process {label.pid}, which forked it" if label.pid != pid else ""
    text += f"; {below} process{'es' if below != 1 else ''} below share{'s' * (below == 1)} that" if below else ""
    text += f", {others} do not" if others else ""
    return Finding("frozen", OK, text, pid=pid)


CHECKS: dict[str, Callable[[Patient], Finding]] = {
    "permission": permission,
    "host": host,
    "start-method": start_method,
    "frozen": frozen,
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
