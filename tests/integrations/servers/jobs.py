"""Jobs whose process ends with them (RQ, Airflow): `read` waits until it has been looked at."""

from __future__ import annotations

import time
from pathlib import Path

import shop


def read(folder: str) -> int:
    """Read all, say so by a file with this process's number as its name, wait until that is gone."""
    for _ in range(3):
        pid, total = shop.read()
        assert total == shop.ANSWER
    done = Path(folder, str(pid))
    done.touch()
    deadline = time.monotonic() + 60
    while done.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return pid


def freeze_here() -> str:
    import warnings

    import cowfreeze

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cowfreeze.freeze(dry_run=True)
    return " ".join(str(warning.message) for warning in caught)
