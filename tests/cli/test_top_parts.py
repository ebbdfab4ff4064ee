"""What `cowfreeze top` is made of: readers of /proc, page comparison, hosts and budget, on planted files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from helpers.trees import plant, stat_line

from cowfreeze._system import copied, hosts, proc
from cowfreeze._system.copied import measure_family
from cowfreeze._system.proc import Unreadable
from cowfreeze.cli.top.budget import Budget

PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1024
MIB = 1 << 20


# --- parsers, on a planted /proc


@pytest.mark.parametrize("name", ["python", "a b", "x) R 1 (y", "(", ")"])
def test_stat_is_read_whatever_the_name(tmp_path: Path, name: str) -> None:
    plant(tmp_path, 7, stat=stat_line(7, name, parent=3, minflt=11, majflt=2))
    stat = proc.read_stat(7, tmp_path)
    assert (stat.name, stat.parent, stat.state, stat.threads, stat.started) == (name, 3, "S", 7, 555)
    assert (stat.faults, stat.minor_faults, stat.rss, stat.image) == (13, 11, 100 * PAGE, (4096, 8192))


def test_a_hidden_image_is_unknown_and_not_equal(tmp_path: Path) -> None:
    plant(tmp_path, 7, stat=stat_line(7, code=1, stack=0))
    plant(tmp_path, 8, stat=stat_line(8, code=1, stack=0))
    plant(tmp_path, 9, stat=stat_line(9))
    hidden, other, seen = (proc.read_stat(pid, tmp_path) for pid in (7, 8, 9))
    assert hidden.image is None
    assert proc.forked(hidden, other) is None
    assert proc.forked(hidden, seen) is None
    assert proc.forked(seen, seen) is True


def test_a_cut_off_stat_is_a_reason(tmp_path: Path) -> None:
    plant(tmp_path, 7, stat="7 (python) S 1")
    with pytest.raises(Unreadable, match="unknown form"):
        proc.read_stat(7, tmp_path)


ROLLUP = """\
555a1577b000-7ffdb8570000 ---p 00000000 00:00 0                          [rollup]
Rss:                1000 kB
Pss:                 400 kB
Pss_Dirty:           112 kB
Shared_Clean:        300 kB
Shared_Dirty:        400 kB
Private_Clean:        50 kB
Private_Dirty:       250 kB
Anonymous:           600 kB
KSM:                  12 kB
AnonHugePages:      2048 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                 24 kB
SwapPss:               8 kB
"""


def test_a_rollup(tmp_path: Path) -> None:
    plant(tmp_path, 7, smaps_rollup=ROLLUP)
    memory = proc.read_memory(7, tmp_path)
    assert (memory.rss, memory.pss, memory.private, memory.shared) == (1000 * KIB, 400 * KIB, 300 * KIB, 700 * KIB)
    assert (memory.swap, memory.huge, memory.ksm) == (24 * KIB, 2 * MIB, 12 * KIB)
    assert memory.shared_ratio == 0.7


def test_without_a_rollup_smaps_is_added_up(tmp_path: Path) -> None:
    plant(tmp_path, 7, smaps=ROLLUP.replace("KSM:                  12 kB\n", "") * 3)
    memory = proc.read_memory(7, tmp_path)
    assert (memory.rss, memory.private, memory.ksm) == (3000 * KIB, 900 * KIB, None)


def test_an_empty_rollup_is_not_zero_bytes(tmp_path: Path) -> None:
    plant(tmp_path, 7, smaps_rollup="")
    with pytest.raises(Unreadable, match="no memory of its own"):
        proc.read_memory(7, tmp_path)


def test_maps_with_flags(tmp_path: Path) -> None:
    text = (
        "1000-3000 rw-p 00000000 00:00 0 \nSize: 8 kB\nVmFlags: rd wr mr ac hg \n"
        "5000-6000 r-xp 00000000 08:01 7 /usr/lib/a b.so\nVmFlags: rd ex\n"
    )
    plant(tmp_path, 7, smaps=text)
    first, second = proc.read_maps(7, tmp_path, flags=True)
    assert (first.start, first.end, first.permissions, first.path) == (0x1000, 0x3000, "rw-p", "")
    assert first.flags == {"rd", "wr", "mr", "ac", "hg"}
    assert (second.bytes, second.path, second.flags) == (4096, "/usr/lib/a b.so", {"rd", "ex"})


def test_a_process_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="process 7 is gone") as caught:
        proc.read_memory(7, tmp_path)
    assert caught.value.gone


# --- copied pages, on planted pagemaps

PRESENT, SWAPPED, OF_FILE, ALONE = 1 << 63, 1 << 62, 1 << 61, 1 << 56
SHARED_PAGE, OWN_PAGE = PRESENT, PRESENT | ALONE


def plant_pages(root: Path, pid: int, entries: list[int]) -> None:
    first = 16
    maps = f"{first * PAGE:x}-{(first + len(entries)) * PAGE:x} rw-p 00000000 00:00 0\n1000-2000 r--p 0 00:00 0\n"
    plant(
        root,
        pid,
        stat=stat_line(pid),
        maps=maps,
        pagemap=struct.pack(f"={first + len(entries)}Q", *[0] * first, *entries),
    )


@pytest.mark.parametrize(
    ("parent", "worker", "sibling", "at_least", "at_most"),
    [
        (SHARED_PAGE, SHARED_PAGE, SHARED_PAGE, 0, 0),
        (SHARED_PAGE, OWN_PAGE, SHARED_PAGE, 1, 1),
        (OWN_PAGE, SHARED_PAGE, SHARED_PAGE, 0, 0),  # the parent copied it
        (OWN_PAGE, OWN_PAGE, OWN_PAGE, 0, 1),
        (0, OWN_PAGE, 0, 0, 0),  # new in the worker
        (0, OWN_PAGE, OWN_PAGE, 0, 0),  # new in both
        (0, OWN_PAGE, SHARED_PAGE, 1, 1),  # the parent gave it back, siblings still share it
        (OWN_PAGE, 0, OWN_PAGE, 0, 0),
        (PRESENT | OF_FILE, OWN_PAGE, PRESENT | OF_FILE, 1, 1),  # a file's page, written by the worker
        (PRESENT | OF_FILE, PRESENT | OF_FILE | ALONE, 0, 0, 0),
        (OWN_PAGE, SWAPPED, OWN_PAGE, 0, 1),
        (SWAPPED, OWN_PAGE, 0, 0, 1),
    ],
)
def test_what_one_page_says(
    tmp_path: Path, parent: int, worker: int, sibling: int, at_least: int, at_most: int
) -> None:
    # Beyond one chunk, so that the seam between two is crossed.
    before, after = [SHARED_PAGE] * 3, [0] * (copied._CHUNK + 5)
    for pid, entry in ((1, parent), (2, worker), (3, sibling)):
        plant_pages(tmp_path, pid, [*before, entry, *after, entry])
    found = measure_family(1, [2, 3], proc=tmp_path)[2]
    assert (found.at_least, found.at_most) == (2 * at_least * PAGE, 2 * at_most * PAGE)
    assert (found.reason is None) == (at_least == at_most)


def test_a_worker_with_children_has_no_upper_bound_and_proves_nothing(tmp_path: Path) -> None:
    plant_pages(tmp_path, 1, [OWN_PAGE] * 4)
    plant_pages(tmp_path, 2, [SHARED_PAGE, OWN_PAGE, OWN_PAGE, OWN_PAGE])  # page 0 is shared with its child
    plant_pages(tmp_path, 3, [OWN_PAGE, OWN_PAGE, 0, 0])
    found = measure_family(1, [2, 3], busy=[2], proc=tmp_path)
    assert found[2].at_most is None
    assert "forked too" in str(found[2].reason)
    assert (found[3].at_least, found[3].at_most) == (0, 2 * PAGE)


def test_a_worker_that_ends_meanwhile_does_not_spoil_the_others(tmp_path: Path) -> None:
    for pid in (1, 2):
        plant_pages(tmp_path, pid, [SHARED_PAGE, OWN_PAGE])
    plant_pages(tmp_path, 3, [SHARED_PAGE, SHARED_PAGE])
    plant(tmp_path, 4, pagemap="")
    found = measure_family(1, [2, 3, 4, 5], proc=tmp_path)
    assert found[2].exact == PAGE
    assert found[4] == copied.Copied(None, None, "process 4 is gone")
    assert found[5] == copied.Copied(None, None, "process 5 is gone")


def test_terabytes_of_reserved_address_space_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, 1, stat=stat_line(1), maps="10000000000-30000000000 rw-p 0 00:00 0\n")
    with pytest.raises(Unreadable, match="reserves 2048 GiB"):
        measure_family(1, [2], proc=tmp_path)


# --- hosts


@pytest.mark.parametrize(
    ("command", "name", "benefits"),
    [
        ("/usr/bin/python3 /opt/bin/gunicorn app:app", "gunicorn", "maybe"),
        ("python3.12 -m gunicorn --preload app:app", "gunicorn", "yes"),
        ("gunicorn: master [app:app]", "gunicorn", "maybe"),
        ("python -X dev -m uvicorn --workers 4 app:app", "uvicorn", "no"),
        ("/venv/bin/python /venv/bin/hypercorn app", "hypercorn", "no"),
        ("python3 -c from\0multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)", "multiprocessing spawn", "no"),
        ("python3 -c from\0multiprocessing.resource_tracker import main;main(4)", "resource tracker", "maybe"),
        ("python3 -c from\0multiprocessing.forkserver import main; main(4, 5)", "forkserver", "maybe"),
        ("python -m joblib.externals.loky.backend.popen_loky_posix --process-name LokyProcess-1", "loky", "no"),
        ("ray::IDLE", "Ray", "no"),
        ("python -m distributed.cli.dask_worker tcp://127.0.0.1:1", "Dask", "no"),
        ("python /venv/bin/dask-worker tcp://127.0.0.1:1", "Dask", "no"),
        ("python /venv/bin/celery -A app worker", "Celery", "yes"),
        ("[celeryd: celery@host:MainProcess] -active- (worker)", "Celery", "yes"),
        ("celery worker -P solo", "Celery", "no"),
        ("uwsgi --master --module app", "uWSGI", "yes"),
        ("uwsgi --master --lazy-apps", "uWSGI", "no"),
        ("uwsgi --master --ini uwsgi.ini", "uWSGI", "maybe"),
        ("uwsgi /etc/app.yaml", "uWSGI", "maybe"),
        ("python -m pyspark.daemon pyspark.worker", "PySpark daemon", "maybe"),
        ("uwsgi -M --lazy --module app", "uWSGI", "no"),
        ("python -m cowfreeze.integrations.pyspark pyspark.worker", "PySpark daemon", "yes"),
        ("rq worker high", "RQ", "yes"),
        ("rq worker -w rq.worker.SpawnWorker high", "RQ", "no"),
    ],
)  # fmt: skip
def test_hosts_are_recognized(command: str, name: str, benefits: str) -> None:
    words = [word.replace("\0", " ") for word in command.split(" ")]
    for form in (words, [command.replace("\0", " ")] if ":" in words[0] or "[" in words[0] else words):
        host = hosts.identify(form)
        assert host is not None
        assert (host.name, host.benefits) == (name, benefits)
        assert benefits != "no" or host.why


@pytest.mark.parametrize(
    "command",
    [
        "vim gunicorn.conf.py",
        "python app.py --server uvicorn",
        "grep celery log",
        "python -c print('gunicorn')",
        "bash",
    ],
)
def test_programs_that_only_mention_a_host_are_none(command: str) -> None:
    assert hosts.identify(command.split(" ")) is None


# --- the budget


@pytest.mark.parametrize("price", [0.0001, 0.004, 0.3])
def test_the_budget_keeps_its_share(price: float) -> None:
    budget, now, spent = Budget(0.005), 0.0, 0.0
    budget.tick(now)
    reads = 0
    while now < 1000:
        now += 2
        budget.tick(now)
        while budget.ready():
            budget.spend(price)
            spent += price
            reads += 1
    assert reads > 10
    assert spent <= 0.005 * now + price * 1.01
    assert spent >= 0.005 * now * 0.5


def test_an_idle_hour_does_not_pay_for_a_busy_minute() -> None:
    budget = Budget(0.01)
    budget.tick(0)
    for second in range(1, 3600):
        budget.tick(second)
    spent = 0.0
    while budget.ready():
        budget.spend(0.001)
        spent += 0.001
    assert spent <= 0.011 + 0.001
