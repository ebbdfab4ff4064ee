"""`cowfreeze demo`: the data, the reader, the table, and the three ways end to end."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from helpers.ending import hang_up_ends

from cowfreeze._system.memory import available_memory, resident_bytes
from cowfreeze.bench.cases.reader import read
from cowfreeze.bench.cases.ucd import unicode_records
from cowfreeze.cli.command import CommandError
from cowfreeze.cli.demo.data import json_file
from cowfreeze.cli.demo.result import COWFREEZE, GC_FREEZE, PLAIN, WAYS, DemoResult, WayResult, table_text

IMMORTAL = sys.version_info >= (3, 12)
KIB = 1024


def demo(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cowfreeze", "demo", *arguments],
        check=False,
        **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 300, **options},
    )


# --- the data


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return unicode_records()


def test_every_assigned_character_is_there_once(records: list[dict[str, Any]]) -> None:
    expected = [
        code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    assert [record["code_point"] for record in records] == expected
    assert len(expected) > 140_000


def test_a_record_says_what_unicode_says(records: list[dict[str, Any]]) -> None:
    by_code = {record["code_point"]: record for record in records}
    sharp_s, half, han = by_code[0xDF], by_code[0xBD], by_code[0x4E00]
    assert sharp_s["name"] == "LATIN SMALL LETTER SHARP S"
    assert sharp_s["upper"] == (0x53, 0x53)
    assert sharp_s["casefold"] == (0x73, 0x73)
    assert half["numeric"] == 0.5
    assert half["decimal"] is None
    assert half["decomposition"] == ("<fraction>", "0031", "2044", "0032")
    assert half["normal_forms"] == ("½", "½", "1⁄2", "1⁄2")
    assert han["east_asian_width"] == "W"
    assert han["words"] == ("CJK", "UNIFIED", "IDEOGRAPH-4E00")
    assert by_code[0]["name"] is None


# --- the reader


def recursive(value: Any) -> tuple[int, int, int, int]:
    """The same count in the plainest form, as the specification."""
    containers = strings = others = checksum = 0
    parts: list[Any] = []
    if type(value) is str:
        strings, checksum = 1, hash(value)
    elif type(value) is dict:
        containers, parts = 1, [*value.keys(), *value.values()]
    elif type(value) in (list, tuple):
        containers, parts = 1, list(value)
    else:
        others = 1
    for part in parts:
        c, s, o, x = recursive(part)
        containers, strings, others, checksum = containers + c, strings + s, others + o, checksum ^ x
    return containers, strings, others, checksum


def tree(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 4)
    if kind >= 4:
        children = [tree(chance, depth - 1) for _ in range(chance.randrange(4))]
        if kind == 4:
            return tuple(children)
        if kind == 5:
            return children
        return {chance.choice([f"key-{i}", i, None]): child for i, child in enumerate(children)}
    return [chance.random(), f"text-{chance.random()}", chance.getrandbits(70), None][kind]


@pytest.mark.parametrize("seed", range(50))
def test_the_reader_reads_what_the_recursive_one_reads(seed: int) -> None:
    data = tree(random.Random(seed), 5)
    assert read(data).content == recursive(data)


def test_the_reader_hashes_every_string() -> None:
    """Otherwise a worker would not write the hash field, and the demo would hide those copies."""
    keys = [b"abc-%d" % i for i in range(3)]
    data = {keys[0].decode(): [keys[1].decode(), (keys[2].decode(),)]}
    expected = 0
    for key in keys:
        expected ^= hash(key.decode())
    assert read(data).checksum == expected


def test_the_reader_does_not_recurse() -> None:
    data: Any = "end"
    for _ in range(100_000):
        data = [data]
    assert read(data).content == (100_000, 1, 0, hash("end"))
    while type(data) is list:  # a deep list's own deallocation is not what is tested
        data = data[0]


def test_the_reader_collects() -> None:
    seen: list[str] = []

    def callback(phase: str, details: dict[str, int]) -> None:
        if phase == "start" and details["generation"] == 2:
            seen.append(phase)

    gc.collect()
    gc.callbacks.append(callback)
    try:
        read([1])
    finally:
        gc.callbacks.remove(callback)
    assert len(seen) == 1


# --- the file


def write(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": [1, 2', "is not JSON"),
        (b"", "is not JSON"),
        (b'["\xff"]', "is not UTF-8"),
        (b"[" * 200_000, "nests deeper"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(CommandError, match=expected) as caught:
        json_file(write(tmp_path, content))
    assert caught.value.exit_code == 2
    assert "data.json" in str(caught.value)


def test_a_broken_file_ends_the_command_with_2_and_no_result(tmp_path: Path) -> None:
    done = demo("--json", write(tmp_path, b'{"a": [1, 2'))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("not JSON") == 1
    assert "Traceback" not in done.stderr


# --- memory


def test_resident_bytes_follow_what_is_touched() -> None:
    before = resident_bytes()
    block = bytearray(b"\1") * (32 << 20)
    assert resident_bytes() - before > 24 << 20
    del block


def test_available_memory_is_below_what_the_machine_has() -> None:
    free = available_memory()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert free is not None
    assert 0 < free <= total


def test_too_little_memory_to_build_is_one_line() -> None:
    limit = 200 << 20  # enough for the interpreter, not for the data

    def less_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = demo("--workers", "2", preexec_fn=less_memory)
    assert done.returncode == 1
    # An interpreter without memory may print half a line of its own before ours.
    last = done.stderr.splitlines()[-1]
    assert "too little memory" in last[last.index("cowfreeze: ") :]


def test_workers_that_would_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from cowfreeze.cli.demo import one_way

    monkeypatch.setattr(one_way, "available_memory", lambda: 399 << 20)
    one_way._check_memory(100 << 20, workers=3)
    with pytest.raises(CommandError, match=r"too little memory: 4 workers .* 100 MiB .* 400 MiB"):
        one_way._check_memory(100 << 20, workers=4)


# --- the table


def way(name: str, **changes: Any) -> WayResult:
    fields: dict[str, Any] = {
        "way": name,
        "records": 1000,
        "data_bytes": 100 << 20,
        "content": (1, 2, 3, 4),
        "copied_bytes": 80 << 20,
        "startup_bytes": 8 * KIB,
        "frozen_copied_pages": None,
        "cluster_pss": 500 << 20,
        "frozen_objects": None,
        "freeze_seconds": None,
        "read_seconds": 1.0,
        "collect_seconds": 0.1,
        "build_seconds": 1.0,
        "page_size": 4096,
        "method": "test",
    }
    return WayResult(**{**fields, **changes})


def result(**changes: Any) -> DemoResult:
    frozen = {"copied_bytes": 100 * KIB, "frozen_copied_pages": 3, "cluster_pss": 120 << 20, "freeze_seconds": 0.2}
    rows = (way(PLAIN), way(GC_FREEZE, freeze_seconds=0.1), way(COWFREEZE, **{**frozen, **changes}))
    return DemoResult("test data", 4, 10.0, rows)


def table_row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return line.strip()[len(name) :].split("  ")


def test_the_table_shows_a_dash_where_nothing_is_frozen_and_never_0() -> None:
    text = table_text(result())
    for name in (PLAIN, GC_FREEZE):
        cells = [cell.strip() for cell in table_row(text, name) if cell.strip()]
        assert cells[:4] == ["80 MiB", "8 KiB", "80.0%", "–"]
    cells = [cell.strip() for cell in table_row(text, COWFREEZE) if cell.strip()]
    assert cells[:4] == ["100 KiB", "8 KiB", "0.1%", "3"]


def test_unknown_figures_are_unknown_with_their_reason() -> None:
    unknown = {"copied_bytes": None, "startup_bytes": None, "frozen_copied_pages": None}
    text = table_text(result(**unknown, reasons=("/proc is not mounted",)))
    cells = [cell.strip() for cell in table_row(text, COWFREEZE) if cell.strip()]
    assert cells[:4] == ["unknown"] * 4
    assert "/proc is not mounted" in text.splitlines()[-1]


def test_the_conclusion_follows_the_figures() -> None:
    good, bad = result().conclusion(), result(copied_bytes=90 << 20).conclusion()
    assert "80% with plain fork, 80% with gc.freeze() and 100 KiB with cowfreeze.freeze()" in good
    assert "120 MiB instead of 500 MiB" in good
    assert "90% with cowfreeze.freeze()" in bad


def test_a_row_survives_json() -> None:
    for row in result(notes=("a",), reasons=("b",)).ways:
        assert WayResult.from_dict(json.loads(json.dumps(row.to_dict()))) == row


# --- end to end


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """About 30 MiB of objects, so that three ways take seconds."""
    path = tmp_path_factory.mktemp("demo") / "data.json"
    path.write_text(
        json.dumps(
            [
                {"id": i + 10**6, "name": f"name {i}", "tags": [f"a-{i}", f"b-{i}"], "score": i * 0.37, "none": None}
                for i in range(60_000)
            ]
        )
    )
    return str(path)


def test_three_ways_on_own_data(user_data: str) -> None:
    done = demo("--json", user_data, "--workers", "2", "--format", "json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)  # nothing else may be on stdout
    assert [row["way"] for row in figures["ways"]] == list(WAYS)
    plain, gc_freeze, frozen = figures["ways"]
    assert plain["content"] == gc_freeze["content"] == frozen["content"]
    assert plain["content"][:3] == [1 + 2 * 60_000, 8 * 60_000, 3 * 60_000]
    assert plain["frozen_copied_pages"] is None
    assert gc_freeze["frozen_copied_pages"] is None
    for row in (plain, gc_freeze):
        assert row["copied_share"] > 0.5
    if IMMORTAL:
        assert frozen["frozen_copied_pages"] <= 16
        # What the interpreter writes between fork and target belongs to any fork and is bounded
        # apart, so that neither limit hides a change of the other.
        assert frozen["copied_bytes"] <= 256 * KIB
        assert frozen["startup_bytes"] <= 2048 * KIB
        assert frozen["cluster_pss"] < plain["cluster_pss"]
    else:
        assert "no immortal objects" in "".join(figures["notes"])
        assert frozen["copied_share"] > 0.2  # the note must be true


def test_progress_goes_to_stderr_and_the_table_to_stdout(user_data: str) -> None:
    done = demo("--json", user_data, "--workers", "1")
    assert done.returncode == 0, done.stderr
    for name in WAYS:
        assert f"{name}: building the data ..." in done.stderr
        assert sum(line.strip().startswith(name.removesuffix("()")) for line in done.stdout.splitlines()) == 1
    assert "Of " in done.stdout.splitlines()[-1]


def test_the_table_prints_where_the_encoding_has_no_dashes(tmp_path: Path) -> None:
    done = demo(
        "--json", write(tmp_path, b"[1]"), "--workers", "1", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "note: The data takes less than" in done.stdout


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "unicodedata.py").write_text("raise SystemExit('wrong module')")
    script = Path(sys.executable).parent / "cowfreeze"
    done = subprocess.run(
        [script, "demo", "--json", write(tmp_path, b"[1]"), "--workers", "1"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def children(pid: int) -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found |= {int(entry.name)} | children(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupt_ends_everything(user_data: str, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cowfreeze", "demo", "--json", user_data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hang_up_ends,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "workers read" in line:
            break
    time.sleep(0.1)
    family = children(process.pid)
    assert family
    os.killpg(process.pid, number)  # as a terminal does on Ctrl-C, and `timeout`
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGKILL:  # nobody is left to end the others but the kernel
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert errors.endswith("cowfreeze: interrupted\n")
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)
