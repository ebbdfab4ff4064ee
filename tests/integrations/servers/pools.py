"""Pools of workers: pools.py WAY. Prints "ready" when each worker has read, and ends with its stdin.

    fork / frozen-fork               multiprocessing.Pool, start method fork
    forkserver / frozen-forkserver   the same with a fork server
    executor / frozen-executor       ProcessPoolExecutor, fork server

A line "respawn" on stdin replaces a worker (pools only); the answer is "ready" again.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import shop


def ready(ask: Any, workers: int) -> None:
    seen: set[int] = set()
    while len(seen) < workers:
        for pid, total in ask(range(4)):
            assert total == shop.ANSWER
            seen.add(pid)
    print("ready", *sorted(seen), flush=True)


def main(way: str) -> None:
    frozen, method = way.startswith("frozen-"), way.removeprefix("frozen-")
    context: Any
    if method == "executor":
        if frozen:
            from cowfreeze.integrations.concurrent import process_pool_executor

            executor = process_pool_executor(2, preload=["shop"])
        else:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["shop"])
            executor = ProcessPoolExecutor(2, mp_context=context)
        with executor:
            ready(lambda numbers: executor.map(shop.read, numbers), 2)
            sys.stdin.readline()
        return
    if method == "fork":
        context = multiprocessing.get_context("fork")
        if frozen:
            import cowfreeze

            cowfreeze.freeze()
    elif frozen:
        from cowfreeze.integrations.multiprocessing import check_preload, forkserver_context

        context = forkserver_context("shop")
        check_preload(context)
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["shop"])
    with context.Pool(2) as pool:
        ready(lambda numbers: pool.map(shop.read, numbers, 1), 2)
        while sys.stdin.readline() == "respawn\n":
            # From inside of a task: an idle worker holds the lock of the queue, and would keep it.
            old = set(pool._pool)
            pool.apply_async(shop.die)
            while set(pool._pool) == old or len(pool._pool) < 2:
                time.sleep(0.05)
            ready(lambda numbers: pool.map(shop.read, numbers, 1), 2)


if __name__ == "__main__":
    main(sys.argv[1])
