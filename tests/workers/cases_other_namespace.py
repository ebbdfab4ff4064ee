"""Process 1 of a PID namespace below the one that /proc was mounted in: numbers name strangers there."""

from __future__ import annotations

import os
import signal

import cowfreeze
from cowfreeze import _core

assert os.getpid() == 1 and not _core.proc_is_ours()


def target(index: int) -> int:
    if os.fork() == 0:  # left running: it is ended by number, which must not hit a stranger
        signal.pause()
    return index


result = cowfreeze.fork_workers(target, 2, grace=0.1)
assert result.results == (0, 1), result
for worker in result.workers:
    assert worker.copied_pages is worker.uss is worker.pss is None, result
    assert "another PID namespace" in worker.reasons[0], worker.reasons
assert result.cluster_pss is None and any("namespace" in note for note in result.notes), result.notes
print("fine")
