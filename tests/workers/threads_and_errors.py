"""Fork with another thread alive while every warning is an error (python -W error)."""

from __future__ import annotations

import threading
import warnings

import cowfreeze

wait = threading.Event()
thread = threading.Thread(target=wait.wait)
thread.start()
result = cowfreeze.fork_workers(lambda index: warnings.filters[0][0], workers=2)
wait.set()
thread.join()
print(*result.results)
print(*result.notes)
