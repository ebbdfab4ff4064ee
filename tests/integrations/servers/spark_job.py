"""Spark in local mode with two Python workers: spark_job.py DAEMON_MODULE [wrong].

Prints "ready PID..." when each worker has read three times, and waits for its stdin: "respawn"
after a worker was killed makes it read again.
"""

from __future__ import annotations

import sys
import time

import shop
from pyspark.sql import SparkSession


def task(_: int) -> tuple[int, int]:
    pid, total = shop.read()
    time.sleep(0.1)  # so that both workers have something to do
    return pid, total


def freeze_here(_: int) -> str:
    import warnings

    import cowfreeze

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cowfreeze.freeze(dry_run=True)
    return " ".join(str(warning.message) for warning in caught)


def main(daemon: str, wrong: bool) -> None:
    session = (
        SparkSession.builder.master("local[2,4]")
        .config("spark.python.daemon.module", daemon)
        .config("spark.executorEnv.COWFREEZE_PRELOAD", "shop does_not_exist")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "512m")
        .getOrCreate()
    )
    context = session.sparkContext
    if wrong:
        print("wrong", *context.parallelize([0], 1).map(freeze_here).collect(), flush=True)

    def read_all() -> list[int]:
        seen: dict[int, int] = {}
        while len(seen) < 2 or min(seen.values()) < 3:
            for pid, total in context.parallelize(range(8), 8).map(task).collect():
                assert total == shop.ANSWER
                seen[pid] = seen.get(pid, 0) + 1
        return sorted(seen)

    print("ready", *read_all(), flush=True)
    while sys.stdin.readline() == "respawn\n":
        print("ready", *read_all(), flush=True)
    session.stop()


if __name__ == "__main__":
    main(sys.argv[1], "wrong" in sys.argv[2:])
