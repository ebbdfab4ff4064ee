"""Ctrl-C as a terminal sends it: SIGINT to the whole process group, workers included."""

from __future__ import annotations

import os
import signal
import time

import cowfreeze

os.setpgid(0, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    cowfreeze.fork_workers(lambda index: time.sleep(60), workers=3)
except KeyboardInterrupt:
    print("interrupted")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
