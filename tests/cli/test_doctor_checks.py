"""The checks of `cowfreeze doctor`, each on planted files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.trees import plant, stat_line

from cowfreeze._system import cgroup
from cowfreeze._system.proc import Unreadable
from cowfreeze.cli.doctor import machine, process
from cowfreeze.cli.doctor.finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli.doctor.machine import Places
from cowfreeze.cli.doctor.patient import Patient

KIB = 1024
MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for folder in ("proc/sys/vm", "sys/kernel/mm/transparent_hugepage/khugepaged", "sys/kernel/mm/ksm"):
        (tmp_path / folder).mkdir(parents=True)
    return Places(tmp_path / "proc", tmp_path / "sys")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- the machine, planted


@pytest.mark.parametrize(
    ("text", "level"),
    [("[always] madvise never", WARNING), ("always [madvise] never", OK), ("always madvise [never]", OK), (None, OK)],
)
def test_huge_pages(places: Places, text: str | None, level: str) -> None:
    if text is not None:
        put(places.sys / "kernel/mm/transparent_hugepage/enabled", text + "\n")
    finding = machine.thp(places)
    assert finding.level == level
    assert bool(finding.remedy) == (level == WARNING)


@pytest.mark.parametrize(
    ("mode", "shared", "level"),
    [
        ("[always] madvise never", "256", WARNING),
        ("always [madvise] never", "256", INFO),
        ("[always] madvise never", "0", OK),
        ("always madvise [never]", "256", OK),
    ],
)
def test_khugepaged(places: Places, mode: str, shared: str, level: str) -> None:
    put(places.sys / "kernel/mm/transparent_hugepage/enabled", mode)
    put(places.sys / "kernel/mm/transparent_hugepage/khugepaged/max_ptes_shared", shared)
    assert machine.khugepaged(places).level == level


@pytest.mark.parametrize(("text", "level"), [("0", OK), ("1", WARNING), ("2", OK), (None, OK)])
def test_ksm(places: Places, text: str | None, level: str) -> None:
    if text is not None:
        put(places.sys / "kernel/mm/ksm/run", text)
    assert machine.ksm(places).level == level


@pytest.mark.parametrize(("total", "free", "level"), [(0, 0, OK), (1000, 990, OK), (1000, 500, WARNING)])
def test_swap(places: Places, total: int, free: int, level: str) -> None:
    put(places.proc / "meminfo", f"MemTotal: 5000 kB\nSwapTotal: {total} kB\nSwapFree: {free} kB\n")
    assert machine.swap(places).level == level


def test_swap_that_is_not_shown_is_unknown(places: Places) -> None:
    put(places.proc / "meminfo", "MemTotal: 5000 kB\n")
    assert machine.swap(places).level == UNKNOWN


@pytest.mark.parametrize(("mode", "level"), [("0", OK), ("1", OK), ("2", WARNING), (None, UNKNOWN)])
def test_overcommit(places: Places, mode: str | None, level: str) -> None:
    if mode is not None:
        put(places.proc / "sys/vm/overcommit_memory", mode)
    assert machine.overcommit(places).level == level


def test_versions_and_builds() -> None:
    assert machine.judge_python((3, 11), "it", None).level == WARNING
    assert machine.judge_python((3, 12), "it", None).level == OK
    assert machine.judge_free_threaded(True, "it", None).level == PROBLEM
    assert machine.judge_free_threaded(False, "it", None).level == OK


@pytest.mark.parametrize(
    ("method", "level"), [("fork", OK), ("forkserver", INFO), ("spawn", WARNING)]
)  # fmt: skip
def test_start_methods(places: Places, method: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    assert machine.start_method(places).level == level


# --- control groups, planted


def group(folder: Path, version: int, limit: str, used: int, idle: int = 0) -> None:
    names = ("memory.max", "memory.current", "inactive_file") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")  # fmt: skip
    put(folder / names[0], limit + "\n")
    put(folder / names[1], f"{used}\n")
    put(folder / "memory.stat", f"anon 5\n{names[2]} {idle}\n")


def mount(places: Places, where: Path, version: int, root: str = "/") -> None:
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
    put(places.proc / "self/mountinfo", f"35 31 0:32 {root} {where} rw,relatime shared:9 - {kind}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_group_decides(places: Places, tmp_path: Path, version: int) -> None:
    top = tmp_path / "cg"
    mount(places, top, version)
    put(places.proc / "7/cgroup", "0::/a/b\n" if version == 2 else "9:cpu:/x\n4:memory:/a/b\n0::/z\n")
    group(top / "a", version, str(100 * MIB), 90 * MIB, idle=5 * MIB)
    no_limit = "max" if version == 2 else "9223372036854771712"
    group(top / "a/b", version, no_limit, 10 * MIB)
    found = cgroup.tightest(cgroup.memory_groups(7, places.proc))
    assert found is not None
    assert (found.path, found.version, found.room) == (str(top / "a"), version, 15 * MIB)


def test_a_group_of_a_container_is_found_below_its_mount(places: Places, tmp_path: Path) -> None:
    mount(places, tmp_path / "cg", 2, root="/docker/abc")
    put(places.proc / "7/cgroup", "0::/docker/abc/app\n")
    group(tmp_path / "cg/app", 2, str(50 * MIB), 20 * MIB)
    assert [found.room for found in cgroup.memory_groups(7, places.proc)] == [30 * MIB]


def test_a_group_above_the_mount_falls_back_to_what_is_visible(places: Places, tmp_path: Path) -> None:
    mount(places, tmp_path / "cg", 2)
    put(places.proc / "7/cgroup", "0::/../../elsewhere\n")
    group(tmp_path / "cg", 2, str(50 * MIB), 20 * MIB)
    assert [found.room for found in cgroup.memory_groups(7, places.proc)] == [30 * MIB]


def test_no_mount_is_unknown_and_no_limit_is_none(places: Places, tmp_path: Path) -> None:
    put(places.proc / "7/cgroup", "0::/a\n")
    put(places.proc / "self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/x rw\n")
    with pytest.raises(Unreadable, match="not mounted"):
        cgroup.memory_groups(7, places.proc)
    mount(places, tmp_path / "cg", 2)
    group(tmp_path / "cg/a", 2, "max", 20 * MIB)
    assert cgroup.tightest(cgroup.memory_groups(7, places.proc)) is None


@pytest.mark.parametrize(
    ("room", "level"), [(100 * KIB, PROBLEM), (20 * MIB, WARNING), (500 * MIB, OK)]
)  # fmt: skip
def test_a_fork_at_the_limit_is_predicted(places: Places, tmp_path: Path, room: int, level: str) -> None:
    """A 512 MiB parent has 1 MiB of page tables; its fork copies them before anything else."""
    mount(places, tmp_path / "cg", 2)
    plant(places.proc, 7, cgroup="0::/a\n", status="Uid: 0 0 0 0\nVmPTE: 1024 kB\nRssAnon: 102400 kB\n")
    group(tmp_path / "cg/a", 2, str(GIB), GIB - room)
    finding = process.cgroup(Patient(7, (), places))
    assert finding.level == level
    assert (level == OK) or "memory.max" in finding.remedy[0]
    assert ("killed" in finding.text) == (level != OK)


# --- the charge of a fork, planted

SMAPS = """\
100000000-140000000 rw-p 0 00:00 0
VmFlags: rd wr mr mw me ac
200000000-210000000 rw-p 0 00:00 0
VmFlags: rd wr mr mw me dc ac
300000000-310000000 rw-p 0 00:00 0
VmFlags: rd wr mr mw me nr
400000000-404000000 r--p 0 00:00 0
VmFlags: rd mr mw me ac
"""
CHARGE = (1 << 30) + (64 << 20)  # "ac" and not "dc": not inherited, or not accounted, is free


def charged(places: Places, mode: str | None, meminfo: dict[str, int], uid: int = 1000) -> Finding:
    plant(places.proc, 7, smaps=SMAPS, status=f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n", stat=stat_line(7))
    if mode is not None:
        put(places.proc / "sys/vm/overcommit_memory", mode)
    put(places.proc / "meminfo", "".join(f"{key}: {size // KIB} kB\n" for key, size in meminfo.items()))
    return process.fork_charge(Patient(7, (), places))


@pytest.mark.parametrize(
    ("memory", "swap", "level"), [(4 * GIB, 0, OK), (GIB - MIB, 0, PROBLEM), (GIB - MIB, 2 * MIB, OK)]
)  # fmt: skip
def test_mode_0_refuses_one_mapping_larger_than_memory_and_swap(
    places: Places, memory: int, swap: int, level: str
) -> None:
    finding = charged(places, "0", {"MemTotal": memory, "SwapTotal": swap})
    assert finding.level == level
    assert "1.1 GiB" in finding.text
    assert ("ENOMEM" in finding.text) == (level == PROBLEM)


@pytest.mark.parametrize(
    ("left", "level", "words"),
    [
        (CHARGE - MIB, PROBLEM, "ENOMEM"),
        (CHARGE + MIB, WARNING, "1 more forks fit"),
        (9 * CHARGE, OK, "8 more forks fit"),  # one charge is kept back: see the reserve below
    ],
)
def test_mode_2_counts_what_is_left(places: Places, left: int, level: str, words: str) -> None:
    reserve = 0
    if level == OK:
        put(places.proc / "sys/vm/admin_reserve_kbytes", str(CHARGE // 2 // KIB + 1))
        reserve = CHARGE // 2 + KIB
    info = {"CommitLimit": 100 * GIB, "Committed_AS": 100 * GIB - left}
    finding = charged(places, "2", info)
    assert finding.level == level
    assert words in finding.text
    if level == PROBLEM:
        assert "sysctl" in finding.remedy[0]
    if reserve:  # root may use the administrator's part
        assert "9 more forks fit" in charged(places, "2", info, uid=0).text


def test_mode_1_refuses_nothing_and_no_mode_is_unknown(places: Places) -> None:
    assert charged(places, None, {}).level == UNKNOWN
    assert charged(places, "1", {}).level == OK
    assert charged(places, "0", {}).level == UNKNOWN


# --- other checks of a process, planted


@pytest.mark.parametrize(
    ("path", "version", "letters"),
    [
        ("/usr/bin/python3.12", (3, 12), ""),
        ("/usr/lib/x86_64-linux-gnu/libpython3.13t.so.1.0", (3, 13), "t"),
        ("/usr/lib/python3.14/lib-dynload/_json.cpython-314td-x86_64-linux-gnu.so", (3, 14), "td"),
        ("/opt/python3.11/lib/libz.so", None, ""),
    ],
)
def test_the_python_of_a_process(places: Places, path: str, version: tuple[int, int] | None, letters: str) -> None:
    plant(places.proc, 7, smaps=f"1000-2000 r-xp 00000000 08:01 7 {path}\nVmFlags: rd\n")
    patient = Patient(7, (), places)
    python, threaded = process.python(patient), process.free_threaded(patient)
    if version is None:
        assert python.level == threaded.level == UNKNOWN
        return
    assert f"Python 3.{version[1]}" in python.text
    assert python.level == (OK if version >= (3, 12) else WARNING)
    assert threaded.level == (PROBLEM if "t" in letters else OK)
    assert ("debug" in python.text) == ("d" in letters)


def test_advice_to_use_huge_pages_is_found(places: Places) -> None:
    rollup = "x\nRss: 4 kB\nPss: 4 kB\nAnonHugePages: 2048 kB\nKSM: 8 kB\n"
    plant(places.proc, 7, smaps_rollup=rollup, status="VmSwap: 12 kB\n",
          smaps="400000-800000 rw-p 0 00:00 0\nVmFlags: rd wr hg\n")  # fmt: skip
    patient = Patient(7, (), places)
    assert process.huge_pages(patient).level == WARNING
    assert "4 MiB" in process.huge_pages(patient).text
    assert process.merged(patient).level == WARNING
    assert process.swapped(patient).level == WARNING


@pytest.mark.parametrize(
    ("command", "environ", "level"),
    [
        ("python\0-m\0gunicorn\0app:app", "", WARNING),
        ("python\0-m\0gunicorn\0--preload\0app:app", "", OK),
        ("python\0-m\0gunicorn\0-c\0conf.py\0app:app", "", INFO),
        ("python\0-m\0gunicorn\0app:app", "A=1\0GUNICORN_CMD_ARGS=--preload -w 3\0", OK),
        ("gunicorn: master [app:app]", "", INFO),
        ("python\0-m\0uvicorn\0app:app", "", PROBLEM),
        ("python\0app.py", "", OK),
    ],
)
def test_hosts(places: Places, command: str, environ: str, level: str) -> None:
    plant(places.proc, 7, cmdline=command, environ=environ, stat=stat_line(7))
    finding = process.host(Patient(7, (), places))
    assert finding.level == level
    assert bool(finding.remedy) == (level != OK)


def test_mappings_near_the_limit(places: Places) -> None:
    put(places.proc / "sys/vm/max_map_count", "10")
    for count, level in ((7, OK), (8, WARNING)):
        plant(places.proc, count, smaps="".join(f"{n}000-{n}100 rw-p 0 0:0 0\n" for n in range(1, count + 1)))
        assert process.map_count(Patient(count, (), places)).level == level
