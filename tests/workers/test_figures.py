"""fork_workers: the figures against planted truth, the limits of assert_shared, the report."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from helpers.workers import SCRIPTS, leaves_nothing_behind, only, raise_it  # noqa: F401

import cowfreeze
from cowfreeze._errors import CowfreezeError
from cowfreeze._workers import run
from cowfreeze._workers.fork import assert_shared, fork_workers
from cowfreeze._workers.report import PagesCopied, WorkerFailed

PAGE = os.sysconf("SC_PAGE_SIZE")


# --- figures --------------------------------------------------------------------------


@contextlib.contextmanager
def private_memory(size: int) -> Iterator[mmap.mmap]:
    """Private pages that exist: each is written once, here."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        memory[offset] = 1
    with memory:
        yield memory


def dirty(memory: mmap.mmap, pages: int) -> None:
    for page in range(pages):
        memory[page * PAGE] = 2


def test_planted_pages_are_counted() -> None:
    # The base is what a worker that does nothing copies: on 3.10 and 3.11, which write every count
    # they touch, 150 pages in a process that has imported a lot.
    step = 500
    with private_memory(4 * step * PAGE) as memory:
        result = fork_workers(lambda index: dirty(memory, step * index), 4)
    counts = [worker.copied_pages for worker in result.workers]
    base = counts[0]
    assert base is not None and base < step, result
    for index, count in enumerate(counts):
        assert count is not None and step * index <= count <= step * index + base + 50, result
    assert result.copied == max(count or 0 for count in counts) * PAGE
    assert all((worker.startup_pages or 0) > 0 for worker in result.workers)
    faults = [worker.minor_faults or 0 for worker in result.workers]
    assert all(fault >= step * index for index, fault in enumerate(faults))


_in_child: list[Any] = []
os.register_at_fork(after_in_child=lambda: [function() for function in _in_child])


def test_pages_that_the_target_gives_back_hide_none_that_it_copies() -> None:
    """An at-fork function (as it re-seeds, or clears a cache) writes; the target drops that memory
    and writes elsewhere. The difference of two counts is below 0 then, and was told as 0."""
    step = 2000
    with private_memory(2 * step * PAGE) as cache, private_memory(step * PAGE) as memory:

        def target(index: int) -> None:
            if index:
                cache.close()
            dirty(memory, step)

        _in_child.append(lambda: dirty(cache, 2 * step))
        try:
            kept, dropped = fork_workers(target, 2).workers
        finally:
            _in_child.clear()
    for worker in (kept, dropped):
        assert worker.startup_pages is not None and worker.startup_pages >= 2 * step
        assert worker.copied_pages is not None and step <= worker.copied_pages < step + 500, worker
        assert worker.copied_by_area["anon"] >= step and not worker.reasons


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: makes a PID namespace")
def test_where_proc_numbers_other_processes_nothing_is_read_or_killed() -> None:
    command = ["unshare", "--pid", "--fork", sys.executable, str(SCRIPTS / "cases_other_namespace.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_new_memory_is_no_copied_memory() -> None:
    def target(index: int) -> None:
        with private_memory(1000 * PAGE):
            measured.append(1)
            keep.append(mmap.mmap(-1, 1000 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            dirty(keep[0], 1000)

    measured: list[int] = []
    keep: list[mmap.mmap] = []
    worker = fork_workers(target, 1).workers[0]
    assert worker.new_pages is not None and 1000 <= worker.new_pages < 1300
    assert worker.copied_pages is not None and worker.copied_pages < 500


def test_assert_shared_passes_and_fails_at_its_limit() -> None:
    with private_memory(200 * PAGE) as memory:
        result = fork_workers(lambda index: dirty(memory, 200 if index == 1 else 0), 2)
    copied = result.copied
    assert copied is not None and copied >= 200 * PAGE
    assert result.assert_shared(max_copied=copied) is result
    with pytest.raises(PagesCopied) as info:
        result.assert_shared(max_copied=copied - 1)
    text = str(info.value)
    assert isinstance(info.value, AssertionError) and isinstance(info.value, CowfreezeError)
    assert info.value.result is result
    assert text.startswith("worker 1 copied ") and f"{copied // PAGE} pages" in text
    assert "1 of 2 workers is over" in text and "Where to look" in text and "1 returned" in text


def test_assert_shared_in_one_call() -> None:
    with private_memory(100 * PAGE) as memory:
        with pytest.raises(PagesCopied, match="limit 64 KiB"):
            assert_shared(lambda index: dirty(memory, 100), 2, max_copied="64 KiB")
        result = assert_shared(lambda index: "ok", 2, max_copied=500 * PAGE)
    assert result.results == ("ok", "ok")


def test_assert_shared_judges_no_failed_worker() -> None:
    with pytest.raises(WorkerFailed, match="raised ValueError"):
        assert_shared(lambda index: raise_it(ValueError("x")), 2, max_copied="1 GiB")


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"max_copied": "lots"}, ValueError), ({"max_copied": -1}, ValueError),
     ({"max_copied": None}, TypeError), ({"max_frozen": -1}, ValueError),
     ({"max_frozen": "16"}, TypeError), ({"max_frozen": True}, TypeError)],
)  # fmt: skip
def test_bad_limits_are_told_before_anything_is_forked(
    limits: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="max_"):
        assert_shared(lambda index: os.kill(os.getppid(), 9), 2, **limits)


def test_cluster_pss_counts_shared_pages_once_and_copies_each_time() -> None:
    size = 32 << 20
    with private_memory(size) as memory:
        clean = [fork_workers(lambda index: None, count).cluster_pss for count in (1, 3)]
        one_copy = fork_workers(lambda index: dirty(memory, size // PAGE), 1)
        copied = fork_workers(lambda index: dirty(memory, size // PAGE), 3).cluster_pss
    assert clean[0] and clean[1] and copied and one_copy.cluster_pss
    # Three clean workers share it all; a few MB each are their own.
    assert clean[1] - clean[0] < size / 2
    assert 0.9 * size < one_copy.cluster_pss - clean[0] < 1.1 * size
    assert 2.9 * size < copied - clean[1] < 3.1 * size
    uss = one_copy.workers[0].uss
    assert uss is not None and size <= uss < 1.5 * size


def test_inherited_memory_and_shared_ratio() -> None:
    size = 64 << 20
    with private_memory(size) as memory:
        resident = psutil.Process().memory_info().rss
        result = fork_workers(lambda index: dirty(memory, size // PAGE // 2), 1)
    assert result.inherited is not None and size <= result.inherited <= resident * 1.1
    expected = 1 - (size / 2) / result.inherited
    assert result.shared_ratio == pytest.approx(expected, abs=0.02)


def test_as_dict_as_table_and_pickled() -> None:
    result = fork_workers(only(lambda index: raise_it(ValueError("[b]x[/b]")), 0), 2)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["copied"] == result.copied and values["page_size"] == PAGE
    assert values["workers"][0]["outcome"] == "raised"
    assert values["workers"][1]["result"] == "'fine'"
    text = str(result)
    assert "raised ValueError: [b]x[/b]" in " ".join(text.replace("\n", " ").split())
    again = pickle.loads(pickle.dumps(result))
    assert again.workers[1] == result.workers[1] and again.seconds == result.seconds
    error = pickle.loads(pickle.dumps(PagesCopied("text", result)))
    assert str(error) == "text" and error.result.notes == result.notes


def test_errors_are_public() -> None:
    assert cowfreeze.PagesCopied is PagesCopied and cowfreeze.WorkerFailed is WorkerFailed


def test_memory_that_only_the_witness_holds_is_no_part_of_the_cluster() -> None:
    size = 32 << 20
    with private_memory(size) as memory:
        before = fork_workers(lambda index: None, 1).cluster_pss

        real = run.Run.read_memory

        def read_memory(this: run.Run) -> None:
            memory.madvise(mmap.MADV_DONTNEED)
            real(this)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.Run, "read_memory", read_memory)
            after = fork_workers(lambda index: memory.madvise(mmap.MADV_DONTNEED), 1).cluster_pss
    assert before and after and 0.9 * size < before - after < 1.1 * size
