"""Would a fork of a process work, or end with ENOMEM or with a kill?

    charge of a fork   = sizes of the mappings with VmFlags "ac" (accounted) and not "dc" (not inherited)
    overcommit mode 0    refused if one mapping > memory + swap
    overcommit mode 2    refused if charge > CommitLimit - Committed_AS - reserve
    control group        never refused: page tables are charged while copying, and who forks is killed

Untouched memory counts, shared or not. Both formulas were compared with what the kernel did.
"""

from __future__ import annotations

import os

from cowfreeze._sizes import format_size
from cowfreeze._system.cgroup import memory_groups, tightest
from cowfreeze._system.proc import KIB, read_meminfo
from cowfreeze.cli.doctor.finding import OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli.doctor.machine import Places, read_setting
from cowfreeze.cli.doctor.patient import Patient

# Kernel memory of a fork beside its page tables: stack, task, VMAs. Measured 27 us and some tens
# of KiB for an empty process; the figure only has to be small against any real headroom.
_FORK_KERNEL = 256 * KIB


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


def own_cgroup(places: Places) -> Finding:
    """The same check without a process in mind: the group of the shell that asks."""
    finding = cgroup(Patient(os.getpid(), (), places))
    return Finding(finding.name, finding.level, finding.text.replace("its control", "this shell's control"),
                   finding.remedy)  # fmt: skip
