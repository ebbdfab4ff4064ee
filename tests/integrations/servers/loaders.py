"""Workers that read a dataset: loaders.py WAY. Prints "ready PID..." and waits for its stdin, as pools.py does.

    loader / frozen-loader   PyTorch's DataLoader, forked, persistent workers
    pool / frozen-pool       multiprocessing.Pool, forked, the same dataset
    wrong                    a DataLoader whose worker_init_fn freezes; prints what that warns of
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Any

from annotations_of_images import COUNT, Images

DATASET: Images
WORKERS = 2


def read(part: int) -> int:
    for index in range(part, COUNT, 4):
        pid, _ = DATASET[index]
    return pid


def run_pool(frozen: bool) -> None:
    global DATASET
    DATASET = Images()
    if frozen:
        from cowfreeze.integrations.torch import share

        share(DATASET)

    def read_all(pool: Any) -> set[int]:
        readers: set[int] = set()
        while len(readers) < WORKERS:
            readers.update(pool.map(read, range(4), 1))
        return readers

    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        print("ready", *read_all(pool), flush=True)
        while sys.stdin.readline() == "respawn\n":
            old = set(pool._pool)  # type: ignore[attr-defined]
            pool.apply_async(die)
            while set(pool._pool) == old or len(pool._pool) < WORKERS:  # type: ignore[attr-defined]
                time.sleep(0.05)
            print("ready", *read_all(pool), flush=True)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_loader(frozen: bool) -> Any:
    options: dict[str, Any] = {"batch_size": 100, "num_workers": WORKERS, "persistent_workers": True}
    if frozen:
        from cowfreeze.integrations.torch import data_loader

        return data_loader(DATASET, **options)
    from torch.utils.data import DataLoader

    return DataLoader(DATASET, multiprocessing_context="fork", **options)  # type: ignore[arg-type,unused-ignore]


def epochs(loader: Any) -> set[int]:
    readers: set[int] = set()
    for _ in range(2):
        for pids, _sizes in loader:
            readers.update(pids.tolist())
    return readers


def run_loader(frozen: bool) -> None:
    global DATASET
    DATASET = Images()
    loader = make_loader(frozen)
    print("ready", *epochs(loader), flush=True)
    while sys.stdin.readline() == "respawn\n":
        # A DataLoader does not replace a worker that dies: it raises, and the next one starts anew.
        children = multiprocessing.active_children()
        os.kill(children[0].pid or 0, signal.SIGKILL)
        try:
            epochs(loader)
            print("nobody missed the worker", flush=True)
        except RuntimeError:
            pass
        del loader
        loader = make_loader(frozen)
        print("ready", *epochs(loader), flush=True)


def freeze_here(_worker: int) -> None:
    import cowfreeze

    cowfreeze.freeze(dry_run=True)


def run_wrong() -> None:
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(Images(), num_workers=1, multiprocessing_context="fork", worker_init_fn=freeze_here)  # type: ignore[arg-type,unused-ignore]
    next(iter(loader))


if __name__ == "__main__":
    frozen, way = sys.argv[1].startswith("frozen-"), sys.argv[1].removeprefix("frozen-")
    if way == "wrong":
        run_wrong()
    else:
        (run_pool if way == "pool" else run_loader)(frozen)
