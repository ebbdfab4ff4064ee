"""What a worker copies when it merely ends: `exit` and `bigdict`.

At exit CPython drops the references that its modules hold. A dict of a global dies with its
module, and every entry gets its count written on the way: reports of "memory runs out when the
service is stopped" come from there. The workers are idle, and each is ended by SIGTERM, whose
handler calls sys.exit(): what gunicorn's, Celery's and most supervisors' workers do. They end one
after another, so that one copy at a time exists.
"""

from __future__ import annotations

from typing import Any

from cowfreeze.bench.cases.base import Case, untouched

_WHY_NOT = "it holds lists only, and this case is about a dict"
_MODES = ("none", "gc.freeze", "freeze", "heap", "pack", "cinderx", "hugepages")


def big_dict(size: int) -> dict[int, int]:
    """An int dict of SIZE entries; keys and values are objects of their own."""
    return {i: i + 1_000_000_000 for i in range(1000, size + 1000)}


def mixed(size: int) -> dict[str, Any]:
    """An int dict of SIZE entries and a twentieth as many small dicts."""
    return {"by_number": big_dict(size), "small": [{"id": i, "name": f"n{i}"} for i in range(size // 20)]}


BIGDICT = Case(
    "bigdict",
    "an int dict as large as memory allows (30 million entries); 5 children end by SIGTERM",
    "entries",
    30_000_000,
    130,
    big_dict,
    untouched,
    workers=5,
    exits=None,
    modes=_MODES,
    why_not=_WHY_NOT,
    scales=True,
)
EXIT = Case(
    "exit",
    "an int dict and many small dicts; a child ends without having touched them",
    "entries",
    3_000_000,
    185,
    mixed,
    untouched,
    modes=_MODES,
    why_not=_WHY_NOT,
)
