"""Ask for more workers than there are descriptors, and prove that nothing is left."""

from __future__ import annotations

import os
import resource

import cowfreeze

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
before = os.listdir("/proc/self/fd")
try:
    cowfreeze.fork_workers(int, workers=60)
except cowfreeze.CowfreezeError as error:
    print(error)
assert os.listdir("/proc/self/fd") == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
