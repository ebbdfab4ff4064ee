"""Fork with another thread alive and every warning recorded."""

from __future__ import annotations

import threading
import warnings

import cowfreeze

wait = threading.Event()
thread = threading.Thread(target=wait.wait)
thread.start()
with warnings.catch_warnings(record=True) as recorded:
    warnings.simplefilter("always")
    result = cowfreeze.fork_workers(lambda index: warnings.filters[0][0], workers=2)
wait.set()
thread.join()
print(f"warnings: {len(recorded)}, filters:", *result.results)
print(*result.notes)
