"""`cowfreeze doctor`: each check on planted files, predictions against the kernel, and real trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cowfreeze.cli import _cgroup, _doctor_machine, _doctor_process, doctor
from cowfreeze.cli._doctor_machine import Places
from cowfreeze.cli._doctor_patient import Patient
from cowfreeze.cli._finding import INFO, OK, PROBLEM, UNKNOWN, WARNING, Finding
from cowfreeze.cli._proc import Unreadable

from _trees import FILES, gunicorn, needs_root, plant, pool, running, stat_line

KIB = 1024
MIB = 1 << 20
GIB = 1 << 30


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cowfreeze", "doctor", *arguments],
        check=False,
        **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 60, **options},
    )


def examine(pid: int) -> dict[str, dict[str, Any]]:
    """The findings about a process, by name."""
    done = run("--json", "-p", str(pid))
    result = json.loads(done.stdout)
    assert done.returncode == result["exit_status"]
    return {finding["name"]: finding for finding in result["findings"] if finding["pid"] == pid}


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
    finding = _doctor_machine.thp(places)
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
    assert _doctor_machine.khugepaged(places).level == level


@pytest.mark.parametrize(("text", "level"), [("0", OK), ("1", WARNING), ("2", OK), (None, OK)])
def test_ksm(places: Places, text: str | None, level: str) -> None:
    if text is not None:
        put(places.sys / "kernel/mm/ksm/run", text)
    assert _doctor_machine.ksm(places).level == level


@pytest.mark.parametrize(("total", "free", "level"), [(0, 0, OK), (1000, 990, OK), (1000, 500, WARNING)])
def test_swap(places: Places, total: int, free: int, level: str) -> None:
    put(places.proc / "meminfo", f"MemTotal: 5000 kB\nSwapTotal: {total} kB\nSwapFree: {free} kB\n")
    assert _doctor_machine.swap(places).level == level


def test_swap_that_is_not_shown_is_unknown(places: Places) -> None:
    put(places.proc / "meminfo", "MemTotal: 5000 kB\n")
    assert _doctor_machine.swap(places).level == UNKNOWN


@pytest.mark.parametrize(("mode", "level"), [("0", OK), ("1", OK), ("2", WARNING), (None, UNKNOWN)])
def test_overcommit(places: Places, mode: str | None, level: str) -> None:
    if mode is not None:
        put(places.proc / "sys/vm/overcommit_memory", mode)
    assert _doctor_machine.overcommit(places).level == level


def test_versions_and_builds() -> None:
    assert _doctor_machine.judge_python((3, 11), "it", None).level == WARNING
    assert _doctor_machine.judge_python((3, 12), "it", None).level == OK
    assert _doctor_machine.judge_free_threaded(True, "it", None).level == PROBLEM
    assert _doctor_machine.judge_free_threaded(False, "it", None).level == OK


@pytest.mark.parametrize(
    ("method", "level"), [("fork", OK), ("forkserver", INFO), ("spawn", WARNING)]
)  # fmt: skip
def test_start_methods(places: Places, method: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    assert _doctor_machine.start_method(places).level == level


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
    found = _cgroup.tightest(_cgroup.memory_groups(7, places.proc))
    assert found is not None
    assert (found.path, found.version, found.room) == (str(top / "a"), version, 15 * MIB)


def test_a_group_of_a_container_is_found_below_its_mount(places: Places, tmp_path: Path) -> None:
    mount(places, tmp_path / "cg", 2, root="/docker/abc")
    put(places.proc / "7/cgroup", "0::/docker/abc/app\n")
    group(tmp_path / "cg/app", 2, str(50 * MIB), 20 * MIB)
    assert [found.room for found in _cgroup.memory_groups(7, places.proc)] == [30 * MIB]


def test_a_group_above_the_mount_falls_back_to_what_is_visible(places: Places, tmp_path: Path) -> None:
    mount(places, tmp_path / "cg", 2)
    put(places.proc / "7/cgroup", "0::/../../elsewhere\n")
    group(tmp_path / "cg", 2, str(50 * MIB), 20 * MIB)
    assert [found.room for found in _cgroup.memory_groups(7, places.proc)] == [30 * MIB]


def test_no_mount_is_unknown_and_no_limit_is_none(places: Places, tmp_path: Path) -> None:
    put(places.proc / "7/cgroup", "0::/a\n")
    put(places.proc / "self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/x rw\n")
    with pytest.raises(Unreadable, match="not mounted"):
        _cgroup.memory_groups(7, places.proc)
    mount(places, tmp_path / "cg", 2)
    group(tmp_path / "cg/a", 2, "max", 20 * MIB)
    assert _cgroup.tightest(_cgroup.memory_groups(7, places.proc)) is None


@pytest.mark.parametrize(
    ("room", "level"), [(100 * KIB, PROBLEM), (20 * MIB, WARNING), (500 * MIB, OK)]
)  # fmt: skip
def test_a_fork_at_the_limit_is_predicted(places: Places, tmp_path: Path, room: int, level: str) -> None:
    """A 512 MiB parent has 1 MiB of page tables; its fork copies them before anything else."""
    mount(places, tmp_path / "cg", 2)
    plant(places.proc, 7, cgroup="0::/a\n", status="Uid: 0 0 0 0\nVmPTE: 1024 kB\nRssAnon: 102400 kB\n")
    group(tmp_path / "cg/a", 2, str(GIB), GIB - room)
    finding = _doctor_process.cgroup(Patient(7, (), places))
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
    return _doctor_process.fork_charge(Patient(7, (), places))


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


# --- the charge of a fork, against the kernel


def charge_of(pid: int) -> int:
    patient = Patient(pid, (), Places())
    return sum(mapping.bytes for mapping in patient.maps if "ac" in mapping.flags and "dc" not in mapping.flags)


def test_untouched_memory_is_charged_and_unshared_memory_is_not() -> None:
    code = (
        "import mmap, sys\nprivate = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS\nprint('a', flush=True); input()\n"
        "m = mmap.mmap(-1, 256 << 20, flags=private); print('b', flush=True); input()\n"
        "m.madvise(mmap.MADV_DONTFORK); print('c', flush=True); sys.stdin.read()"
    )
    charges = []
    with running("-c", code) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for letter in "abc":
            assert process.stdout.readline() == f"{letter}\n"
            charges.append(charge_of(process.pid))
            if letter != "c":
                process.stdin.write("\n")
                process.stdin.flush()
    assert 256 * MIB <= charges[1] - charges[0] <= 258 * MIB
    assert 256 * MIB <= charges[1] - charges[2] <= 258 * MIB


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "0", reason="needs overcommit mode 0"
)
@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_the_prediction_of_enomem_comes_true(fraction: float) -> None:
    """Two adjacent mappings merge into one: together above memory + swap, and the fork is refused."""
    code = (
        "import mmap, os, sys\n"
        "info = dict(line.split(':') for line in open('/proc/meminfo'))\n"
        "most = sum(int(info[key].split()[0]) for key in ('MemTotal', 'SwapTotal')) * 1024\n"
        f"size = int(most * {fraction}) // (2 << 20) * (2 << 20)\n"
        "kept = [mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)]\n"
        "try:\n    pid = os.fork()\nexcept OSError as error:\n    print('refused', error.errno, flush=True)\n"
        "else:\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)\n    print('forked', flush=True)\n"
        "sys.stdin.read()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        truth = process.stdout.readline().split()
        finding = examine(process.pid)["fork-charge"]
    assert truth == (["refused", "12"] if fraction > 0.5 else ["forked"])
    assert finding["level"] == (PROBLEM if fraction > 0.5 else OK)


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
    python, threaded = _doctor_process.python(patient), _doctor_process.free_threaded(patient)
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
    assert _doctor_process.huge_pages(patient).level == WARNING
    assert "4 MiB" in _doctor_process.huge_pages(patient).text
    assert _doctor_process.merged(patient).level == WARNING
    assert _doctor_process.swapped(patient).level == WARNING


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
    finding = _doctor_process.host(Patient(7, (), places))
    assert finding.level == level
    assert bool(finding.remedy) == (level != OK)


def test_mappings_near_the_limit(places: Places) -> None:
    put(places.proc / "sys/vm/max_map_count", "10")
    for count, level in ((7, OK), (8, WARNING)):
        plant(places.proc, count, smaps="".join(f"{n}000-{n}100 rw-p 0 0:0 0\n" for n in range(1, count + 1)))
        assert _doctor_process.map_count(Patient(count, (), places)).level == level


# --- the command


def test_the_machine_is_examined_and_the_status_is_documented() -> None:
    done = run("--json")
    result = json.loads(done.stdout)
    assert done.returncode == result["exit_status"]
    assert done.returncode in (0, 10, 20)
    assert done.stderr == ""
    names = [finding["name"] for finding in result["findings"]]
    assert set(_doctor_machine.CHECKS) | {"cgroup"} == set(names)
    help_text = run("--help").stdout
    for status in ("0 nothing", "10 a warning", "20 a problem"):
        assert status in help_text


def test_every_name_can_be_ignored() -> None:
    assert set(doctor.NAMES) == set(_doctor_machine.CHECKS) | set(_doctor_process.CHECKS)
    done = run("--json", "-p", str(os.getpid()), *(word for name in doctor.NAMES for word in ("--ignore", name)))
    assert done.returncode == 0
    assert json.loads(done.stdout)["findings"] == []


def test_an_unknown_name_is_refused() -> None:
    done = run("--ignore", "weather")
    assert done.returncode == 2
    assert "weather" in done.stderr


@pytest.mark.parametrize(
    ("levels", "status"),
    [([], 0), ([OK, INFO], 0), ([OK, UNKNOWN], 10), ([WARNING, INFO], 10), ([WARNING, PROBLEM, OK], 20)],
)
def test_the_exit_status(levels: list[str], status: int) -> None:
    assert doctor.exit_status([Finding("x", level, "text") for level in levels]) == status


def test_remedies_are_lines_of_their_own_and_whole() -> None:
    remedy = "echo " + "long " * 60 + "| sudo tee /somewhere"
    text = doctor.report([Finding("a", OK, "fine"), Finding("b", WARNING, "bad " * 50, (remedy,))], None, width=80)
    lines = text.splitlines()
    assert sum(remedy in line for line in lines) == 1
    assert next(line for line in lines if remedy in line).strip() == f"> {remedy}"
    assert lines.index(next(line for line in lines if "warning" in line)) < lines.index("  ok       a              fine")
    assert all(len(line) <= 80 for line in lines if remedy not in line and "silenced" not in line and "Checks of" not in line)


# --- real trees


def test_a_real_gunicorn() -> None:
    with gunicorn("--preload") as (pid, _):
        found = examine(pid)
        text = run("-p", str(pid)).stdout
    assert found["host"]["level"] == OK
    assert found["start-method"]["level"] == OK
    assert "were forked" in found["start-method"]["text"]
    assert found["permission"]["level"] == OK
    assert found["fork-charge"]["level"] in (OK, WARNING, PROBLEM)
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in found["python"]["text"]
    assert f"Process {pid}" in text


def test_a_real_gunicorn_without_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    with gunicorn() as (pid, _):
        host = examine(pid)["host"]
    assert host["level"] == WARNING
    assert "--preload" in host["remedy"][0]


def test_a_real_pool_of_forked_workers() -> None:
    with pool("fork") as pid:
        found = examine(pid)
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        below = examine(worker)
    assert found["start-method"]["level"] == OK
    assert found["host"]["level"] == OK
    assert found["threads"]["level"] == WARNING  # the pool's own handlers
    assert "threads are alive" in found["threads"]["text"]
    assert below["threads"]["level"] in (OK, INFO)


def test_a_real_pool_of_spawned_workers() -> None:
    with pool("spawn") as pid:
        done = run("--json", "-p", str(pid))
    assert done.returncode == 20
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"] if finding["pid"] == pid}
    assert found["host"]["level"] == PROBLEM
    assert found["start-method"]["level"] == PROBLEM
    assert "set_start_method" in found["start-method"]["remedy"][0]


def test_threads_are_counted_and_named() -> None:
    code = (
        "import sys, threading\nstop = threading.Event()\n"
        "threads = [threading.Thread(target=stop.wait, name=f'keeper-{i}') for i in range(3)]\n"
        "[t.start() for t in threads]\nprint('ready', flush=True)\nsys.stdin.read()\nstop.set()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        finding = examine(process.pid)["threads"]
    assert finding["level"] == WARNING
    assert finding["text"].startswith("4 threads are alive (")


# --- bad input


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    done = run("-p", str(process.pid))
    assert done.returncode == 2
    assert done.stderr == f"cowfreeze: there is no process {process.pid}\n"
    assert done.stdout == ""


@pytest.fixture(scope="module")
def foreign() -> Iterator[int]:
    """A process of user 65534 that is not dumpable, because it changed its user."""
    code = (
        "import os, sys, time\npid = os.fork()\n"
        "if pid == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534); time.sleep(100)\n"
        "time.sleep(0.2)\nprint(pid, flush=True)\nsys.stdin.read()"
    )
    with running("-c", code) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@needs_root
@pytest.mark.parametrize(("who", "reason"), [("ours", "belongs to user"), ("foreign", "is not dumpable")])
def test_what_may_not_be_read_is_unknown_with_its_reason(who: str, reason: str, request: pytest.FixtureRequest) -> None:
    pid = os.getpid() if who == "ours" else request.getfixturevalue("foreign")
    command = [sys.executable, str(FILES / "as_nobody.py"), "doctor", "-p", str(pid)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode >= 10
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"] if finding["pid"] == pid}
    for name in ("permission", "fork-charge", "python", "huge-pages"):
        assert found[name]["level"] == UNKNOWN
        assert reason in found[name]["text"]
    assert "sudo" in found["permission"]["remedy"][0]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "unknown" in shown.stdout
    assert "Traceback" not in shown.stderr
