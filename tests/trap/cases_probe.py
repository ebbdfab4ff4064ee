"""Prints why perf cannot be used here, or nothing."""

from __future__ import annotations

import cowfreeze

cowfreeze.freeze([1])
try:
    with cowfreeze.trap(backend="perf"):
        pass
except cowfreeze.CowfreezeError as error:
    print(error)
