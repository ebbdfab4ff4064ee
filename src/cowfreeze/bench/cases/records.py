"""500,000 nested dicts: what most programs that load JSON keep in memory."""

from __future__ import annotations

from typing import Any

from cowfreeze.bench.cases.base import Case, deep


def build(size: int) -> list[dict[str, Any]]:
    """SIZE records of a dict, two short strings in a list, a float and a tuple."""
    return [
        {
            "id": i + 1_000_000,
            "name": f"name {i}",
            "tags": [f"tag-{i % 977}-{i}", f"kind-{i}"],
            "score": i * 0.37,
            "pair": (i + 2_000_000, f"pair {i}"),
        }
        for i in range(size)
    ]


CASE = Case("records", "nested dicts with strings, lists, floats and tuples", "records", 500_000, 950, build, deep)
