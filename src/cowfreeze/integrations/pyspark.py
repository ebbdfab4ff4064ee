"""PySpark: a daemon that loads, freezes and then forks Spark's Python workers.

    spark-submit --conf spark.python.daemon.module=cowfreeze.integrations.pyspark
                 --conf spark.executorEnv.COWFREEZE_PRELOAD=myapp.features ...

Each executor starts one daemon per Python environment, and the daemon forks a worker for each task
slot. Modules that COWFREEZE_PRELOAD names (separated by commas) are imported by the daemon, so
what they hold is shared by all workers of that machine; they must be importable where the executor
runs (spark.executorEnv.PYTHONPATH, not --py-files, which arrive with the task).

COWFREEZE_WARMUP and COWFREEZE_RELOCATE_CODE are read there too.

    JVM --exec--> this module: import, freeze --> pyspark.daemon.manager() --fork--> workers
        <--port-- stdout

    D1  stdout is the pipe that carries the port, as bytes: until the daemon takes over, it points
        to stderr, and whatever a module prints is flushed there;
    D2  nothing that fails here keeps the daemon from starting: a worker imports what it needs.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from cowfreeze.integrations._common import freeze_for, preload
from cowfreeze.integrations._settings import Settings


def main() -> None:
    """The daemon; `python -m` calls it. The first argument names Spark's worker module."""
    from pyspark import daemon  # type: ignore[import-not-found,import-untyped,unused-ignore]

    # The name pyspark is Spark's: -m runs this file as __main__, from the package above it.
    keep = os.dup(1)
    os.dup2(2, 1)  # D1
    try:
        for line in preload():
            _say(line)
        _load_worker_module()
        _check_threads()
        freeze_for("PySpark", Settings(), info=_say, warning=_say)
    finally:
        sys.stdout.flush()
        os.dup2(keep, 1)
        os.close(keep)
    daemon.manager()


def _load_worker_module() -> None:
    """What each worker imports after its fork, unless the daemon has it."""
    name = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].startswith("pyspark") else "pyspark.worker"
    try:
        importlib.import_module(name)
    except Exception as error:  # D2
        _say(f"{name} is not shared: {type(error).__name__}: {error}")


def _check_threads() -> None:
    """A thread that a preloaded library started (of numpy, pyarrow) does not exist in a worker."""
    try:
        running = len(os.listdir("/proc/self/task"))
    except OSError:
        return  # no Linux: D2
    if running > 1:
        names = sorted(t.name for t in threading.enumerate() if t is not threading.main_thread())
        _say(
            f"{running - 1} threads run in the daemon before it forks ({', '.join(names) or 'of C libraries'}): set "
            "OMP_NUM_THREADS=1 and the like in spark.executorEnv, or do not preload what starts them"
        )


def _say(line: str) -> None:
    sys.stderr.write(f"cowfreeze: {line}\n" if not line.startswith("cowfreeze") else f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
