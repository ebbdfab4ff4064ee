"""Bytes that nobody expects: every parser answers, or raises the error that it names.

Random bytes hardly get past a parser's first character, so most inputs are real files of this
process with a few bytes changed, cut out, doubled or replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from helpers.compiled import build

from cowfreeze import _core
from cowfreeze._sizes import format_size, parse_size
from cowfreeze._system import proc as readers
from cowfreeze.cli import main

INTERESTING = (
    b"", b"\0", b"\n", b" ", b":", b"-", b"-1", b"0", b"kB", b" kB", b"\xff", "²".encode(), "٣".encode(),
    b"18446744073709551616", b"9" * 5000, b"f" * 40, b"(", b") R 1", b"VmFlags:", b"%s", b"\x1b[0m", b"[heap]",
)  # fmt: skip
ROUNDS = 300
LONG = 60_000


def mutate(random_: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice((0, 1, 1, 2, 5, 20))):
        at = random_.randrange(len(changed) + 1)
        until = min(len(changed), at + random_.choice((0, 1, 3, 10, 200)))
        way = random_.randrange(4)
        if way == 0:
            changed[at:until] = random_.choice(INTERESTING)
        elif way == 1:
            changed[at:until] = random_.randbytes(until - at)
        elif way == 2:
            del changed[at:until]
        else:
            changed[at:at] = changed[at:until]
    return bytes(changed)


def fuzz(rounds: int, seed: int, data: bytes, parse: Callable[[bytes], object], *errors: type[Exception]) -> None:
    random_ = random.Random(seed)
    for number in range(rounds):
        text = mutate(random_, data)
        try:
            parse(text)
        except errors:
            continue
        except BaseException as error:
            raise AssertionError(f"seed {seed}, round {number}: {text!r}") from error


def read(path: str) -> bytes:
    return Path(path).read_bytes()[:6000]


FILES: dict[str, Callable[[Path], object]] = {
    "stat": lambda proc: readers.read_stat(1, proc),
    "status": lambda proc: [
        readers.status_bytes(readers.read_status(1, proc), key) for key in ("VmPTE", "VmSwap", "VmRSS")
    ],
    "smaps_rollup": lambda proc: readers.read_memory(1, proc).shared_ratio,
    "maps": lambda proc: readers.read_maps(1, proc),
    "smaps": lambda proc: readers.read_maps(1, proc, flags=True),
    "cmdline": lambda proc: readers.read_command(1, proc),
}


def fuzz_file(tmp_path: Path, name: str, rounds: int, seed: int) -> None:
    folder = tmp_path / "1"
    folder.mkdir()

    def parse(text: bytes) -> None:
        (folder / name).write_bytes(text)
        FILES[name](tmp_path)

    fuzz(rounds, seed, read(f"/proc/self/{name}"), parse, readers.Unreadable)


@pytest.mark.parametrize("name", FILES)
def test_files_of_proc(tmp_path: Path, name: str) -> None:
    fuzz_file(tmp_path, name, ROUNDS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("name", FILES)
def test_files_of_proc_for_long(tmp_path: Path, name: str, seed: int) -> None:
    fuzz_file(tmp_path, name, LONG // 4, seed)


def test_figures_that_are_digits_but_no_numbers() -> None:
    """str.isdigit() says yes to a superscript two and to 5,000 digits, int() does not."""
    for text in ("²", "9" * 5000):
        assert readers.status_bytes({"VmRSS": f"{text} kB"}, "VmRSS") is None


def check_size(text: bytes) -> None:
    size = parse_size(text.decode("utf-8", "replace"))
    assert isinstance(size, int) and size >= 0
    format_size(size)


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(LONG, marks=pytest.mark.slow)])
def test_size_grammar(rounds: int) -> None:
    for text in (b"256 KiB", b"1.5 MB", b"12", b"0.001 TiB"):
        fuzz(rounds, 7, text, check_size, ValueError)


def check_record(text: bytes) -> None:
    record = _core.decode_record(text)
    assert all(isinstance(reason, str) for reason in record["reasons"])


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(LONG, marks=pytest.mark.slow)])
def test_audit_records(rounds: int) -> None:
    """What a worker sends, with the right magic and length, and anything in between."""
    read_end, write_end = os.pipe()
    with _core.Witness() as witness:
        # In a child: an audit makes its process the reaper of orphans, for good.
        pid = os.fork()
        if pid == 0:
            try:
                _core.WorkerAudit(witness).measure_into(write_end)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    record = os.read(read_end, _core.RECORD_SIZE)
    os.close(read_end)
    os.close(write_end)
    check_record(record)
    random_ = random.Random(3)
    for _ in range(rounds):
        changed = bytearray(record)
        for _ in range(random_.randrange(1, 6)):
            changed[random_.randrange(8, len(changed))] = random_.choice((0, 1, 127, 128, 255))
        check_record(bytes(changed))
    fuzz(rounds, 3, record, check_record, ValueError)


WORDS = (
    "demo", "bench", "audit", "top", "doctor", "run", "--json", "--help", "-h", "--", "-", "", "--interval", "-1",
    "nan", "1e400", "999999999999999999999", "--pid", "0", "--max-copied", "1 XB", "²", "\udcff", "--bogus", "=",
    "--call", "a:b", "no.such:thing", "/nonexistent", "\n", "%s", "--workers", "--timeout",
)  # fmt: skip
# What has a job to do is not given one: these end before it, or say what is wrong.
VERBS = ("doctor", "top", "audit", "bench", "demo", "run", "compare", "")


def no_program(*_: object) -> None:
    """`cowfreeze run top` becomes top: the tests would end there, with its status."""
    raise SystemExit(127)


def check_arguments(random_: random.Random) -> None:
    words = [random_.choice(VERBS), "--bogus-option", *random_.choices(WORDS, k=random_.randrange(5))]
    random_.shuffle(words)
    out, err = io.StringIO(), io.StringIO()
    quiet = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with quiet[0], quiet[1], mock.patch("os.execvpe", no_program):
        try:
            status: object = main(words)
        except SystemExit as end:
            status = end.code
    assert status != 0 or "usage" in out.getvalue().lower() or "-h" in words or "--help" in words, words
    assert "Traceback" not in err.getvalue(), (words, err.getvalue())


@pytest.mark.parametrize("rounds", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_arguments_of_the_command(rounds: int) -> None:
    random_ = random.Random(11)
    for _ in range(rounds):
        check_arguments(random_)


# --- the parsers in C, in a program of their own ---------------------------------------

HARNESS = r"""
#define _GNU_SOURCE
#include "proc/maps.h"
#include "proc/procfile.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* 1: another mapping, and what a caller may rely on holds; 0: the end; -1: refused; -2: broken. */
int
fuzz_maps(const char *text, size_t size, size_t capacity)
{
    int fd = memfd_create("fuzz", 0), got, lines = 0;
    char *buffer = malloc(capacity);  /* of just that size: ASAN watches its end */
    cf_maps maps;
    cf_mapping mapping;
    if (fd < 0 || buffer == NULL || write(fd, text, size) != (ssize_t)size) {
        return -3;
    }
    cf_maps_begin(&maps, fd, buffer, capacity);
    while ((got = cf_maps_next(&maps, &mapping)) > 0) {
        if (mapping.start > mapping.end || mapping.area > CF_AREA_SKIP || ++lines > 1000000) {
            got = -2;
            break;
        }
    }
    free(buffer);
    close(fd);
    return got < 0 ? got : lines;
}

int
fuzz_stat(const char *text, int field)
{
    const char *found = cf_stat_field(text, field);
    return found == NULL ? -1 : (int)(found - text);
}
"""


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(LONG, marks=pytest.mark.slow)])
def test_maps_and_stat_in_c(tmp_path: Path, rounds: int) -> None:
    source = tmp_path / "harness.c"
    source.write_text(HARNESS)
    library = ctypes.CDLL(str(build(tmp_path / "harness.so", source, ("proc/maps", "proc/procfile"), ("-shared", "-fPIC"))))
    library.fuzz_maps.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]
    maps, stat = read("/proc/self/maps"), read("/proc/self/stat")
    assert library.fuzz_maps(maps[: maps.rindex(b"\n") + 1], maps.rindex(b"\n") + 1, 32768) == maps.count(b"\n")

    def parse(text: bytes) -> None:
        for capacity in (300, 32768):
            assert library.fuzz_maps(text, len(text), capacity) >= -1, text

    def parse_stat(text: bytes) -> None:
        line = text.split(b"\0")[0]
        for field in (3, 4, 22, 60):
            assert -1 <= library.fuzz_stat(line, field) <= len(line)

    fuzz(rounds, 5, maps, parse)
    fuzz(rounds, 6, stat, parse_stat)
