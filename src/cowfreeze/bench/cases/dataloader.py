"""PyTorch's DataLoader: worker processes read every sample of an annotation list.

Each worker measures its pages when it starts and after its last sample, and hands the record over
as a sample; so the ordinary path through torch's queues is what is measured.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import pickle
import statistics
import time
from collections.abc import Callable
from typing import Any

from cowfreeze import _core
from cowfreeze._system.memory import resident_bytes
from cowfreeze._workers.endings import page_figures
from cowfreeze._workers.processes import room_for_pages
from cowfreeze.bench.cases import coco
from cowfreeze.bench.cases.base import Case
from cowfreeze.bench.modes import MODES, Mode


def _missing() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed (pip install torch)"
    return None


_witness: _core.Witness | None = None
_audit: _core.WorkerAudit | None = None
_pages: _core.PageList | None = None
_start = b""


def _measure(since: bool) -> bytes:
    assert _audit is not None
    reader, writer = os.pipe()
    try:
        _audit.measure_into(writer, _pages, since)
        return os.read(reader, _core.RECORD_SIZE)
    finally:
        os.close(reader)
        os.close(writer)


class _Dataset:
    """A map-style data set over a view; as many samples at its end as there are workers are the
    workers' records."""

    def __init__(self, view: Any, workers: int) -> None:
        self.view = view
        self.workers = workers

    def __len__(self) -> int:
        return len(self.view) + self.workers

    def __getitem__(self, index: int) -> int | bytes:
        if index >= len(self.view):
            gc.collect()
            return _start + _measure(True)
        return len(pickle.dumps(self.view[index]))  # touches every object of the sample


class _Begin:
    """What runs first in each worker."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def __call__(self, number: int) -> None:
        global _audit, _pages, _start
        assert _witness is not None
        _audit = _core.WorkerAudit(_witness)
        _pages = _core.PageList(room_for_pages(), False)
        _start = _measure(False)
        if self.mode.in_worker is not None:
            self.mode.in_worker()


def run(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """One mode: one pass of a DataLoader over the annotations."""
    global _witness
    mode, workers = MODES[order["mode"]], order["workers"]
    loader_class = importlib.import_module("torch.utils.data").DataLoader
    mode.before()
    tell(stage="building the data")
    data = coco.build(order["size"] // workers * workers)  # every worker gets one record at the end
    start = time.perf_counter()
    applied = mode.apply(data)
    values: dict[str, float | None] = {"prefork_rss": resident_bytes()}
    if mode.name != "none":
        values["freeze_seconds"] = time.perf_counter() - start
    del data
    gc.collect()
    tell(stage="the loader's workers read")
    _witness = _core.Witness()
    start = time.perf_counter()
    records = []
    total = 0
    try:
        loader = loader_class(
            _Dataset(applied.view, workers),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_Begin(mode),
            multiprocessing_context="fork",
        )
        for sample in loader:
            if isinstance(sample, bytes):
                records.append(page_figures(sample))
            else:
                total += sample
    finally:
        _witness.close()
        if applied.close is not None:
            applied.close()
    values["read_worker_seconds"] = time.perf_counter() - start
    copied = [found.copied_pages for found in records if found.copied_pages is not None]
    startup = [found.startup_pages for found in records if found.startup_pages is not None]
    size = os.sysconf("SC_PAGE_SIZE")
    known = bool(copied) and len(copied) == len(startup) == len(records)
    values["copied_median"] = statistics.median(copied) * size if known else None
    values["copied_max"] = max(copied) * size if known else None
    values["startup_bytes"] = max(startup) * size if known else None
    reasons = [reason for found in records for reason in found.reasons]
    return {
        "values": values,
        "notes": list(applied.notes),
        "reasons": list(dict.fromkeys(reasons)),
        "content": [total, 0, 0, 0],
    }


CASE = Case(
    "dataloader",
    "a PyTorch DataLoader over annotations (torch must be installed)",
    "dicts",
    40_000,
    coco.CASE.bytes_each,
    coco.build,
    None,
    missing=_missing,
)
