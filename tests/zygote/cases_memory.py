"""What workers of a zygote copy, measured from outside beside the process that they were forked from."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import time
from typing import Any

import zygote_case

import cowfreeze


def load(number: int) -> dict[str, list[Any]]:
    return {f"key {i}": [i, str(i), {"a": i}] for i in range(number)}


def read(data: dict[str, list[Any]]) -> int:
    """Everything, and a full collection. Then it waits, so that the other worker gets a task, too."""
    total = sum(len(key) + len(item[1]) + item[2]["a"] for key, item in data.items())
    gc.collect()
    time.sleep(0.3)
    return os.getpid() if total else 0


def copied(number: int, kind: str, options: dict[str, Any]) -> Any:
    """Bytes that the worst of two workers copied, and bytes that are frozen or packed."""
    from cowfreeze._system.copied import measure_family

    with cowfreeze.Zygote(load, number, **options) as zygote:
        if kind == "pool":
            with zygote.context.Pool(2) as pool:
                pids = set(pool.map(read, [zygote.data] * 6, chunksize=1))
                figures = measure_family(zygote.pid, list(pids))
        else:
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=zygote.context) as executor:
                pids = set(executor.map(read, [zygote.data] * 6))
                figures = measure_family(zygote.pid, list(pids))
        most = [one.at_most for one in figures.values()]
        report = zygote.report
        return len(pids), most, report.bytes + report.packed_bytes, report.how


if __name__ == "__main__":
    zygote_case.main(globals())
